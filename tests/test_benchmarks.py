"""The benchmarks compare like with like."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.update import HandWrittenGradient, Update, check

ROOT = Path(__file__).parent.parent


def test_the_variants_of_an_update_compute_the_same_gradients() -> None:
    check(Update(), HandWrittenGradient())


@pytest.mark.slow
@pytest.mark.alone
def test_no_part_of_an_updates_time_is_counted_twice() -> None:
    command = [sys.executable, "-m", "benchmarks.breakdown", "--config", "benchmarks/jobs/b.yaml"]
    result = subprocess.run(
        [*command, "--trainer.max_steps", "500"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    percentages = [float(number) for number in re.findall(r"(-?[\d.]+)%$", result.stdout, re.MULTILINE)]
    assert len(percentages) == 10, result.stderr
    assert min(percentages) >= 0
    assert sum(percentages) == pytest.approx(100, abs=1)
