"""What a config reaches, over seeds: ``python -m benchmarks.learning configs/cartpole_dqn.yaml --seeds 5``.

Trains each seed with ``seqrl fit``, evaluates the final policy (not the best) with ``seqrl test`` and writes the
figures to ``benchmarks/results/learning_<name>.json``, after each seed; :mod:`benchmarks.tables` shows them.
"""

import argparse
import csv
import json
import platform
import shlex
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seqrl_lightning.cli import SeqRLCLI

RESULTS = Path(__file__).parent / "results"
RUNNING = 5  # episodes in a row that make the criterion


def main() -> None:
    """Runs the seeds one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--name", help="of the result, where settings are overridden; by default the config's")
    parser.add_argument("--eval_episodes", type=int, default=100)
    parser.add_argument("--criterion", type=float, help=f"return of a mastered episode; {RUNNING} in a row are wanted")
    parser.add_argument("--runs", type=Path, default=Path("runs/learning"))
    args, overrides = parser.parse_known_args()
    args.name = args.name or args.config.stem
    command, sys.argv = sys.argv[1:], sys.argv[:1]  # the CLI is called with arguments of its own from here on
    report: dict[str, Any] = {
        "name": args.name,
        "config": args.config.stem,
        "command": "python -m benchmarks.learning " + shlex.join(command),
        "date": date.today().isoformat(),
        "machine": {"cpu": platform.machine(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("torch", "lightning", "gymnasium", "seqrl-lightning")},
        "seeds": [],
    }
    RESULTS.mkdir(exist_ok=True)
    for seed in range(1, args.seeds + 1):
        report["seeds"].append(run_seed(args, overrides, seed))
        (RESULTS / f"learning_{args.name}.json").write_text(json.dumps(report, indent=1) + "\n")
        print({key: value for key, value in report["seeds"][-1].items() if key != "curve"}, flush=True)


def run_seed(args: argparse.Namespace, overrides: list[str], seed: int) -> dict[str, Any]:
    """Trains and evaluates one seed."""
    root = args.runs / args.name / f"seed_{seed}"
    settings = ["--config", str(args.config), *overrides, "--trainer.enable_progress_bar", "false"]
    settings += ["--trainer.default_root_dir", str(root), "--seed_everything", str(seed)]
    start = time.process_time()  # CPU time: others may use the machine
    run = SeqRLCLI(["fit", *settings]).trainer.log_dir
    seconds = time.process_time() - start
    evaluation = ["--ckpt_path", f"{run}/checkpoints/last.ckpt", "--data.eval_episodes", str(args.eval_episodes)]
    metrics = SeqRLCLI(["test", *settings, *evaluation]).trainer.callback_metrics
    figures = {name.removeprefix("test/"): float(value) for name, value in metrics.items()}
    episodes = read_episodes(Path(str(run)) / "episodes.csv")
    result: dict[str, Any] = {
        "seed": seed,
        "env_steps": int(episodes[-1]["env_steps"]),
        "episodes": len(episodes),
        "fit_cpu_seconds": round(seconds, 1),
        **{key: round(value, 3) for key, value in figures.items() if key.endswith(("return_mean", "return_min"))},
    }
    if args.criterion is not None:
        for block in sorted({int(row["block"]) for row in episodes}):
            returns = [float(row["episode_return"]) for row in episodes if int(row["block"]) == block]
            result[f"block_{block}/episodes_to_criterion"] = episodes_to_criterion(returns, args.criterion)
    return {**result, "curve": read_curve(str(run))}


def read_curve(run: str) -> list[list[float]]:
    """Env steps and the greedy policy's return at each evaluation during training."""
    events = EventAccumulator(run, size_guidance={"scalars": 0}).Reload()
    if "val/return_mean" not in events.Tags()["scalars"]:
        return []
    return [[event.step, round(event.value, 3)] for event in events.Scalars("val/return_mean")]


def read_episodes(path: Path) -> list[dict[str, str]]:
    """The rows of a run's ``episodes.csv``."""
    with path.open() as file:
        return list(csv.DictReader(file))


def episodes_to_criterion(returns: list[float], criterion: float) -> int | None:
    """The episode, counted from 1, with which the first ``RUNNING`` mastered ones in a row begin; None if never."""
    for first in range(len(returns) - RUNNING + 1):
        if min(returns[first : first + RUNNING]) >= criterion:
            return first + 1
    return None


if __name__ == "__main__":
    main()
