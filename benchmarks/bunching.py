"""Whether bunched updates learn the same: ``python -m benchmarks.bunching configs/sequence_dqn.yaml --criterion 9``.

Trains each seed with one and with ten updates a training step (``model.updates_per_step``), evaluates the final
policies and prints a Markdown table; the figures go to ``benchmarks/results/bunching_<config>.json``. An epoch is the
same number of updates for both.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import yaml

from benchmarks.learning import run_seed
from benchmarks.throughput import RESULTS, circumstances

BUNCHES = (1, 10)  # updates in one training step


def main() -> None:
    """Runs the seeds one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--eval_episodes", type=int, default=1)
    parser.add_argument("--criterion", type=float, help="return of a mastered episode")
    parser.add_argument("--runs", type=Path, default=Path("runs/bunching"))
    args = parser.parse_args()
    args.name = args.config.stem
    report: dict[str, Any] = circumstances("bunching")
    sys.argv = sys.argv[:1]  # the CLI is called with arguments of its own from here on
    seeds = range(1, args.seeds + 1)
    report["seeds"] = {bunch: [run_bunched(args, bunch, seed) for seed in seeds] for bunch in BUNCHES}
    (RESULTS / f"bunching_{args.config.stem}.json").write_text(json.dumps(report, indent=1) + "\n")
    print(table(report["seeds"]))


def run_bunched(args: argparse.Namespace, bunch: int, seed: int) -> dict[str, Any]:
    """Trains and evaluates one seed with ``bunch`` updates a training step."""
    batches = yaml.safe_load(args.config.read_text())["data"]["batches_per_epoch"] // bunch
    overrides = ["--model.updates_per_step", str(bunch), "--data.batches_per_epoch", str(batches)]
    return run_seed(args, overrides, seed)


def table(seeds: dict[Any, list[dict[str, Any]]]) -> str:
    """A Markdown table: every seed's final return, and the median of the episodes to each block's criterion."""
    first, *_ = seeds.values()
    criteria = [key for key in first[0] if key.endswith("episodes_to_criterion")]
    titles = [key.replace("_", " ").replace("/", ", ") for key in criteria]
    header = ["updates a training step", *(f"return, seed {row['seed']}" for row in first), *titles]
    lines = [header, ["---"] * len(header)]
    for bunch, rows in seeds.items():
        medians = [_median([row[key] for row in rows]) for key in criteria]
        lines.append([str(bunch), *(f"{row['return_mean']:g}" for row in rows), *medians])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _median(episodes: list[int | None]) -> str:
    return "never" if None in episodes else f"{statistics.median(n for n in episodes if n is not None):g}"


if __name__ == "__main__":
    main()
