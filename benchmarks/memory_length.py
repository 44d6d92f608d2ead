"""Measure how long a memory lasts: DelayedRecall over its delay (``python -m benchmarks.memory_length``).

Two questions, a panel each in ``docs/images/memory_length.png``: what the core of the network makes of it, with windows
that cover whole episodes; and what stored states and burn-in make of it, with windows of 16 steps (DRQN against R2D2).
Every point is a run of :mod:`benchmarks.learning`; what is there already is not run again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.learning import RESULTS

DELAYS = (10, 30, 60)
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "memory_length.png"
SHORT = ["--data.sampler.length", "16", "--data.sampler.overlap", "8"]
BURN_IN = ["--data.sampler.burn_in", "7", "--data.sampler.prioritized", "true"]
CONFIGS_DELAY = 30
PANELS: dict[str, dict[str, list[str]]] = {  # name of the results -> config and overrides
    "windows of whole episodes": {
        "delayed_recall_gru": ["delayed_recall_gru"],
        "delayed_recall_lstm": ["delayed_recall_lstm"],
        "delayed_recall_min_gru": ["delayed_recall_min_gru"],
        "delayed_recall_transformer": ["delayed_recall_transformer"],
        "delayed_recall_mlp": ["delayed_recall_gru", "--model.init_args.network", "MLP"],
    },
    "windows of 16 steps, GRU": {
        "delayed_recall_drqn": ["delayed_recall_gru", *SHORT, "--data.sampler.stored_state", "false"],
        "delayed_recall_stored": ["delayed_recall_gru", *SHORT],
        "delayed_recall_r2d2": ["delayed_recall_gru", *SHORT, *BURN_IN],
    },
}
LABELS = {
    "delayed_recall_gru": "GRU",
    "delayed_recall_lstm": "LSTM",
    "delayed_recall_min_gru": "MinGRU",
    "delayed_recall_transformer": "Transformer",
    "delayed_recall_mlp": "MLP (no memory)",
    "delayed_recall_drqn": "DRQN: zero state",
    "delayed_recall_stored": "stored state",
    "delayed_recall_r2d2": "R2D2: stored state, burn-in, prioritized",
}


def main() -> None:
    """Runs what is missing, and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draw_only", action="store_true", help="draw what has been run so far")
    args = parser.parse_args()
    for conditions in PANELS.values():
        for condition, words in conditions.items():
            for delay in DELAYS:
                if not (args.draw_only or result(condition, delay, words).exists()):
                    subprocess.run(command(condition, delay, words, args.seeds), check=True)
    draw()


def name_of(condition: str, delay: int, words: list[str]) -> str:
    """Return the results' name: the config's, unless a setting is changed."""
    return condition if delay == CONFIGS_DELAY and len(words) == 1 else f"{condition}_{delay}"


def result(condition: str, delay: int, words: list[str]) -> Path:
    """Return the file of a run's figures."""
    return RESULTS / f"learning_{name_of(condition, delay, words)}.json"


def command(condition: str, delay: int, words: list[str], seeds: int) -> list[str]:
    """The call of :mod:`benchmarks.learning`."""
    config, *overrides = words
    settings = [f"configs/{config}.yaml", "--seeds", str(seeds)]
    if (name := name_of(condition, delay, words)) != config:
        settings += ["--name", name, "--data.env_kwargs", f"{{delay: {delay}}}", *overrides]
    return [sys.executable, "-m", "benchmarks.learning", *settings]


def draw() -> None:
    """A panel for each question: every seed a point, the worst seed a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(PANELS), figsize=(10, 3.6), sharey=True, layout="constrained")
    for axes, (title, conditions) in zip(panels, PANELS.items(), strict=True):
        for k, (condition, words) in enumerate(conditions.items()):
            draw_condition(axes, k, condition, words)
        axes.axhline(-0.5, color="0.5", linestyle=":", linewidth=1)
        axes.text(DELAYS[0], -0.48, "chance", color="0.4", fontsize=8, va="bottom")
        axes.set(title=title, xlabel="delay in steps", xticks=DELAYS, ylim=(-0.75, 1.08))
        axes.legend(fontsize=8, frameon=False, loc="center left" if axes is panels[0] else "upper right")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("final return (line: the worst seed)")
    figure.savefig(PICTURE, dpi=110)


def draw_condition(axes: Any, k: int, condition: str, words: list[str]) -> None:
    """One condition over the delays that have been run."""
    paths = {delay: result(condition, delay, words) for delay in DELAYS}
    reports = {delay: json.loads(path.read_text()) for delay, path in paths.items() if path.exists()}
    returns = {delay: [seed["return_mean"] for seed in report["seeds"]] for delay, report in reports.items()}
    shift, color = 0.6 * (k - 1.5), f"C{k}"
    worst = [min(seeds) for seeds in returns.values()]
    axes.plot([delay + shift for delay in returns], worst, color=color, label=LABELS[condition])
    for delay, seeds in returns.items():
        axes.scatter([delay + shift] * len(seeds), seeds, color=color, s=14, zorder=3)


if __name__ == "__main__":
    main()
