"""The faults of ``tests/mutations.py`` still fit the code; ``python -m tests.mutations`` shows that each is caught."""

import pytest

from tests.mutations import MUTATIONS, ROOT


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_fault_fits_the_code(name: str) -> None:
    mutation = MUTATIONS[name]
    original = (ROOT / mutation.path).read_text()
    assert original.count(mutation.old) == 1
    compile(original.replace(mutation.old, mutation.new), mutation.path, "exec")
