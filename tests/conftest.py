import os
import signal
import sys
from collections.abc import Callable, Iterator

import hypothesis
import pytest
import torch

import tests.tasks  # noqa: F401  (registers the tests' own environments)

torch.set_num_threads(1)
os.environ.setdefault("PYTHONSAFEPATH", "")  # `seqrl`, called in this process, would set it for all later tests
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background job; child processes inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
# For tests/mutations.py, which asks only whether a test fails.
hypothesis.settings.register_profile("first_failure", phases=[hypothesis.Phase.generate], database=None)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the cases as slow whose place in any of their test's tables is beyond the count of ``slow_after``."""
    marker = item.get_closest_marker("slow_after")
    if marker is not None and max(item.callspec.indices.values()) >= marker.args[0]:  # type: ignore[attr-defined]
        item.add_marker(pytest.mark.slow)


_FIGURES = "seqrl_lightning.analysis.canvas"


@pytest.fixture(autouse=True, scope="session")
def _figures_as_png() -> Iterator[None]:
    """Write figures as PNG alone, which takes a third of the time; a test asks for the others by ``all_formats``."""
    with pytest.MonkeyPatch.context() as patch:
        if _FIGURES in sys.modules:  # a test imports it, or there are next to no figures
            patch.setattr(f"{_FIGURES}.SUFFIXES", ("png",))
        yield


@pytest.fixture
def all_formats(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Write figures in all formats, which are returned."""
    formats = ("png", "svg", "pdf")
    monkeypatch.setattr(f"{_FIGURES}.SUFFIXES", formats)
    return formats


@pytest.fixture(autouse=True)
def _own_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts from the same seed, and leaves none behind."""
    monkeypatch.setitem(os.environ, "PL_GLOBAL_SEED", "7")
    torch.manual_seed(7)


@pytest.fixture
def file_sizes() -> Iterator[Callable[[int], None]]:
    """A function that limits the size of files, in bytes, until the test ends: the system refuses to write more."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
