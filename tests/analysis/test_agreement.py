"""Comparisons of conditions whose tasks or learners differ: no statement about all of them is that of the first one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.axes import Axes

from seqrl_lightning.analysis import sections
from seqrl_lightning.analysis.chance import Chance
from seqrl_lightning.analysis.curves import Axis
from seqrl_lightning.analysis.figures import ReferenceLine, draw_learning
from seqrl_lightning.analysis.looks import COLORS
from seqrl_lightning.analysis.report import Section
from seqrl_lightning.analysis.sections.agreement import block_titles, reference_lines
from tests.analysis.made_runs import BEST, make_run

EPISODES = Axis("episodes", "all runs had a budget of 40 training episodes")
PICKS = [(episode, block, letter, False) for episode, block in ((0, 0), (1, 1)) for letter in ("ABC", "CBA")[block]]
ONE_BLOCK: dict[str, Any] = {"returns": ([BEST] * 20,), "trials": PICKS[:3], "probes": PICKS[:3]}
TWO_BLOCKS: dict[str, Any] = {"trials": PICKS, "probes": PICKS}


def panels_of(section: Section) -> list[Axes]:
    assert section.figure is not None
    return section.figure.axes


def lines_of(axes: Axes) -> dict[str, tuple[float, Any]]:
    """The height, at their end, and the color of the lines that are drawn under a label."""
    named = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    lines = [line for line in named if len(pd.Series(line.get_ydata()))]
    return {str(line.get_label()): (float(pd.Series(line.get_ydata()).iloc[-1]), line.get_color()) for line in lines}


@pytest.mark.parametrize("names", [("one", "two"), ("two", "one")])
def test_conditions_with_different_numbers_of_blocks(names: tuple[str, str], tmp_path: Path) -> None:
    """A panel has the conditions that reached its block, in their color."""
    made = {"one": ONE_BLOCK, "two": TWO_BLOCKS}
    groups = {name: [make_run(tmp_path / name, **made[name])] for name in names}
    color = COLORS[names.index("two")]
    chances = {name: Chance(0.5, 20.0, 30.0) for name in names}
    for section, value in ((sections.learning(groups, EPISODES, chances), BEST), (sections.positions(groups), 1.0)):
        first, second = panels_of(section)
        assert (first.get_title(), second.get_title()) == ("block 0: ABC", "block 1: CBA")
        assert {"one (n = 1)", "two (n = 1)", "random choices"} <= set(lines_of(first))
        assert "one (n = 1)" not in lines_of(second)
        assert lines_of(first)["two (n = 1)"] == lines_of(second)["two (n = 1)"] == (value, color)


def test_a_condition_looks_the_same_in_all_figures(tmp_path: Path) -> None:
    """Also if it was not evaluated in the first block, where the caption says so; and the legend has one order."""
    late = [make_run(tmp_path / f"late {seed}", seed, curve={90: 1.0}) for seed in (1, 2)]
    some = [make_run(tmp_path / "some", 1, curve={90: 1.0}), make_run(tmp_path / "whole", 2)]
    groups = {"late": late, "some": some}
    section = sections.learning(groups, EPISODES, {})
    first, second = panels_of(section)
    assert "late (n = 2)" not in lines_of(first)
    assert [lines_of(second)[f"{name} (n = 2)"][1] for name in groups] == list(COLORS[:2])
    assert lines_of(first)["some (n = 2)"][1] == COLORS[1]
    assert section.figure is not None
    (legend,) = section.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["late (n = 2)", "some (n = 2)", "mastery"]
    lacking = "0 of 2 runs of late in block 0: ABC; 1 of 2 runs of some in block 0: ABC."
    assert f"Not every run was evaluated: {lacking}" in section.text
    assert "Not every run" not in sections.learning({"whole": some[1:]}, EPISODES, {}).text
    assert (
        "Not every run was evaluated: no run in block 0: ABC." in sections.learning({"late": late}, EPISODES, {}).text
    )


def test_a_block_whose_order_differs_between_conditions_has_a_number_alone(tmp_path: Path) -> None:
    def run(second: str) -> Any:
        blocks = [{"sequence": "ABC", "episodes": 20}, {"sequence": second}]
        return make_run(tmp_path / second, data={"env_kwargs": {"objects": "ABC", "blocks": blocks}})

    assert block_titles({"a": [run("CBA")], "b": [run("BAC")]}) == ["block 0: ABC", "block 1"]
    assert block_titles({"a": [run("ACB")]}) == ["block 0: ABC", "block 1: ACB"]
    assert block_titles({"a": [make_run(tmp_path / "one", **ONE_BLOCK)]}) == [""]


def test_conditions_with_different_optima_have_a_line_each(tmp_path: Path) -> None:
    def learning(**objects: str) -> Section:
        groups = {
            name: [make_run(tmp_path / name, returns=([BEST] * 20,), data={"env_kwargs": {"objects": of_one}})]
            for name, of_one in objects.items()
        }
        return sections.learning(
            groups, EPISODES, {name: Chance(len(of_one) / 4, 9.0, 12.0) for name, of_one in objects.items()}
        )

    differing = learning(short="ABC", long="ABCDE", also_long="ABCDE")
    (axes,) = panels_of(differing)
    found = {label: line for label, line in lines_of(axes).items() if "n = " not in label}
    assert found == {
        "mastery, 3 (short)": (3.0, COLORS[0]),
        "mastery, 5 (long; also_long)": (5.0, COLORS[1]),
        "random choices, 0.75 (short)": (0.75, COLORS[0]),
        "random choices, 1.25 (long; also_long)": (1.25, COLORS[1]),
    }
    (axes,) = panels_of(learning(a="ABC", b="ABC"))
    found = {label: line for label, line in lines_of(axes).items() if "n = " not in label}
    assert found == {"mastery": (3.0, "0.4"), "random choices": (0.75, "0.4")}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"a": 2.0, "b": 2.0}, [(2.0, ())]),
        ({"a": 5.0, "b": 2.0, "c": 5.0}, [(2.0, ["b"]), (5.0, ["a", "c"])]),
        ({"a": 2.0, "b": None}, [(2.0, ["a"])]),
        ({"a": None, "b": None}, []),
        ({"a": 10.0, "b": 10.4}, [(10.2, ())]),  # within 5 %
        ({"a": 10.0, "b": 10.4, "c": 10.8}, [(10.2, ["a", "b"]), (10.8, ["c"])]),  # no chain of near values is one
        ({"a": 0.0, "b": 0.1}, [(0.0, ["a"]), (0.1, ["b"])]),
    ],
)
def test_a_line_holds_for_the_conditions_that_agree(values: Mapping[str, float | None], expected: object) -> None:
    found = reference_lines("mastery", ":", values, tolerance=0.05)
    assert [(pytest.approx(line.value), line.conditions) for line in found] == expected


def test_without_a_tolerance_no_two_values_are_one() -> None:
    assert [line.value for line in reference_lines("mastery", ":", {"a": 0.9, "b": 0.94})] == [0.9, 0.94]


def test_a_line_is_in_the_panels_of_its_conditions() -> None:
    curve = [pd.Series([1.0, 2.0])]
    lines = [ReferenceLine("mastery", 3.0, ":", ["a", "b"]), ReferenceLine("mastery", 5.0, ":", ["c"])]
    curves = {0: {"a": curve, "b": curve, "c": curve}, 1: {"b": curve}}
    panels = draw_learning(curves, dict.fromkeys("abc", 1), "trials", lines, ["", ""]).axes
    assert {"mastery, 3 (a; b)", "mastery, 5 (c)"} <= set(lines_of(panels[0]))
    assert "mastery, 5 (c)" not in lines_of(panels[1])
    assert [lines_of(axes)["mastery, 3 (a; b)"] for axes in panels] == [(3.0, COLORS[0])] * 2


def test_all_learners_are_named(tmp_path: Path) -> None:
    def text(**learners: str) -> str:
        groups = {
            name: [make_run(tmp_path / name, model={"class_path": f"a.{learner}"})]
            for name, learner in learners.items()
        }
        return sections.methods(groups, EPISODES, "seqrl compare").text

    trained = "trained on seqrl/SequenceDistractor-v0 (blocks ["
    found = text(a="DQN", b="C51", c="DQN")
    assert found.startswith(f"DQN (a; c) and C51 (b) were {trained}")
    assert " Conditions differed in model, DQN (a; c) or C51 (b). " in found
    assert text(d="C51", e="C51").startswith(f"C51 was {trained}")
