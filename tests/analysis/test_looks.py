"""Tests of how figures distinguish conditions."""

import numpy as np
import pandas as pd
import pytest

from seqrl_lightning.analysis.figures import ReferenceLine, draw_learning
from seqrl_lightning.analysis.looks import COLORS, LINES, MARKERS, looks_of


def test_conditions_that_cross_two_factors_share_colors_and_dashes() -> None:
    """The color tells the level of the first factor, dashes and marker that of the second."""
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
    for count in (2, 24):
        curves = {f"condition {i}": [pd.Series(np.arange(3.0))] for i in range(count)}
        figure = draw_learning({0: curves}, "env steps", [ReferenceLine("mastery", 1.0, ":")], [""])
        figure.canvas.draw()
        heights.append(figure.axes[0].get_window_extent().height)
    assert heights[1] > 0.85 * heights[0] > 0


def test_a_curve_of_one_evaluation_is_seen() -> None:
    """Its end is marked: a line from one point to itself shows nothing."""
    figure = draw_learning({0: {"a": [pd.Series([1.0], index=[4000])]}}, "env steps", [], [""])
    (line,) = (line for line in figure.axes[0].get_lines() if line.get_label() == "a (n = 1)")
    assert line.get_marker() == MARKERS[0]
    assert line.get_markevery() == [-1]
