"""With ``SEQRL_FAST_PATHS=0`` every other test passes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def run(*arguments: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
    env = os.environ | {"SEQRL_FAST_PATHS": "0", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=env)
    assert result.returncode == 0, result.stdout[-3000:]
    assert " passed" in result.stdout


@pytest.mark.slow
def test_the_rooms_that_use_them_pass_without_fast_paths() -> None:
    run("-n", "0", "tests/algorithms", "tests/networks", "tests/callbacks/test_agent.py", "tests/test_learning.py")
