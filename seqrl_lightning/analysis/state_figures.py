"""The figures of reports on states: each function draws one kind of figure."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seqrl_lightning.analysis.canvas import (
    PAGE,
    add_colorbar,
    add_legend,
    as_text,
    label_rows,
    new_figure,
    new_grid,
    title_panel,
    width_of,
)
from seqrl_lightning.analysis.looks import COLORS, looks_of
from seqrl_lightning.types import BoolArray, FloatArray

MOST_PANELS = 4
"""Positions that have a panel of their own: the first ones."""

_MOST_NARROW_COLUMNS = 24  # of a map of which four fit side by side


def draw_maps(
    maps: Mapping[str, FloatArray],
    marks: Mapping[str, BoolArray],
    rows: Sequence[int],
    labels: tuple[str, str, str],
    limits: tuple[float, float] | None = None,
    diverging: bool = False,
) -> Figure:
    """Draw heat maps side by side, with a dot in each cell that is marked.

    Args:
        maps: ``[R, C]`` float, by the panel's title.
        marks: ``[R, C]`` bool, of the same.
        rows: The names of the rows; columns are numbered from 1.
        labels: What rows, columns and colors show.
        limits: The values of the darkest and of the lightest color; None for those of the data.
        diverging: Whether the colors diverge from 0.
    """
    first = next(iter(maps.values()))
    has_many_columns = first.shape[1] > _MOST_NARROW_COLUMNS
    height = 0.7 + min(max(0.14 * len(rows), 1.3), 3.5)
    figure, panels = new_grid(len(maps), height, most_in_a_row=2 if has_many_columns else MOST_PANELS, sharey=True)
    largest = max(float(np.nanmax(np.abs(values))) for values in maps.values())
    low, high = limits or ((-largest, largest) if diverging else (0.0, largest))
    for axes, (title, values) in zip(panels, maps.items(), strict=True):
        axes.grid(False)
        colors = "RdBu_r" if diverging else "viridis"
        image = axes.imshow(values, cmap=colors, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
        y, x = np.nonzero(marks[title])
        size = float(np.clip(200 / max(values.shape) ** 2, 1.0, 8))
        axes.scatter(x, y, s=size, color="black" if diverging else "white", linewidths=0)
        title_panel(axes, as_text(title))
        axes.set_xlabel(labels[1])
        _number(axes, values.shape[1], rows)
    label_rows(panels, labels[0])
    add_colorbar(figure, image, panels, labels[2])
    return figure


def _number(axes: Axes, num_columns: int, rows: Sequence[int]) -> None:
    """Name some columns, counted from 1, and rows."""
    for axis, names in ((axes.xaxis, list(range(1, num_columns + 1))), (axes.yaxis, list(rows))):
        every = -(-len(names) // 12)
        axis.set_ticks(range(0, len(names), every), [str(name) for name in names[::every]])


def draw_trajectories(
    paths: Mapping[str, Mapping[str, FloatArray]], starts: Mapping[str, int], explained: FloatArray
) -> Figure:
    """Draw the mean path of the states of each item through the first two principal components.

    Args:
        paths: ``[T, 2]`` float for each item, by the panel's title and the item's name.
        starts: The step at which the item is shown, by the title; earlier steps are drawn gray.
        explained: ``[2]``, the components' shares of the variance.
    """
    figure, panels = new_grid(len(paths), 2.4, sharey=True)
    for axes, (title, of_items) in zip(panels, paths.items(), strict=True):
        start = starts[title]
        for name, (color, _, _) in looks_of(of_items).items():
            path = of_items[name]
            axes.plot(*path[: start + 1].T, color="0.7", linewidth=0.8)
            axes.plot(*path[start:].T, color=color, marker=".", markersize=3, linewidth=1.2, label=as_text(name))
            axes.plot(*path[start], color=color, marker="o", markersize=4.5)
            axes.plot(*path[-1], color=color, marker="s", markersize=4.5)
        title_panel(axes, as_text(title))
        axes.set_xlabel(f"PC 1 ({explained[0]:.0%} of variance)")
    label_rows(panels, f"PC 2 ({explained[1]:.0%} of variance)")
    add_legend(figure, panels)
    return figure


def draw_lines(
    lines: Mapping[str, FloatArray],
    levels: Mapping[str, float],
    labels: tuple[str, str],
    x: Sequence[float] | None = None,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Draw lines over steps, or over other places, with a horizontal line at each level.

    Args:
        lines: ``[T]`` float, by the line's name.
        levels: Levels, by their names.
        labels: What the axes show.
        x: The places; by default, steps from 1.
        limits: Of the y axis.
    """
    figure, (axes,) = new_figure(width_of(2), 2.8)
    looks = looks_of(lines)
    for name, values in lines.items():
        color, line, _ = looks[name]
        places = range(1, len(values) + 1) if x is None else x
        axes.plot(places, values, color=color, linestyle=line, marker=".", linewidth=1.8, label=as_text(name))
    for (name, level), line in zip(levels.items(), cycle((":", "-.")), strict=False):
        axes.axhline(level, color="0.4", linestyle=line, linewidth=1.2, label=as_text(name))
    axes.set(xlabel=labels[0], ylabel=labels[1], ylim=limits)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    add_legend(figure, [axes])
    return figure


def draw_comparison(accuracy: pd.DataFrame, training: pd.DataFrame, chance: float) -> Figure:
    """Draw how well each network's items are decoded, by position, and over training.

    Args:
        accuracy: A row for each network and a column for each position.
        training: A row for each network of which it is known how long it was trained: ``run``, ``env_steps``, and
            ``accuracy``, the mean over positions. Without rows, there is no such panel.
        chance: The level of chance.
    """
    count = 2 if len(training) else 1
    figure, panels = new_figure(PAGE if count > 1 else width_of(2), 2.8, count, sharey=True)
    looks = looks_of(str(name) for name in accuracy.index)
    for name, values in accuracy.iterrows():
        color, line, _ = looks[str(name)]
        panels[0].plot(accuracy.columns, values, color=color, linestyle=line, marker=".", label=as_text(str(name)))
    panels[0].set(xlabel="step at which the item is shown", ylabel="share of items decoded", ylim=(0, 1.03))
    panels[0].xaxis.set_major_locator(MaxNLocator(10, integer=True))
    if len(training):
        for (name, rows), color in zip(training.groupby("run", sort=False), cycle(COLORS[::-1]), strict=False):
            rows = rows.sort_values("env_steps")
            panels[1].plot(
                rows["env_steps"], rows["accuracy"], color=color, marker=".", label=as_text(f"{name} (mean)")
            )
        panels[1].set(xlabel="env steps of training")
    for axes in panels:
        axes.axhline(chance, color="0.4", linestyle=":", linewidth=1.2, label="chance")
    add_legend(figure, panels)
    return figure
