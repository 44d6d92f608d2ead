"""Experiments: conditions are named after their levels, and two factors have main effects and an interaction."""

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.statistics import SCORES, rejections_of_effects
from seqrl_lightning.analysis.comparison import sections_on_conditions
from seqrl_lightning.analysis.conditions import conditions_of
from seqrl_lightning.analysis.curves import Axis
from seqrl_lightning.analysis.factors import Crossing, contrasts, crossing_of, effects, studentized_interval
from seqrl_lightning.analysis.levels import FILE, Levels, read_levels, write_levels
from seqrl_lightning.analysis.outcomes import Outcome
from seqrl_lightning.analysis.runs import Run, find_runs
from seqrl_lightning.types import ConfigurationError
from tests.analysis.made_runs import BEST, make_run

CELLS = [("short", "LSTM"), ("short", "MLP"), ("long", "LSTM"), ("long", "MLP")]
EXTRA_EPISODES = dict(zip(CELLS, (2, 3, 4, 9), strict=True))  # before the rule is mastered


@pytest.fixture
def groups(tmp_path: Path) -> dict[str, list[Run]]:
    """Five seeds in each of four conditions, whose names don't sort like their places."""
    for place, cell in enumerate(CELLS):
        folder = tmp_path / "-".join(cell)
        returns = ([0.0] * EXTRA_EPISODES[cell] + [BEST] * 20,)
        for seed in range(5):
            run = folder / f"seed_{seed}" / "lightning_logs" / "version_0"
            make_run(run, seed, returns, model={"delay": cell[0], "network": cell[1]}, agent={"max_episodes": 30})
        write_levels(Levels(place, dict(zip(("delay", "memory"), cell, strict=True))), folder)
    return conditions_of(find_runs([str(tmp_path)]))


def test_conditions_are_named_and_ordered_as_in_the_design(groups: dict[str, list[Run]]) -> None:
    assert list(groups) == [f"delay={delay}, memory={memory}" for delay, memory in CELLS]
    assert [len(runs) for runs in groups.values()] == [5] * 4


def test_levels_that_hide_a_difference_do_not_name_conditions(groups: dict[str, list[Run]]) -> None:
    (first, *_), (second, *_) = list(groups.values())[:2]
    write_levels(second.levels, first.folder)  # nearer than the condition's own
    assert list(conditions_of([Run(first.folder), second])) == ["network=LSTM", "network=MLP"]


def test_contrasts_of_two_factors(groups: dict[str, list[Run]]) -> None:
    crossing = crossing_of(groups)
    assert crossing is not None
    rng = np.random.default_rng(0)
    values = {name: mean + rng.normal(0, 0.1, 7) for name, mean in zip(groups, (1.0, 2.0, 3.0, 8.0), strict=True)}
    found = effects(Outcome("errors", values), crossing)
    assert [name for _, name in found.index] == [
        "delay: long - short",
        "memory: MLP - LSTM",
        "interaction delay x memory: (long - short) x (MLP - LSTM)",
    ]
    np.testing.assert_allclose(found["contrast"], [4.0, 3.0, 4.0], atol=0.25)
    assert (found["lower"] < found["contrast"]).all()
    assert (found["contrast"] < found["upper"]).all()
    few = effects(Outcome("errors", {name: of_one[:4] for name, of_one in values.items()}), crossing)
    assert few["lower"].isna().all()


def test_contrasts_of_more_than_two_levels_are_differences_from_the_first() -> None:
    found = contrasts(
        Crossing(("memory", "delay"), (["a", "b", "c"], ["1", "2"]), ["a1", "a2", "b1", "b2", "c1", "c2"])
    )
    assert {name: weights.round(3).tolist() for name, weights in found.items()} == {
        "memory: b - a": [-0.5, -0.5, 0.5, 0.5, 0, 0],
        "memory: c - a": [-0.5, -0.5, 0, 0, 0.5, 0.5],
        "delay: 2 - 1": [-0.333, 0.333] * 3,
        "interaction memory x delay: (b - a) x (2 - 1)": [1, -1, -1, 1, 0, 0],
        "interaction memory x delay: (c - a) x (2 - 1)": [1, -1, 0, 0, -1, 1],
    }


@pytest.mark.slow
def test_without_an_effect_few_intervals_of_a_larger_design_exclude_zero() -> None:
    """300 experiments of 3 x 2 conditions with five runs each, five effects in each: about one in twenty."""
    rates = rejections_of_effects(SCORES["normal"], (3, 2), 5, 300)
    assert len(rates) == 5
    assert 0.02 <= np.mean(list(rates.values())) <= 0.08


@pytest.mark.slow
@pytest.mark.parametrize(("scores", "design"), [("normal", (2, 2)), ("exponential", (3, 2))])
def test_without_an_effect_five_in_a_hundred_intervals_exclude_zero(scores: str, design: tuple[int, int]) -> None:
    """With five runs a condition: a percentile interval excludes it twice as often.

    `python -m benchmarks.statistics` has more designs and distributions of scores.
    """
    rates = rejections_of_effects(SCORES[scores], design, 5, 1000)
    assert 0.035 <= np.mean(list(rates.values())) <= 0.065


def test_an_interval_without_variance_is_a_point() -> None:
    assert studentized_interval([np.full(5, float(i)) for i in range(4)], np.array([1.0, -1.0, -1.0, 1.0])) == (
        0.0,
        0.0,
    )


@pytest.mark.slow
def test_the_report_has_them_and_other_designs_have_none(groups: dict[str, list[Run]]) -> None:
    sections = {section.name: section for section in sections_on_conditions(groups, Axis("episodes", ""))}
    table = sections["factors"].table
    assert table is not None
    assert table.loc["episodes to criterion"]["contrast"].tolist() == [4.0, 3.0, 4.0]
    three = dict(list(groups.items())[:3])
    assert crossing_of(three) is None
    assert "factors" not in {section.name for section in sections_on_conditions(three, Axis("episodes", ""))}


def test_a_file_of_levels_that_is_no_such_file_is_refused(tmp_path: Path) -> None:
    for text in (
        "{}",
        "3",
        '{"place": "x", "levels": {}}',
        '{"place": 1e999, "levels": {}}',
        '{"place": 1, "levels": []}',
    ):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(ConfigurationError, match="it must have place and levels"):
            read_levels(tmp_path)
    for text in ("gamma: 0.9", "[" * 100_000, f'{{"place": {"9" * 10_000}}}'):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(ConfigurationError, match="isn't JSON as the package writes it"):
            read_levels(tmp_path)
    (tmp_path / FILE).unlink()
    os.mkfifo(tmp_path / FILE)  # which would be waited for
    assert read_levels(tmp_path.parent) == Levels()
