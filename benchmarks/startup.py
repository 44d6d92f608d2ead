"""Time from the command to the first update: ``python -m benchmarks.startup configs/cartpole_dqn.yaml``.

Starts, in turn, a process that imports Lightning and one that runs ``seqrl fit`` until its first update, several
times, and prints a Markdown table of CPU and wall-clock seconds (medians) and of their difference: what a run's start
costs beyond Lightning. The figures go to ``benchmarks/results/startup.json``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.throughput import RESULTS, circumstances

IMPORT = [sys.executable, "-c", "import lightning"]
FIT_TO_FIRST_UPDATE = """
import os
from lightning import Callback
from seqrl_lightning.__main__ import main

def leave(self, *_):
    os._exit(0)  # without the work at a run's end, which is not timed here

Callback.on_train_batch_end = leave
main()
"""


def main() -> None:
    """Measure both processes in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, nargs="?", default=Path("configs/cartpole_dqn.yaml"))
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    report: dict[str, Any] = circumstances("startup")
    report["config"] = args.config.name
    seconds: dict[str, list[tuple[float, float]]] = {"import lightning": [], "first update": []}
    with tempfile.TemporaryDirectory() as folder:
        logs = ["--trainer.default_root_dir", folder]
        fit = [sys.executable, "-c", FIT_TO_FIRST_UPDATE, "fit", "--config", str(args.config), *logs]
        for _ in range(args.repeats):
            seconds["import lightning"].append(timed(IMPORT))
            seconds["first update"].append(timed(fit))
    report["seconds"] = seconds
    (RESULTS / "startup.json").write_text(json.dumps(report, indent=1) + "\n")
    print(table(seconds))


def timed(command: list[str]) -> tuple[float, float]:
    """CPU and wall-clock seconds of one process on one thread."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{command[:2]} exited with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - start


def table(seconds: dict[str, list[Any]]) -> str:
    """A Markdown table of the medians, and of the medians of the pairs' differences."""
    rows = {name: [statistics.median(column) for column in zip(*pairs, strict=True)] for name, pairs in seconds.items()}
    pairs = zip(seconds["first update"], seconds["import lightning"], strict=True)
    beyond = [[run - alone for run, alone in zip(*pair, strict=True)] for pair in pairs]
    rows["beyond Lightning's import"] = [statistics.median(column) for column in zip(*beyond, strict=True)]
    lines = ["| process until | CPU seconds | wall-clock seconds |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | {cpu:.2f} | {wall:.2f} |" for name, (cpu, wall) in rows.items())])


if __name__ == "__main__":
    main()
