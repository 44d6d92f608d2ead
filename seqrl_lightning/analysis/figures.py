"""The figures of reports: each function draws one kind of figure."""

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seqrl_lightning.analysis.curves import on_grid
from seqrl_lightning.analysis.looks import COLORS, Look, looks_of
from seqrl_lightning.analysis.statistics import MIN_SEEDS, Survival, interquartile_means, kaplan_meier, summarize
from seqrl_lightning.errors import printable
from seqrl_lightning.files import write_bytes
from seqrl_lightning.types import BoolArray, FloatArray

if not Path(matplotlib.matplotlib_fname()).is_absolute():
    matplotlib.rcdefaults()  # a `matplotlibrc` in the current folder may come from the runs' author, and start LaTeX

SUFFIXES = ("png", "svg", "pdf")
"""The formats in which each figure is written."""

COLUMN, PAGE = 3.35, 7.1
"""The widths of a paper's column and page in inches (85 and 180 mm): figures are drawn at them, for legible texts."""

_ROWS_OF_A_LEGEND = 2  # for which there is space in a figure's height
_INCHES_OF_A_ROW = 0.15
_CHARACTERS_IN_AN_INCH = 18  # of a legend
_CHARACTERS_OF_A_LINE = 9  # the width of the line or the point before a legend's text

STYLE: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "font.size": 8,
    "axes.titlesize": 8,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # text that can be edited
}


class ReferenceLine(NamedTuple):
    """A return or an accuracy that is drawn as a horizontal line, such as that of random choices."""

    name: str
    value: float
    style: str  # Matplotlib's style of the line
    conditions: Sequence[str] = ()  # those that it holds for; empty: all of them

    @property
    def label(self) -> str:
        """The words in a legend: where conditions differ, with the value and the conditions that it holds for."""
        return f"{self.name}, {self.value:.3g} ({'; '.join(self.conditions)})" if self.conditions else self.name


def new_figure(
    width: float = 7.0, height: float = 3.6, panels: int = 1, sharey: bool = False, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """Make a figure with panels side by side, without a window.

    Args:
        width: In inches.
        height: In inches.
        panels: Number of panels in a row.
        sharey: Whether the panels have one y axis.
        rows: Number of rows of panels.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(rows, panels, squeeze=False, sharey=sharey)
        return figure, list(axes.flat)


def width_of(panels: int) -> float:
    """Return the width in inches of a figure with panels side by side: a paper's column for one, the page for three."""
    return COLUMN if panels == 1 else PAGE / 3 * max(panels, 2)


def title_panel(axes: Axes, title: str) -> None:
    """Set a panel's title, in the size of figures' texts: Matplotlib takes the size from its own settings."""
    axes.set_title(title, fontsize=STYLE["axes.titlesize"])


def as_text(name: str) -> str:
    """Escape a run's name for Matplotlib, in which dollar signs would begin mathematics."""
    return printable(name).replace("$", r"\$")


def wrapped(name: str, width: int = 34) -> str:
    """Escape a name for Matplotlib, and wrap it to a width in characters."""
    return as_text(textwrap.fill(name, width))


def draw_curves(axes: Axes, curves: Sequence[pd.Series], label: str, look: Look) -> None:
    """Draw each seed's curve thinly and their interquartile mean, from five seeds on with its 95 % bootstrap interval.

    Args:
        axes: The axes to draw on.
        curves: A series for each seed.
        label: Label in the legend.
        look: Color of all of them, and dashes of the mean.
    """
    grid, color = on_grid(curves), look.color
    for curve in curves:
        axes.step(curve.index, curve.to_numpy(), where="post", color=color, alpha=0.3, linewidth=0.8)
    if grid.empty:  # a block ended before another run was evaluated in it
        return
    mean, lower, upper = interquartile_means(grid.to_numpy())
    label = as_text(f"{label} (n = {len(curves)})")
    drawn = {"color": color, "linestyle": look.line, "marker": look.marker, "markevery": [-1], "markersize": 4}
    axes.step(grid.index, mean, where="post", linewidth=1.5, label=label, **drawn)  # the end of a run is marked
    if len(curves) >= MIN_SEEDS:
        axes.fill_between(grid.index, lower, upper, step="post", color=color, alpha=0.15, linewidth=0)


def draw_learning(
    curves: Mapping[int, Mapping[str, Sequence[pd.Series]]],
    xlabel: str,
    references: Sequence[ReferenceLine],
    titles: Sequence[str],
) -> Figure:
    """Draw the learning curves of each condition, in a panel for each block, from the block's start on.

    Args:
        curves: A series for each seed, by block and condition.
        xlabel: What the x axes count.
        references: Returns to draw as lines, each in the panels of its conditions.
        titles: The panels' titles.
    """
    figure, panels = new_figure(width_of(len(curves)), 2.8, len(curves), sharey=True)
    looks = looks_of(name for of_block in curves.values() for name in of_block)
    for axes, of_block, title in zip(panels, curves.values(), titles, strict=True):
        for name, of_one in of_block.items():
            draw_curves(axes, of_one, name, looks[name])
        _draw_references(axes, references, looks, of_block)
        title_panel(axes, as_text(title))
        axes.set(xlabel=wrapped(xlabel, 30), xlim=(0, None))
    panels[0].set_ylabel("return of the greedy policy")
    add_legend(figure, panels)
    return figure


def _draw_references(
    axes: Axes, references: Sequence[ReferenceLine], looks: Mapping[str, Look], shown: Iterable[str]
) -> None:
    """Draw the lines that hold for a shown condition: gray if for all, otherwise in the color of the first of them."""
    names = set(shown)
    for reference in references:
        if not reference.conditions or not names.isdisjoint(reference.conditions):
            color = next((looks[name].color for name in reference.conditions if name in looks), "0.4")
            label = wrapped(reference.label, 44)
            axes.axhline(reference.value, color=color, linestyle=reference.style, linewidth=1.2, label=label)


def draw_episodes(episodes: pd.DataFrame, names: Sequence[str] | None = None) -> Figure:
    """Draw return and length of each training episode, with a dashed line at every switch of the rule.

    Args:
        episodes: A run's ``episodes.csv``: those of all environments, in the order in which they ended.
        names: The blocks' names.
    """
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


def draw_points(
    axes: Axes, points: Mapping[str, FloatArray], ylabel: str, is_met: Mapping[str, BoolArray] | None = None
) -> None:
    """Draw a point for each seed, and beside them a summary of the seeds of a group.

    The summary is the interquartile mean with, from five seeds on, its 95 % interval or, for times to an event, the
    Kaplan-Meier median. A hollow triangle is a seed in which the event had not occurred by then.

    Args:
        axes: The axes to draw on.
        points: [seeds] float for each group, by its name; NaN where a seed has no value.
        ylabel: Label of the y axis.
        is_met: [seeds] bool for each group, whether the event occurred; None if the points are no times.
    """
    looks = looks_of(points)
    for x, (name, values) in enumerate(points.items()):
        color, _, marker = looks[name]
        spread = x - 0.15 + np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.array([x - 0.15])
        met = np.ones(len(values), bool) if is_met is None else is_met[name]
        axes.scatter(
            *(spread[met], values[met]),
            color=color,
            marker=marker,
            s=18,
            alpha=0.7,
            zorder=3,
            linewidths=0,
            clip_on=False,
            label=as_text(name),
        )
        axes.scatter(spread[~met], values[~met], marker="^", facecolors="none", edgecolors=color, s=24, clip_on=False)
        if is_met is None:
            summary = summarize(values)
            axes.hlines(summary.mean, x + 0.05, x + 0.35, color=color, linewidth=2.5)
            if summary.is_interval:
                axes.vlines(x + 0.2, summary.lower, summary.upper, color=color, linewidth=5, alpha=0.35)
        elif np.isfinite(median := kaplan_meier(values, met).median):
            axes.hlines(median, x + 0.05, x + 0.35, color=color, linewidth=2.5)
    axes.set(xticks=range(len(points)), ylabel=ylabel, xlim=(-0.6, len(points) - 0.4))
    if all(np.nanmin(values, initial=0.0) >= 0 for values in points.values()):
        axes.set_ylim(bottom=0)
    axes.set_xticklabels([as_text(name) for name in points])


def draw_survival(axes: Axes, curves: Mapping[str, Survival], xlabel: str) -> None:
    """Draw the fraction of runs that have met a criterion, by the Kaplan-Meier estimate.

    Args:
        axes: The axes to draw on.
        curves: The fraction of runs that have not, for each condition.
        xlabel: What the x axis counts.
    """
    end = max(curve.times[-1] for curve in curves.values())
    looks = looks_of(curves)
    for name, curve in curves.items():
        color, line, _ = looks[name]
        times, met = curve.times, 1 - curve.fraction
        if met[-1] == 1:  # from here on, all runs have met it
            times, met = np.append(times, end), np.append(met, 1.0)
        axes.step(times, met, where="post", color=color, linestyle=line, linewidth=1.5, label=as_text(name))
    axes.set(xlabel=xlabel, ylim=(-0.03, 1.03))


def draw_positions(
    axes: Axes, accuracy: Mapping[str, pd.DataFrame], looks: Mapping[str, Look], references: Sequence[ReferenceLine]
) -> None:
    """Draw the accuracy at each serial position: each seed thinly, and the interquartile mean with its interval.

    Args:
        axes: The axes to draw on.
        accuracy: A row for each seed and a column for each position, by the name of the condition.
        looks: The look of each condition, the same in all panels.
        references: Accuracies to draw as lines, if one of their conditions is drawn.
    """
    apart = min(0.12, 0.8 / len(accuracy))  # within a position
    shifts = apart * (np.arange(len(accuracy)) - (len(accuracy) - 1) / 2)
    for (name, seeds), shift in zip(accuracy.items(), shifts, strict=True):
        color, line, marker = looks[name]
        x = seeds.columns + shift
        axes.plot(x, seeds.T.to_numpy(), color=color, alpha=0.3, linewidth=0.8)
        summaries = [summarize(seeds[position].to_numpy()) for position in seeds]
        mean = [summary.mean for summary in summaries]
        label = as_text(f"{name} (n = {len(seeds)})")
        axes.plot(x, mean, color=color, linestyle=line, marker=marker, markersize=4, linewidth=1.5, label=label)
        for position, summary in zip(x, summaries, strict=True):
            if summary.is_interval:
                axes.vlines(position, summary.lower, summary.upper, color=color, linewidth=5, alpha=0.35)
    positions = sorted({position for seeds in accuracy.values() for position in seeds.columns})
    _draw_references(axes, references, looks, accuracy)
    axes.set(xlabel="serial position", ylim=(-0.03, 1.03), xticks=positions)


def draw_position_map(accuracy: pd.DataFrame) -> Figure:
    """Draw the accuracy at each serial position over training: a line for each position, colored by the accuracy.

    Args:
        accuracy: A row for each evaluation, by its env steps, and a column for each position, from 0; NaN, drawn white,
            where the position was not reached.
    """
    figure, (axes,) = new_figure(9.0, 3.4)
    axes.grid(visible=False)
    places = accuracy.columns.to_numpy() + 1
    cells = axes.pcolormesh(accuracy.index, places, accuracy.T, shading="nearest", cmap="viridis", vmin=0.0, vmax=1.0)
    axes.set(xlabel="env steps", ylabel="serial position")
    axes.yaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.invert_yaxis()
    figure.colorbar(cells, ax=axes, label="fraction right, greedy policy")
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


def draw_matrices(
    matrices: Mapping[str, FloatArray], letters: str, marks: Mapping[str, Mapping[int, int]], by_position: bool
) -> Figure:
    """Draw a heat map for each block: the share of each object in the choices of a row; the right ones are framed.

    Args:
        matrices: [positions or right objects, actions] float, by the block's name.
        letters: The objects' names, a letter each; empty to number them.
        marks: The right object in each row, by the block's name.
        by_position: Whether the rows are serial positions; otherwise they are right objects.
    """
    figure, panels = new_figure(max(4.5, 3.4 * len(matrices)), 3.6, len(matrices))
    for axes, (name, matrix) in zip(panels, matrices.items(), strict=True):
        names = list(letters) or [str(action) for action in range(matrix.shape[1])]
        image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.grid(False)
        for row, action in marks[name].items():
            square = matplotlib.patches.Rectangle((action - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=COLORS[1])
            axes.add_patch(square)
        title_panel(axes, name)
        axes.set(xlabel="object chosen", ylabel="serial position" if by_position else "right object")
        axes.set(xticks=range(matrix.shape[1]), yticks=range(matrix.shape[0]))
        axes.set_xticklabels(names)
        rows = [str(position + 1) for position in range(matrix.shape[0])]
        axes.set_yticklabels(rows if by_position else names[: matrix.shape[0]])
    figure.colorbar(image, ax=panels, label="share of choices", shrink=0.8)
    return figure


def draw_profiles(profiles: Mapping[str, FloatArray], thresholds: FloatArray) -> Figure:
    """Draw performance profiles: the fraction of runs above each score."""
    figure, (axes,) = new_figure(COLUMN, 2.6)
    for name, (color, line, _) in looks_of(profiles).items():
        axes.step(
            thresholds, profiles[name], where="post", label=as_text(name), color=color, linestyle=line, linewidth=1.5
        )
    axes.set(xlabel="final return (τ)", ylabel="fraction of runs with more than τ", ylim=(-0.03, 1.03))
    add_legend(figure, [axes])
    return figure


def add_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """Add one legend for all panels, below them, in which each label stands once; it makes the figure higher."""
    handles: dict[str, Any] = {}
    for axes in panels:
        found, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, found, strict=True))
    if handles:
        widest = max(len(label) for label in handles) + _CHARACTERS_OF_A_LINE
        columns = max(1, min(len(handles), int(_CHARACTERS_IN_AN_INCH * figure.get_figwidth() / widest)))
        with matplotlib.rc_context(STYLE):
            figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)
        further_rows = max(0, -(-len(handles) // columns) - _ROWS_OF_A_LEGEND)
        figure.set_figheight(figure.get_figheight() + _INCHES_OF_A_ROW * further_rows)


def save(figure: Figure, path: Path, **options: Any) -> None:
    """Write the figure as ``path`` with each of ``SUFFIXES``."""
    with matplotlib.rc_context(STYLE):
        for suffix in SUFFIXES:
            picture = io.BytesIO()
            figure.savefig(picture, format=suffix, **options)
            figure.set_layout_engine("none")  # it is laid out once: that takes as long as to draw it
            contents = picture.getvalue()
            if suffix == "svg":  # the file is well-formed, whatever texts a figure shows
                contents = printable(contents.decode(), "\n\t").encode()
            write_bytes(path.with_suffix(f".{suffix}"), contents)
