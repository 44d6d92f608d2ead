"""Train a config with several seeds: ``python -m benchmarks.learning configs/cartpole_dqn.yaml --seeds 5``.

Trains each seed with ``seqrl fit``, evaluates the final policy (not the best) with ``seqrl test`` and writes the
figures to ``benchmarks/results/learning_<name>.json``, after each seed; ``python -m docs.scripts.results`` shows them.
"""

import argparse
import csv
import json
import platform
import shlex
import sys
import time
from collections import defaultdict
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seqrl_lightning.cli import SeqRLCLI
from seqrl_lightning.functional import CRITERION_EPISODES, episodes_to_criterion

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Runs the seeds one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first_seed", type=int, default=1)
    parser.add_argument("--name", help="of the result, where settings are overridden; by default the config's")
    parser.add_argument("--eval_episodes", type=int, default=100)
    parser.add_argument(
        "--criterion",
        type=float,
        help=f"return of a mastered episode ({CRITERION_EPISODES} in a row)",
    )
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
    for seed in range(args.first_seed, args.first_seed + args.seeds):
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
    table = Path(str(run)) / "episodes.csv"
    episodes = read_episodes(table)
    result: dict[str, Any] = {
        "seed": seed,
        "env_steps": int(episodes[-1]["env_steps"]),
        "episodes": len(episodes),
        "fit_cpu_seconds": round(seconds, 1),
        **{key: round(value, 3) for key, value in figures.items() if key.endswith(("return_mean", "return_min"))},
    }
    if args.criterion is not None:
        result |= episodes_to_criterion_by_block(table, args.criterion)
    return {**result, "curve": read_curve(str(run))}


def read_curve(run: str) -> list[list[float]]:
    """Env steps and the greedy policy's return at each evaluation during training."""
    events = EventAccumulator(run, size_guidance={"scalars": 0}).Reload()
    if "val/return_mean" not in events.Tags()["scalars"]:
        return []
    return [[event.step, round(event.value, 3)] for event in events.Scalars("val/return_mean")]


def episodes_to_criterion_by_block(path: Path, mastery_return: float) -> dict[str, int | None]:
    """Episodes to criterion of each block, under the names of the results; None where it was not met.

    Args:
        path: A run's ``episodes.csv``.
        mastery_return: The return of a mastered episode.
    """
    returns = defaultdict[int, list[float]](list)
    for row in read_episodes(path):
        returns[int(row["block"])].append(float(row["episode_return"]))
    return {
        f"block_{block}/episodes_to_criterion": episodes_to_criterion(torch.tensor(values), mastery_return)
        for block, values in sorted(returns.items())
    }


def read_episodes(path: Path) -> list[dict[str, str]]:
    """The rows of a run's ``episodes.csv``."""
    with path.open() as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
