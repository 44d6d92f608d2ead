"""The figures of reports: each function draws one kind of figure."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqrl_lightning.analysis.statistics import bootstrap_interval
from seqrl_lightning.files import write_bytes
from seqrl_lightning.types import FloatArray

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#333333")
"""The palette of Okabe and Ito, which color-blind people can tell apart."""

STYLE: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "font.size": 10,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 130,
    "svg.fonttype": "none",
}


def new_figure(width: float = 7.0, height: float = 3.6, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """Make a figure with panels side by side, without a window.

    Args:
        width: In inches.
        height: In inches.
        panels: Number of panels.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(1, panels, squeeze=False)
        return figure, list(axes.flat)


def as_text(name: str) -> str:
    """Return a run's name as Matplotlib draws it as it is: dollar signs would begin mathematics."""
    return name.replace("$", r"\$")


def draw_curves(axes: Axes, curves: Sequence[pd.Series], label: str, color: str) -> pd.DataFrame:
    """Draw each seed's curve thinly, and their mean with, from three seeds on, its 95 % bootstrap interval over seeds.

    Args:
        axes: The axes to draw on.
        curves: A series over env steps for each seed.
        label: Label in the legend.
        color: Color of all of them.

    Returns:
        The mean and its interval, with a row for each number of env steps.
    """
    steps = np.array(sorted(set.intersection(*(set(curve.index) for curve in curves))))
    if not len(steps):  # evaluated at different times: take those of the first seed, as far as all seeds go
        steps = np.array([step for step in curves[0].index if step <= min(curve.index.max() for curve in curves)])
    values = np.array([np.interp(steps, curve.index, curve.to_numpy()) for curve in curves])  # [seeds, steps]
    drawn = pd.DataFrame({"env_steps": steps, "mean": values.mean(0)})
    for curve in curves:
        axes.plot(curve.index, curve.to_numpy(), color=color, alpha=0.25, linewidth=0.8)
    axes.plot(steps, drawn["mean"], color=color, linewidth=2, label=as_text(f"{label} ({len(curves)} seeds)"))
    if len(curves) >= 3:
        drawn["lower"], drawn["upper"] = bootstrap_interval(values, statistic=np.mean, axis=0)
        axes.fill_between(steps, drawn["lower"], drawn["upper"], color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel="environment steps", ylabel="return of the greedy policy")
    return drawn


def draw_episodes(episodes: pd.DataFrame, names: Sequence[str] | None = None) -> Figure:
    """Draw return and length of each training episode, with a dashed line at every switch of the rule.

    Args:
        episodes: A run's ``episodes.csv``; only the episodes of its first environment are drawn.
        names: The blocks' names.
    """
    episodes = episodes[episodes["env"] == 0].reset_index(drop=True)
    figure, panels = new_figure(9.0, 3.4, 2)
    for axes, column, label in zip(panels, ("episode_return", "episode_length"), ("return", "length"), strict=True):
        axes.plot(episodes.index + 1, episodes[column], linewidth=0.6, alpha=0.5, color=COLORS[0])
        smooth = episodes.groupby("block")[column].transform(lambda values: values.rolling(10, min_periods=1).mean())
        axes.plot(episodes.index + 1, smooth, linewidth=2, color=COLORS[0])
        axes.set(xlabel="episode", ylabel=f"{label} of the episode")
        for i in np.flatnonzero(episodes["block"].diff().fillna(0).to_numpy()):
            axes.axvline(i + 0.5, color="0.3", linestyle="--", linewidth=1)
            if names is not None:
                text = f" {names[int(episodes['block'][i])]}"
                axes.text(i + 0.5, 1.0, text, transform=axes.get_xaxis_transform(), va="bottom", fontsize=8)
    figure.suptitle("Training episodes (thin), and the mean of the last ten of the block", fontsize=10)
    return figure


def draw_by_block(values: pd.DataFrame, label: str) -> Figure:
    """Draw a point for each seed and block, and the median of each block.

    Args:
        values: A row for each seed, a column for each block; NaN where there is no value.
        label: Label of the y axis.
    """
    figure, (axes,) = new_figure(5.0, 3.2)
    for x, block in enumerate(values.columns):
        found = values[block].dropna()
        axes.scatter(np.full(len(found), x), found, color=COLORS[0], alpha=0.6, zorder=3)
        if len(found) == len(values):
            axes.hlines(found.median(), x - 0.25, x + 0.25, color=COLORS[1], linewidth=2)
        else:
            text = f"{len(values) - len(found)} of {len(values)} never"
            axes.text(x, 1.0, text, transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=8)
    axes.set(xlabel="block", ylabel=label, xticks=range(len(values.columns)), xticklabels=list(values.columns))
    axes.set(xlim=(-0.6, len(values.columns) - 0.4), ylim=(0, None))
    return figure


def draw_lines(table: pd.DataFrame, xlabel: str, ylabel: str, label: str) -> Figure:
    """Draw a line for each row of a table over its columns."""
    figure, (axes,) = new_figure(6.0, 3.2)
    for name, row in table.iterrows():
        axes.plot(table.columns, row, marker="o", label=f"{label} {name}")
    axes.set(xlabel=xlabel, ylabel=ylabel, xticks=list(table.columns))
    axes.legend()
    return figure


def draw_shares(
    table: pd.DataFrame, switches: Sequence[float], xlabel: str, ylabel: str, line: pd.Series | None = None
) -> Figure:
    """Draw shares that add up as stacked bands over the table's index, with dashed lines at the switches.

    Args:
        table: A column for each band.
        switches: Where the rule changes.
        xlabel: Label of the x axis.
        ylabel: Label of the y axis.
        line: Another share, not part of the sum; drawn as a line under its name.
    """
    figure, (axes,) = new_figure(7.5, 3.4)
    axes.stackplot(table.index, *(table[name] for name in table), labels=list(table), colors=COLORS, alpha=0.85)
    if line is not None:
        axes.plot(line.index, line, color="black", linewidth=1.5, label=line.name)
    for switch in switches:
        axes.axvline(switch, color="0.2", linestyle="--", linewidth=1)
    axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
    axes.margins(x=0)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def draw_matrices(matrices: Mapping[str, FloatArray], letters: str, marks: Mapping[str, Sequence[int]]) -> Figure:
    """Draw a heat map for each block: the share of each object in the choices at each position; right ones are framed.

    Args:
        matrices: [positions, actions] float, by the block's name.
        letters: The objects' names, a letter each; empty to number them.
        marks: The right object at each position, by the block's name.
    """
    figure, panels = new_figure(max(4.5, 3.4 * len(matrices)), 3.6, len(matrices))
    for axes, (name, matrix) in zip(panels, matrices.items(), strict=True):
        image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.grid(False)
        for position, action in enumerate(marks.get(name, ())):
            square = matplotlib.patches.Rectangle((action - 0.5, position - 0.5), 1, 1, fill=False, edgecolor=COLORS[1])
            axes.add_patch(square)
        axes.set(title=name, xlabel="object chosen", ylabel="position")
        axes.set(xticks=range(matrix.shape[1]), yticks=range(matrix.shape[0]))
        axes.set_xticklabels(list(letters) or [str(action) for action in range(matrix.shape[1])])
        axes.set_yticklabels([str(position + 1) for position in range(matrix.shape[0])])
    figure.colorbar(image, ax=panels, label="share of choices", shrink=0.8)
    return figure


def draw_profiles(profiles: Mapping[str, FloatArray], thresholds: FloatArray) -> Figure:
    """Draw performance profiles: the fraction of runs above each score."""
    figure, (axes,) = new_figure(6.0, 3.2)
    for (name, profile), color in zip(profiles.items(), _colors(len(profiles)), strict=True):
        axes.step(thresholds, profile, where="post", label=as_text(name), color=color, linewidth=2)
    axes.set(xlabel="final return (τ)", ylabel="fraction of runs with more than τ", ylim=(-0.03, 1.03))
    axes.legend()
    return figure


def draw_estimates(estimates: pd.DataFrame, label: str) -> Figure:
    """Draw a point with its interval for each row of a table with ``estimate``, ``lower`` and ``upper``."""
    figure, (axes,) = new_figure(6.0, 0.9 + 0.45 * len(estimates))
    y = np.arange(len(estimates))[::-1]
    axes.hlines(y, estimates["lower"], estimates["upper"], color=_colors(len(estimates)), linewidth=7, alpha=0.35)
    axes.scatter(estimates["estimate"], y, color=_colors(len(estimates)), zorder=3)
    axes.set(
        yticks=y,
        yticklabels=[as_text(name) for name in estimates.index],
        xlabel=label,
        ylim=(-0.7, len(estimates) - 0.3),
    )
    return figure


def _colors(count: int) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(count)]


def save(figure: Figure, path: Path, **options: Any) -> None:
    """Write the figure as ``path`` with the suffixes .png and .svg."""
    with matplotlib.rc_context(STYLE):
        for suffix in ("png", "svg"):
            picture = io.BytesIO()
            figure.savefig(picture, format=suffix, **options)
            write_bytes(path.with_suffix(f".{suffix}"), picture.getvalue())
