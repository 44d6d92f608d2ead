"""Tests of how figures distinguish conditions."""

import numpy as np
import pandas as pd
import pytest

from seqrl_lightning.analysis.canvas import PAGE
from seqrl_lightning.analysis.figures import ReferenceLine, draw_learning
from seqrl_lightning.analysis.looks import COLORS, LINES, MARKERS, MOST_IN_A_PANEL, looks_of, panels_of


def test_curves_of_crossed_conditions_that_lie_on_each_other_are_seen() -> None:
    """The color tells the level of the first factor, the marker that of the second, and no two have the same dashes."""
    looks = looks_of(f"memory={memory}, delay={delay}" for memory in ("gru", "lstm") for delay in (4, 8))
    assert [look.color for look in looks.values()] == [COLORS[i] for i in (0, 0, 1, 1)]
    assert [look.marker for look in looks.values()] == [MARKERS[i] for i in (0, 1, 0, 1)]
    assert [look.line for look in looks.values()] == list(LINES)


def test_conditions_that_cross_two_factors_share_colors_and_dashes() -> None:
    """With more than four, the dashes tell the level of the second factor too."""
    looks = looks_of(f"memory={memory}, delay={delay}" for memory in ("gru", "lstm", "frames") for delay in (4, 8))
    assert [look.color for look in looks.values()] == [COLORS[i] for i in (0, 0, 1, 1, 2, 2)]
    assert [look.line for look in looks.values()] == [LINES[i] for i in (0, 1, 0, 1, 0, 1)]
    assert [look.marker for look in looks.values()] == [MARKERS[i] for i in (0, 1, 0, 1, 0, 1)]


@pytest.mark.parametrize(
    "names",
    [
        [f"delay={delay}" for delay in range(28)],
        [f"a={i}, b={i}" for i in range(28)],  # not crossed
        [f"a={i}, b={j}" for i in range(8) for j in range(3)],  # more levels than colors
        [f"a={i}, b={j}" for i in range(4) for j in range(5)],  # more levels than dashes
        ["a=1, b=1", "a=1, b=2", "a=2, b=1", "plain"],
    ],
)
def test_no_two_conditions_look_the_same(names: list[str]) -> None:
    """As lines they differ in color or dashes, as points in color or marker."""
    looks = looks_of(names)
    assert list(looks) == names
    assert len({(look.color, look.line) for look in looks.values()}) == len(names)
    assert len({(look.color, look.marker) for look in looks.values()}) == len(names)


def test_a_long_legend_leaves_the_curves_their_space() -> None:
    """The figure grows instead."""
    heights = []
    for count in (1, 20):
        curves = {f"condition {i}": [pd.Series(np.arange(3.0))] for i in range(4)}
        lines = [ReferenceLine("mastery", 1.0 + i, ":", [f"condition {i % 4}"]) for i in range(count)]
        figure = draw_learning({0: curves}, dict.fromkeys(curves, 1), "env steps", lines, [""])
        figure.canvas.draw()
        heights.append(figure.axes[0].get_window_extent().height)
    assert heights[1] > 0.85 * heights[0] > 0


def test_a_curve_of_one_evaluation_is_seen() -> None:
    """Its end is marked: a line from one point to itself shows nothing."""
    figure = draw_learning({0: {"a": [pd.Series([1.0], index=[4000])]}}, {"a": 1}, "env steps", [], [""])
    (line,) = (line for line in figure.axes[0].get_lines() if line.get_label() == "a (n = 1)")
    assert line.get_marker() == MARKERS[0]
    assert line.get_markevery() == [-1]


MEMORIES = [f"memory={memory}, delay={delay}" for memory in ("gru", "lstm", "mlp") for delay in (4, 8)]


def test_up_to_four_conditions_share_a_panel_and_more_are_divided() -> None:
    (panel,) = panels_of(MEMORIES[:4])
    assert (panel.title, panel.looks) == ("", looks_of(MEMORIES[:4]))
    panels = panels_of(MEMORIES)
    assert [panel.title for panel in panels] == ["memory=gru", "memory=lstm", "memory=mlp"]
    assert [list(panel.looks) for panel in panels] == [MEMORIES[i : i + 2] for i in (0, 2, 4)]
    assert {tuple(panel.labels.values()) for panel in panels} == {("delay=4", "delay=8")}
    assert len({tuple(panel.looks.values()) for panel in panels}) == 1  # a level looks the same in each
    assert len(set(panels[0].looks.values())) == 2
    by_delay = panels_of(f"memory={memory}, delay={delay}" for memory in "ab" for delay in range(5))
    assert [panel.title for panel in by_delay] == [f"delay={delay}" for delay in range(5)]


@pytest.mark.parametrize(
    "names", [[f"delay={i}" for i in range(10)], [f"a={i}, b={j}" for i in range(5) for j in "vwxyz"]]
)
def test_conditions_that_cross_no_small_factor_have_a_panel_each(names: list[str]) -> None:
    assert [(panel.title, list(panel.looks)) for panel in panels_of(names)] == [(name, [name]) for name in names]


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(("num_conditions", "num_blocks"), [(1, 1), (2, 4), (4, 7), (10, 1), (5, 2), (5, 6)])
def test_no_figure_is_wider_than_a_page_and_each_block_of_a_condition_is_in_one_panel(
    num_conditions: int, num_blocks: int
) -> None:
    conditions = [f"delay={i}" for i in range(num_conditions)]
    curves = {
        block: {name: [pd.Series([float(i), block])] for i, name in enumerate(conditions)}
        for block in range(num_blocks)
    }
    titles = [f"block {block}" for block in curves]
    figure = draw_learning(curves, dict.fromkeys(conditions, 1), "env steps", [], titles)
    assert figure.get_figwidth() <= PAGE
    shown = [axes for axes in figure.axes if axes.get_visible()]
    found = sorted(
        (axes.get_title(), line.get_ydata()[0], line.get_ydata()[-1])
        for axes in shown
        for line in axes.get_lines()
        if len(line.get_ydata()) == 2 and line.get_linewidth() == 1.5
    )
    is_divided = num_conditions > MOST_IN_A_PANEL
    assert found == sorted(
        (f"{name}\n{title}" if is_divided else title, i, block)
        for block, title in enumerate(titles)
        for i, name in enumerate(conditions)
    )
    others = {line.get_label() for axes in shown for line in axes.get_lines()} & {"other conditions"}
    assert bool(others) == is_divided
