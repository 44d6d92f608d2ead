"""Env steps per second beside other libraries: ``python -m benchmarks.throughput``.

Runs each job of ``JOBS`` for every peer that can be imported, in turns (A B C A B C ...), each in a process of its own
with one thread, and prints medians and ratios. The numbers go to ``benchmarks/results/throughput.json``, the figure to
``docs/images/throughput.png``. A run's time counts everything after start-up: acting, learning, logging, the progress
bar, checkpoints, but not compilation; job S is of updates alone (:mod:`benchmarks.peers.r2d2`).
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
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "throughput.png"
OURS = "seqrl-lightning"
PACKAGES = {  # what a peer needs
    "Stable-Baselines3": "stable_baselines3",
    "CleanRL's way": "stable_baselines3",
    "Tianshou": "tianshou",
    "TorchRL": "torchrl",
}


class Job(NamedTuple):
    """A job: each peer's script and arguments, by the peer's name."""

    title: str
    peers: dict[str, list[str]]
    unit: str = "env steps/s"


def cartpole(title: str, config: str, ours: list[str], theirs: list[str]) -> Job:
    """A job on CartPole-v1 that everyone can do; CleanRL has one environment."""
    peers = {
        "bare loop": "bare",
        "Stable-Baselines3": "stable_baselines3",
        **({} if "--num_envs" in theirs else {"CleanRL's way": "cleanrl_style"}),
        "Tianshou": "tianshou",
        "TorchRL": "torchrl",
    }
    settings = ["--config", f"benchmarks/jobs/{config}.yaml", *ours]
    return Job(title, our_ways(settings) | {peer: [script, *theirs] for peer, script in peers.items()})


def our_ways(settings: list[str]) -> dict[str, list[str]]:
    """This library as it is, and with the loss and its gradient compiled."""
    return {OURS: ["ours", *settings], f"{OURS}, compiled": ["ours", *settings, "--model.compile", "true"]}


JOBS = {
    "A": cartpole(
        "1 environment, 1 update for 10 env steps",
        "a",
        ["--trainer.max_steps", "3000", "--agent.epsilon.decay_env_steps", "15500"],
        ["--env_steps", "31000"],
    ),
    "B": cartpole(
        "1 environment, 1 update for each env step",
        "b",
        ["--trainer.max_steps", "9000", "--agent.epsilon.decay_env_steps", "5000"],
        ["--env_steps", "10000", "--env_steps_per_update", "1"],
    ),
    "C": cartpole(
        "16 environments, 1 update for 10 env steps",
        "c",
        ["--trainer.max_steps", "5900", "--agent.epsilon.decay_env_steps", "30000"],
        ["--env_steps", "60000", "--num_envs", "16"],
    ),
    "R": Job(
        "the seed's job, 300 episodes, 1 update for each env step",
        our_ways(
            [
                *("--config", "configs/sequence_dqn_reference.yaml"),
                # 10 updates a batch: evaluated every 2,000 updates, where the seed's loop is never.
                *("--model.updates_per_step", "10", "--data.batches_per_epoch", "200"),
            ]
        )
        | {"seed's loop": ["seed_loop"]},
    ),
    "S": Job(
        "R2D2's update: LSTM 128, 32 windows of 20 + 40 steps",
        {
            OURS: ["r2d2"],
            f"{OURS}, 4 updates a step": ["r2d2", "--updates_per_step", "4"],
            "bare loop": ["r2d2", "--bare"],
        },
        unit="updates/s",
    ),
    "F": Job(
        "both orders mastered in 300 episodes",
        {OURS: ["ours", "--config", "configs/sequence_dqn_fast.yaml"], "seed's loop": ["seed_loop"]},
        unit="seconds",
    ),
}
VERSIONED = (OURS, "torch", "lightning", "gymnasium", "numpy", "stable-baselines3", "tianshou", "torchrl", "cpprb")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    missing = [peer for peer, package in PACKAGES.items() if importlib.util.find_spec(package) is None]
    for peer in missing:
        print(f"left out: {peer} (no package {PACKAGES[peer]}; pip install -e '.[bench]')")
    runs = {name: measure(name, JOBS[name], missing, args.rounds) for name in args.jobs}
    report = {
        **circumstances("throughput"),
        "left_out": missing,
        "units": {name: JOBS[name].unit for name in runs},
        "runs": runs,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "throughput.json").write_text(json.dumps(report, indent=1) + "\n")
    print(table(runs))
    draw(runs, FIGURE)


def measure(name: str, job: Job, missing: list[str], rounds: int) -> dict[str, list[float]]:
    """Every run's figure, the peers taking turns."""
    figures: dict[str, list[float]] = {peer: [] for peer in job.peers if peer not in missing}
    for _ in range(rounds):
        for peer in figures:
            run = run_peer(job.peers[peer])
            counted = job.unit.partition("/")[0].replace(" ", "_")  # "env steps/s": env_steps
            figure = run["seconds"] if job.unit == "seconds" else run[counted] / run["seconds"]
            figures[peer].append(round(figure, 2))
            print(f"job {name}, {peer}: {figure:,.2f} {job.unit}", flush=True)
    return figures


def run_peer(words: list[str]) -> dict[str, Any]:
    """Runs one job in a process of its own; its last line is its result."""
    script, *settings = words
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.peers.{script}", *settings]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ONE_THREAD}, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr}")
    line: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
    return line


def circumstances(benchmark: str) -> dict[str, Any]:
    """Return the versions and the machine that the figures of ``benchmarks.<benchmark>`` were measured with."""
    packages = {}
    for package in VERSIONED:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "not installed"
    return {
        "command": " ".join([f"python -m benchmarks.{benchmark}", *sys.argv[1:]]),
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
    """A Markdown table: medians, and how many times as fast this library is, in each way that it was run in."""
    lines = ["| job | | median | seqrl-lightning is |", "| --- | --- | --- | --- |"]
    for name, figures in runs.items():
        ours = {peer: values for peer, values in figures.items() if peer.startswith(OURS)}
        for peer, values in figures.items():
            ratios = {way.removeprefix(OURS): speed_up(mine, values, JOBS[name].unit) for way, mine in ours.items()}
            times = "" if peer in ours else "; ".join(f"{ratio:.2f}x as fast{way}" for way, ratio in ratios.items())
            median = f"{statistics.median(values):,.1f} {JOBS[name].unit}"
            lines.append(f"| {name}: {JOBS[name].title} | {peer} | {median} | {times} |")
    return "\n".join(lines)


def ratios_table(runs: dict[str, dict[str, list[float]]]) -> str:
    """A Markdown table with a row for each job: how many times as fast this library is as each of the others."""
    others = list(dict.fromkeys(peer for figures in runs.values() for peer in figures if not peer.startswith(OURS)))
    lines = [f"| job | {OURS} | {' | '.join(f'x {peer}' for peer in others)} |", "| --- " * (len(others) + 2) + "|"]
    for name, figures in runs.items():
        unit, mine = JOBS[name].unit, figures[OURS]
        ratios = [f"{speed_up(mine, figures[peer], unit):.2f}" if peer in figures else "" for peer in others]
        lines.append(f"| {name}: {JOBS[name].title} | {statistics.median(mine):,.1f} {unit} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def speed_up(ours: list[float], theirs: list[float], unit: str) -> float:
    """The median ratio, taken round by round: the machine's speed drifts."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return statistics.median([1 / ratio for ratio in ratios] if unit == "seconds" else ratios)


def draw(runs: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Bars of the medians, one panel a job."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5 * columns, 2.2 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(runs) :]:
        axis.set_axis_off()
    for axis, (job, figures) in zip(axes.flat, runs.items(), strict=False):
        names = list(figures)[::-1]
        medians = [statistics.median(figures[name]) for name in names]
        bars = axis.barh(names, medians, color=["#2a6f97" if name.startswith(OURS) else "#b8c4cc" for name in names])
        axis.bar_label(
            bars, [f"{value:,.3g}" if value < 100 else f"{value:,.0f}" for value in medians], padding=3, fontsize=8
        )
        axis.set_title(f"{job}: {JOBS[job].title}", fontsize=7.5, loc="left")
        axis.set_xlabel(JOBS[job].unit, fontsize=8)
        axis.tick_params(labelsize=8)
        axis.locator_params(axis="x", nbins=5)
        axis.margins(x=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
