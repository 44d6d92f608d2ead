"""Train over many blocks, with and without remedies for lost plasticity: ``python -m benchmarks.plasticity``.

Runs ``configs/block_switch_many_blocks.yaml`` under each condition with each seed, and writes to
``benchmarks/results/plasticity.json`` the returns of episodes in early and late blocks and the fractions of mastered
episodes and of dormant units. Runs that are in there are skipped, so that the same command continues after a kill.
``python -m docs.scripts.results`` writes the table in ``docs/plasticity.md``.
"""

import argparse
import json
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.learning import RESULTS, read_episodes
from seqrl_lightning.cli import SeqRLCLI

CONFIG = "configs/block_switch_many_blocks.yaml"
EVERY_UPDATES = 1000
_MEASURE = {"class_path": "DormantUnits", "init_args": {"recycle_every_updates": None}}
_RECYCLE = {"class_path": "DormantUnits", "init_args": {"recycle_every_updates": EVERY_UPDATES}}
_RESET = {"class_path": "PeriodicResets", "init_args": {"every_updates": EVERY_UPDATES}}
CONDITIONS: dict[str, list[dict[str, Any]]] = {
    "no remedy": [_MEASURE],
    "dormant units recycled": [_RECYCLE],
    "head reset": [_MEASURE, _RESET],
}
BLOCKS = 10  # early ones, after the first, and late ones
BEST_RETURN = 5
PATH = RESULTS / "plasticity.json"


def main() -> None:
    """Run what is missing, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=Path("runs/plasticity"))
    args = parser.parse_args()
    results: list[dict[str, Any]] = json.loads(PATH.read_text())["runs"] if PATH.exists() else []
    done = {(row["condition"], row["seed"]) for row in results}
    for seed in range(1, args.seeds + 1):
        for condition in CONDITIONS:
            if (condition, seed) in done:
                continue
            run = train(condition, args.runs / condition.replace(" ", "_") / str(seed), seed)
            results.append({"condition": condition, "seed": seed, **figures(run)})
            report = {"date": date.today().isoformat(), "torch": version("torch"), "runs": results}
            PATH.write_text(json.dumps(report, indent=1) + "\n")
            print(results[-1], flush=True)
    print(table(results))


def train(condition: str, root: Path, seed: int) -> Path:
    """Train one seed. Returns the run's folder.

    Raises:
        RuntimeError: If the run wasn't of the condition: lists of callbacks may be merged with others.
    """
    callbacks = CONDITIONS[condition]
    settings = ["--config", CONFIG, "--trainer.enable_progress_bar", "false", "--seed_everything", str(seed)]
    settings += ["--trainer.default_root_dir", str(root), "--trainer.callbacks", json.dumps(callbacks)]
    run = Path(str(SeqRLCLI(["fit", *settings]).trainer.log_dir))
    built = yaml.safe_load((run / "config.yaml").read_text())["trainer"]["callbacks"]
    asked = [callback["init_args"].items() for callback in callbacks]
    if len(built) != len(asked) or not all(
        args <= one["init_args"].items() for args, one in zip(asked, built, strict=True)
    ):
        raise RuntimeError(f"{run} was trained with {built}, not with {callbacks}")
    return run


def figures(run: Path) -> dict[str, float]:
    """Mean returns in early and late blocks, mastered episodes, and dormant units at both ends of the run."""
    episodes = read_episodes(run / "episodes.csv")
    last = max(int(row["block"]) for row in episodes)

    def mean_return(first: int) -> float:
        rows = [row for row in episodes if first <= int(row["block"]) < first + BLOCKS]
        return round(mean(float(row["episode_return"]) for row in rows), 2)

    dormant = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload().Scalars("plasticity/dormant")
    fraction = [event.value for event in dormant]
    fourth = len(fraction) // 4
    return {
        "early": mean_return(1),
        "late": mean_return(last - BLOCKS + 1),
        "mastered": mean(float(row["episode_return"]) == BEST_RETURN for row in episodes),
        "dormant_early": round(mean(fraction[:fourth]), 3),
        "dormant_late": round(mean(fraction[-fourth:]), 3),
    }


def table(results: list[dict[str, Any]]) -> str:
    """Return the figures as a Markdown table: each seed's, in their order."""
    titles = ("return, early blocks", "late blocks", "mastered", "dormant in the first fourth", "in the last")
    lines = [f"| | {' | '.join(titles)} |", f"| --- |{' --- |' * len(titles)}"]
    for condition in CONDITIONS:
        rows = [row for row in results if row["condition"] == condition]
        names = ("early", "late", "mastered", "dormant_early", "dormant_late")
        columns = (", ".join(f"{row[name]:.3g}" for row in rows) for name in names)
        lines.append(f"| {condition} | {' | '.join(columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
