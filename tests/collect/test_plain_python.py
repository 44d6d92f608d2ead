"""Acting works without Lightning."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
sys.modules["lightning"] = None  # whoever imports it fails
import tests.tasks
from tests.collect.collecting import make_collector
collector = make_collector()
collector.begin()
for _ in range(20):
    collector.step()
print(collector.progress.env_steps)
"""


@pytest.mark.slow
@pytest.mark.alone
def test_it_runs_without_lightning() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 20
