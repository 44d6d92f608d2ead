"""The figures of reports: each function draws one kind of figure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seqrl_lightning.analysis.canvas import (
    PAGE,
    add_colorbar,
    add_legend,
    new_figure,
    new_grid,
    new_panels,
    title_panel,
    wrapped,
)
from seqrl_lightning.analysis.curves import on_grid
from seqrl_lightning.analysis.looks import COLORS, Look, Panel, panels_of
from seqrl_lightning.analysis.statistics import MIN_SEEDS, Summary, interquartile_mean, interquartile_means, summarize
from seqrl_lightning.analysis.survival import Survival, kaplan_meier
from seqrl_lightning.types import BoolArray, FloatArray

T = TypeVar("T")

_MOST_TICKS = 6  # of serial positions in a panel, beyond which not each has one
_OTHERS = "0.75"  # the gray of other panels' conditions


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


def draw_curves(axes: Axes, curves: Sequence[pd.Series], label: str, look: Look) -> None:
    """Draw each seed's curve thinly and their interquartile mean, from five seeds on with its 95 % bootstrap interval.

    Args:
        axes: The axes to draw on.
        curves: A series for each seed; without any, the condition is only in the legend.
        label: Label in the legend.
        look: Color of all of them, and dashes of the mean.
    """
    color = look.color
    drawn: dict[str, Any] = {
        "color": color,
        "linestyle": look.line,
        "marker": look.marker,
        "markersize": 4,
        "linewidth": 1.5,
    }
    for curve in curves:
        axes.step(curve.index, curve.to_numpy(), where="post", color=color, alpha=0.3, linewidth=0.6)
    if not curves or (grid := on_grid(curves)).empty:  # a block ended before another run was evaluated in it
        axes.plot([], [], label=label, **drawn)
        return
    mean, lower, upper = interquartile_means(grid.to_numpy())
    axes.step(grid.index, mean, where="post", label=label, clip_on=False, markevery=[-1], **drawn)  # its end is marked
    if len(curves) >= MIN_SEEDS:
        axes.fill_between(grid.index, lower, upper, step="post", color=color, alpha=0.15, linewidth=0)


def draw_learning(
    curves: Mapping[int, Mapping[str, Sequence[pd.Series]]],
    num_runs: Mapping[str, int],
    xlabel: str,
    references: Sequence[ReferenceLine],
    titles: Sequence[str],
) -> Figure:
    """Draw the learning curves of each condition, for each block, from the block's start on.

    Args:
        curves: A series for each seed that was evaluated in a block, by block and condition.
        num_runs: Number of runs of each condition.
        xlabel: What the x axes count.
        references: Returns to draw as lines, each in the panels of its conditions.
        titles: The blocks' titles.
    """
    facets = panels_of(num_runs)
    ends = [max(curve.index[-1] for of_one in of_block.values() for curve in of_one) for of_block in curves.values()]
    labels = xlabel, "return of the greedy policy"
    figure, rows = new_panels([facet.title for facet in facets], titles, labels, ends)
    for facet, row in zip(facets, rows, strict=True):
        for axes, of_block in zip(row, curves.values(), strict=True):
            shown, others = _divided(of_block, facet)
            for name, look in facet.looks.items():
                draw_curves(axes, shown.get(name, []), label_of(facet, name, num_runs[name]), look)
            draw_references(axes, references, facet, shown)
            for grid in map(on_grid, others.values()):
                means = np.array([interquartile_mean(row) for row in grid.to_numpy()])
                draw_other(axes, grid.index.to_numpy(), means, is_step=True)
    add_legend(figure, [axes for row in rows for axes in row])
    return figure


def _divided(of_all: Mapping[str, T], facet: Panel) -> tuple[dict[str, T], dict[str, T]]:
    """Divide what is drawn of each condition into that of the panel's conditions and that of the others."""
    shown = {name: of_one for name, of_one in of_all.items() if name in facet.looks}
    return shown, {name: of_one for name, of_one in of_all.items() if name not in shown}


def draw_other(axes: Axes, x: FloatArray, y: FloatArray, is_step: bool = False) -> None:
    """Draw the middle of a condition of another panel in gray, to compare with."""
    style = "steps-post" if is_step else "default"
    axes.plot(x, y, color=_OTHERS, linewidth=0.8, drawstyle=style, zorder=1, label="other conditions")


def label_of(facet: Panel, name: str, num_runs: int) -> str:
    """Return a condition's label in a legend: empty where a title names it, and with its n where nothing else does."""
    label = wrapped(facet.labels[name], 44)
    return f"{label} (n = {num_runs})" if label and not facet.title else label


def draw_references(axes: Axes, references: Sequence[ReferenceLine], facet: Panel, shown: Iterable[str]) -> None:
    """Draw the lines that hold for a shown condition: gray if for all, otherwise in the color of the first of them.

    Args:
        axes: The axes to draw on.
        references: The lines.
        facet: The conditions of this panel.
        shown: Those that are drawn.
    """
    names = set(shown)
    for reference in references:
        here = [name for name in reference.conditions if name in facet.looks]
        if reference.conditions and names.isdisjoint(here):
            continue
        label, color = reference.label, "0.4"
        if here and not facet.title:
            color = facet.looks[here[0]].color
        elif here:  # the panel's title names the conditions that it holds for, except for those in the panel
            is_shared = len(here) == len(facet.looks)
            label = reference.name if is_shared else f"{reference.name} ({'; '.join(facet.labels[n] for n in here)})"
            color = color if is_shared else facet.looks[here[0]].color
        axes.axhline(reference.value, color=color, linestyle=reference.style, linewidth=1.2, label=wrapped(label, 44))


def draw_episodes(episodes: pd.DataFrame, names: Sequence[str] | None = None) -> Figure:
    """Draw return and length of each training episode, with a dashed line at every switch of the rule.

    Args:
        episodes: A run's ``episodes.csv``: those of all environments, in the order in which they ended.
        names: The blocks' names.
    """
    figure, panels = new_figure(PAGE, 2.8, 2)
    for axes, column, label in zip(panels, ("episode_return", "episode_length"), ("return", "length"), strict=True):
        axes.plot(episodes.index + 1, episodes[column], linewidth=0.6, alpha=0.5, color=COLORS[0])
        smooth = episodes.groupby("block")[column].transform(lambda values: values.rolling(10, min_periods=1).mean())
        axes.plot(episodes.index + 1, smooth, linewidth=2, color=COLORS[0])
        axes.set(xlabel="episode", ylabel=f"{label} of the episode")
        for i in np.flatnonzero(episodes["block"].diff().fillna(0).to_numpy()):
            axes.axvline(i + 0.5, color="0.3", linestyle="--", linewidth=1)
            if names is not None:
                text = f" {names[int(episodes['block'][i])]}"
                axes.text(i + 0.5, 1.0, text, transform=axes.get_xaxis_transform(), va="bottom", fontsize=7)
    figure.suptitle("Training episodes (thin), and the mean of the last ten of the block", fontsize=8)
    return figure


def draw_points(
    axes: Axes,
    points: Mapping[str, FloatArray],
    xlabel: str,
    is_met: Mapping[str, BoolArray] | None = None,
    looks: Mapping[str, Look] | None = None,
) -> None:
    """Draw a row for each group: a point for each seed and, below them, a summary.

    The summary is the interquartile mean with, from five seeds on, its 95 % interval or, for times to an event, the
    Kaplan-Meier median. A hollow triangle is a seed in which the event had not occurred by then.

    Args:
        axes: The axes to draw on.
        points: [seeds] float for each group, by its name; NaN where a seed has no value.
        xlabel: Label of the x axis.
        is_met: [seeds] bool for each group, whether the event occurred; None if the points are no times.
        looks: The look of each group; all look alike without.
    """
    for y, (name, values) in enumerate(points.items()):
        color, marker = (looks[name].color, looks[name].marker) if looks else (COLORS[0], "o")
        spread = y - 0.17 + (np.linspace(-0.13, 0.13, len(values)) if len(values) > 1 else np.zeros(1))
        met = np.ones(len(values), bool) if is_met is None else is_met[name]
        filled: dict[str, Any] = {"color": color, "marker": marker, "alpha": 0.7, "linewidths": 0, "clip_on": False}
        axes.scatter(values[met], spread[met], s=11, zorder=3, **filled)
        axes.scatter(values[~met], spread[~met], marker="^", facecolors="none", edgecolors=color, s=16, clip_on=False)
        if is_met is None:
            summary = summarize(values)
            axes.vlines(summary.mean, y + 0.08, y + 0.38, color=color, linewidth=2)
            if summary.is_interval:
                axes.hlines(y + 0.23, summary.lower, summary.upper, color=color, linewidth=4, alpha=0.35)
        elif np.isfinite(median := kaplan_meier(values, met).median):
            axes.vlines(median, y + 0.08, y + 0.38, color=color, linewidth=2)
    axes.set(yticks=range(len(points)), xlabel=xlabel, ylim=(len(points) - 0.4, -0.6))
    axes.set_yticklabels([wrapped(name, 26) for name in points])
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if all(np.nanmin(values, initial=0.0) >= 0 for values in points.values()):
        axes.set_xlim(left=0)


def height_of_points(num_groups: int) -> float:
    """Return the height in inches of a panel with a row of points for each group."""
    return 0.75 + 0.3 * num_groups


def draw_outcomes(outcomes: Mapping[str, Mapping[str, FloatArray]]) -> Figure:
    """Draw several numbers of each seed, in a panel for each of them with a row for each condition.

    Args:
        outcomes: [seeds] float by the number's name and the condition.
    """
    facets = panels_of(next(iter(outcomes.values())))
    looks = {name: look for facet in facets for name, look in facet.looks.items()}
    figure, panels = new_grid(len(outcomes), 0.2 + height_of_points(len(looks)), most_in_a_row=3, sharey=True)
    for axes, (name, points) in zip(panels, outcomes.items(), strict=True):
        draw_points(axes, points, wrapped(name, 32), looks=looks)
    return figure


def draw_survival(curves: Mapping[str, Mapping[str, Survival]], num_runs: Mapping[str, int], xlabel: str) -> Figure:
    """Draw the fraction of runs that have met a criterion, by the Kaplan-Meier estimate.

    Args:
        curves: The fraction of runs that have not, by the title of a panel, such as a block's, and by condition.
        num_runs: Number of runs of each condition.
        xlabel: What the x axes count.
    """
    facets = panels_of(num_runs)
    ends = [
        1.04 * max(curve.times[-1] for curve in of_block.values()) for of_block in curves.values()
    ]  # a last step shows
    labels = xlabel, "fraction of runs that met it"
    figure, rows = new_panels([facet.title for facet in facets], list(curves), labels, ends)
    for facet, row in zip(facets, rows, strict=True):
        for axes, of_block, end in zip(row, curves.values(), ends, strict=True):
            steps = {name: _steps_of(curve, end) for name, curve in of_block.items()}
            _draw_steps(axes, steps, facet, num_runs)
    add_legend(figure, [axes for row in rows for axes in row])
    return figure


def _steps_of(curve: Survival, end: float) -> tuple[FloatArray, FloatArray]:
    """Return times, and the fraction of runs that have met the criterion by then."""
    met = 1 - curve.fraction
    if met[-1] < 1:
        return curve.times, met
    return np.append(curve.times, end), np.append(met, 1.0)  # from there on, all runs have met it


def _draw_steps(
    axes: Axes, steps: Mapping[str, tuple[FloatArray, FloatArray]], facet: Panel, num_runs: Mapping[str, int]
) -> None:
    """Draw fractions of runs as steps: a panel's conditions in their looks, and the others in gray."""
    shown, others = _divided(steps, facet)
    for name, (x, y) in shown.items():
        color, line, _ = facet.looks[name]
        label = label_of(facet, name, num_runs[name])
        axes.step(x, y, where="post", color=color, linestyle=line, linewidth=1.5, label=label)
    for x, y in others.values():
        draw_other(axes, x, y, is_step=True)
    axes.set_ylim(-0.03, 1.03)


def draw_positions(
    accuracy: Mapping[str, Mapping[str, pd.DataFrame]],
    num_runs: Mapping[str, int],
    references: Sequence[ReferenceLine],
) -> Figure:
    """Draw the accuracy at each serial position: each seed thinly, and the interquartile mean with its interval.

    Args:
        accuracy: A row for each seed and a column for each position, by the title of a block and by condition.
        num_runs: Number of runs of each condition.
        references: Accuracies to draw as lines, if one of their conditions is drawn.
    """
    facets = panels_of(num_runs)
    figure, rows = new_panels([facet.title for facet in facets], list(accuracy), ("serial position", "fraction right"))
    for facet, row in zip(facets, rows, strict=True):
        for axes, of_block in zip(row, accuracy.values(), strict=True):
            shown, others = _divided(of_block, facet)
            shifts = 0.12 * (np.arange(len(facet.looks)) - (len(facet.looks) - 1) / 2)  # apart within a position
            for (name, look), shift in zip(facet.looks.items(), shifts, strict=True):
                seeds = shown.get(name, pd.DataFrame())
                _draw_accuracy(axes, seeds, shift, label_of(facet, name, num_runs[name]), look)
            draw_references(axes, references, facet, shown)
            for seeds in others.values():
                draw_other(axes, seeds.columns.to_numpy(), np.array([summary.mean for summary in _summaries(seeds)]))
            places = sorted({place for seeds in of_block.values() for place in seeds.columns})
            if len(places) <= _MOST_TICKS:
                axes.set_xticks(places)
            axes.set_ylim(-0.03, 1.03)
    add_legend(figure, [axes for row in rows for axes in row])
    return figure


def _draw_accuracy(axes: Axes, seeds: pd.DataFrame, shift: float, label: str, look: Look) -> None:
    color, line, marker = look
    x = seeds.columns + shift
    axes.plot(x, seeds.T.to_numpy(), color=color, alpha=0.3, linewidth=0.6)
    summaries = _summaries(seeds)
    mean = [summary.mean for summary in summaries]
    axes.plot(x, mean, color=color, linestyle=line, marker=marker, markersize=3, linewidth=1.5, label=label)
    for position, summary in zip(x, summaries, strict=True):
        if summary.is_interval:
            axes.vlines(position, summary.lower, summary.upper, color=color, linewidth=4, alpha=0.35)


def _summaries(seeds: pd.DataFrame) -> list[Summary]:
    return [summarize(seeds[position].to_numpy()) for position in seeds]


def draw_position_map(accuracy: pd.DataFrame) -> Figure:
    """Draw the accuracy at each serial position over training: a line for each position, colored by the accuracy.

    Args:
        accuracy: A row for each evaluation, by its env steps, and a column for each position, from 0; NaN, drawn white,
            where the position was not reached.
    """
    figure, (axes,) = new_figure(PAGE, 2.8)
    axes.grid(visible=False)
    places = accuracy.columns.to_numpy() + 1
    cells = axes.pcolormesh(accuracy.index, places, accuracy.T, shading="nearest", cmap="viridis", vmin=0.0, vmax=1.0)
    axes.set(xlabel="env steps", ylabel="serial position")
    axes.yaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.invert_yaxis()
    add_colorbar(figure, cells, [axes], "fraction right, greedy policy")
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
    figure, (axes,) = new_figure(PAGE * 2 / 3, 2.8)
    axes.stackplot(table.index, *(table[name] for name in table), labels=list(table), colors=COLORS, alpha=0.85)
    if line is not None:
        axes.plot(line.index, line, color="black", linewidth=1.5, label=line.name)
    for switch in switches:
        axes.axvline(switch, color="0.2", linestyle="--", linewidth=1)
    axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
    axes.margins(x=0)
    add_legend(figure, [axes])
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
    figure, panels = new_grid(len(matrices), 2.4)
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
        positions = [str(position + 1) for position in range(matrix.shape[0])]
        axes.set_yticklabels(positions if by_position else names[: matrix.shape[0]])
    add_colorbar(figure, image, panels, "share of choices")
    return figure


def draw_profiles(profiles: Mapping[str, FloatArray], thresholds: FloatArray, num_runs: Mapping[str, int]) -> Figure:
    """Draw performance profiles: the fraction of runs above each score.

    Args:
        profiles: [K] float for each condition.
        thresholds: [K] float, the scores.
        num_runs: Number of runs of each condition.
    """
    facets = panels_of(num_runs)
    labels = "final return (τ)", "fraction of runs with more than τ"
    figure, rows = new_panels([facet.title for facet in facets], [""], labels)
    for facet, (axes,) in zip(facets, rows, strict=True):
        axes.xaxis.set_major_locator(MaxNLocator(4))  # returns may lie between whole numbers
        _draw_steps(axes, {name: (thresholds, of_one) for name, of_one in profiles.items()}, facet, num_runs)
    add_legend(figure, [axes for (axes,) in rows])
    return figure
