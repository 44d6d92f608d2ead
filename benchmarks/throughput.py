"""Env steps per second beside other libraries: ``python -m benchmarks.throughput``.

Runs each job of ``JOBS`` for every peer that can be imported, in turns (A B C A B C ...), each in a process of its own
with one thread, and prints medians and ratios. The figures go to ``benchmarks/results/throughput.json`` and ``.png``.
A run's env steps per second count everything after start-up: acting, learning, logging, the progress bar, checkpoints.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
OURS = "seqrl-lightning"
PEERS = {  # name: (script, package that it needs)
    OURS: ("ours", "seqrl_lightning"),
    "bare loop": ("bare", "torch"),
    "Stable-Baselines3": ("stable_baselines3", "stable_baselines3"),
    "Tianshou": ("tianshou", "tianshou"),
    "TorchRL": ("torchrl", "torchrl"),
}
JOBS = {
    "A": ("1 environment, 1 update for 10 env steps", ["--env_steps", "20000"]),
    "B": ("1 environment, 1 update for each env step", ["--env_steps", "4000", "--env_steps_per_update", "1"]),
    "C": ("16 environments, 1 update for 10 env steps", ["--env_steps", "40000", "--num_envs", "16"]),
}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    missing = [peer for peer in args.peers if importlib.util.find_spec(PEERS[peer][1]) is None]
    for peer in missing:
        print(f"left out: {peer} (no package {PEERS[peer][1]}; pip install -e '.[bench]')")
    peers = [peer for peer in args.peers if peer not in missing]
    runs = {job: measure(job, peers, args.rounds) for job in args.jobs}
    report = {**circumstances(), "left_out": missing, "env_steps_per_second": runs}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "throughput.json").write_text(json.dumps(report, indent=1) + "\n")
    print(table(runs))
    draw(runs, RESULTS / "throughput.png")


def measure(job: str, peers: list[str], rounds: int) -> dict[str, list[float]]:
    """Env steps per second of every run, the peers taking turns."""
    speeds: dict[str, list[float]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            run = run_peer(PEERS[peer][0], JOBS[job][1])
            speeds[peer].append(round(run["env_steps"] / run["seconds"], 1))
            print(f"job {job}, {peer}: {speeds[peer][-1]:,.0f} env steps/s", flush=True)
    return speeds


def run_peer(script: str, settings: list[str]) -> dict[str, Any]:
    """Runs one job in a process of its own; its last line is its result."""
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.peers.{script}", *settings]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ONE_THREAD}, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr}")
    line: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
    return line


def circumstances() -> dict[str, Any]:
    """What the figures were taken with."""
    packages = {}
    for package in (OURS, "torch", "lightning", "gymnasium", "numpy", "stable-baselines3", "tianshou", "torchrl"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "not installed"
    return {
        "command": "python -m benchmarks.throughput " + " ".join(sys.argv[1:]),
        "date": date.today().isoformat(),
        "cores": os.cpu_count(),
        "processor": f"{platform.machine()}, {cpu_name()}",
        "python": platform.python_version(),
        "versions": packages,
    }


def cpu_name() -> str:
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def table(runs: dict[str, dict[str, list[float]]]) -> str:
    """A Markdown table: medians, and how many times as fast this library is."""
    lines = ["| job | | env steps/s (median) | seqrl-lightning is |", "| --- | --- | --- | --- |"]
    for job, speeds in runs.items():
        for peer, values in speeds.items():
            # The ratio is taken round by round: the machine's speed drifts.
            ratios = [ours / theirs for ours, theirs in zip(speeds.get(OURS, []), values, strict=False)]
            ratio = f"{statistics.median(ratios):.2f}x" if ratios and peer != OURS else ""
            lines.append(f"| {job}: {JOBS[job][0]} | {peer} | {statistics.median(values):,.0f} | {ratio} |")
    return "\n".join(lines)


def draw(runs: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Bars of the medians, one panel a job."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(runs), figsize=(4 * len(runs), 2.6), squeeze=False, layout="constrained")
    for axis, (job, speeds) in zip(axes[0], runs.items(), strict=True):
        names = list(speeds)[::-1]
        medians = [statistics.median(speeds[name]) for name in names]
        bars = axis.barh(names, medians, color=["#2a6f97" if name == OURS else "#b8c4cc" for name in names])
        axis.bar_label(bars, [f"{value:,.0f}" for value in medians], padding=3, fontsize=8)
        axis.set_title(f"Job {job}: {JOBS[job][0]}", fontsize=8, loc="left")
        axis.set_xlabel("env steps per second", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.margins(x=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
