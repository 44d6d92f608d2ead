"""Train over many blocks, with and without recycling of dormant units: ``python -m benchmarks.plasticity``.

Runs ``configs/block_switch_many_blocks.yaml`` under both conditions with each seed, and writes the lengths of episodes
in early and late blocks and the fractions of dormant units to ``benchmarks/results/plasticity.json``.
"""

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.learning import RESULTS, read_episodes
from seqrl_lightning.cli import SeqRLCLI

CONFIG = "configs/block_switch_many_blocks.yaml"
CONDITIONS: dict[str, int | None] = {"measured only": None, "recycled": 1000}  # updates between two recyclings
BLOCKS = 10  # early ones, after the first, and late ones


def main() -> None:
    """Run the conditions one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/plasticity"))
    args = parser.parse_args()
    results: list[dict[str, Any]] = []
    for condition, every_updates in CONDITIONS.items():
        for seed in range(1, args.seeds + 1):
            run = train(every_updates, args.runs / condition.replace(" ", "_") / str(seed), seed)
            results.append({"condition": condition, "seed": seed, **figures(run)})
            (RESULTS / "plasticity.json").write_text(json.dumps(results, indent=1) + "\n")
            print(results[-1], flush=True)
    print(table(results))


def train(every_updates: int | None, root: Path, seed: int) -> Path:
    """Train one seed. Returns the run's folder.

    Raises:
        RuntimeError: If the run wasn't of the condition: lists of callbacks may be merged with others.
    """
    callback = {"class_path": "DormantUnits", "init_args": {"recycle_every_updates": every_updates}}
    settings = ["--config", CONFIG, "--trainer.enable_progress_bar", "false", "--seed_everything", str(seed)]
    settings += ["--trainer.default_root_dir", str(root), "--trainer.callbacks", json.dumps([callback])]
    run = Path(str(SeqRLCLI(["fit", *settings]).trainer.log_dir))
    (built,) = yaml.safe_load((run / "config.yaml").read_text())["trainer"]["callbacks"]
    if built["init_args"]["recycle_every_updates"] != every_updates:
        raise RuntimeError(f"{run} was trained with {built}, not with recycle_every_updates {every_updates}")
    return run


def figures(run: Path) -> dict[str, float]:
    """Env steps of an episode in early and late blocks, and the fraction of dormant units in the last fourth."""
    episodes = read_episodes(run / "episodes.csv")
    last = max(int(row["block"]) for row in episodes)

    def length(first: int) -> float:
        rows = [row for row in episodes if first <= int(row["block"]) < first + BLOCKS]
        return round(mean(int(row["episode_length"]) for row in rows), 2)

    dormant = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload().Scalars("plasticity/dormant")
    end = dormant[3 * len(dormant) // 4 :]
    return {"early": length(1), "late": length(last - BLOCKS + 1), "dormant": round(mean(e.value for e in end), 3)}


def table(results: list[dict[str, Any]]) -> str:
    """Return the figures as a Markdown table: each seed's, in their order."""
    lines = ["| | env steps of an episode, early blocks | late blocks | dormant at the end |"]
    lines.append("| --- | --- | --- | --- |")
    for condition in CONDITIONS:
        rows = [row for row in results if row["condition"] == condition]
        columns = (", ".join(f"{row[name]:.3g}" for row in rows) for name in ("early", "late", "dormant"))
        lines.append(f"| {condition} | {' | '.join(columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
