"""Reports don't mislead: on runs written by hand, each number and each pooling is the one that is right."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seqrl_lightning.analysis import sections
from seqrl_lightning.analysis.canvas import new_figure
from seqrl_lightning.analysis.comparison import note_on_shared_seeds, sections_on_conditions, too_few_for_tests
from seqrl_lightning.analysis.conditions import conditions_of, one_condition
from seqrl_lightning.analysis.curves import (
    Axis,
    Stretch,
    axis_of,
    common_stretch,
    curves_of_block,
    evaluations,
    mean_over_training,
    note_on_lengths,
    note_on_training,
    on_grid,
    shared_axis,
    unfinished,
)
from seqrl_lightning.analysis.figures import draw_curves
from seqrl_lightning.analysis.levels import Levels, write_levels
from seqrl_lightning.analysis.looks import looks_of
from seqrl_lightning.analysis.measures import accuracy_by_position, criterion_by_block, probes_at
from seqrl_lightning.analysis.outcomes import compare, different_rules, final_returns, outcomes, why_left_out
from seqrl_lightning.analysis.report import Section
from seqrl_lightning.analysis.runs import Run
from seqrl_lightning.analysis.trials import accuracy_of_probes
from seqrl_lightning.types import ConfigurationError
from tests.analysis.made_runs import BEST, make_run
from tests.running import seqrl

EPISODES = Axis("episodes", "")


def table_of(section: Section) -> pd.DataFrame:
    assert section.table is not None
    return section.table


def test_a_block_that_never_met_the_criterion_counts_as_slow(tmp_path: Path) -> None:
    never = make_run(tmp_path / "never", 1, ([0.0] * 4 + [BEST] * 16, [0.0] * 16 + [BEST] * 4))
    found = criterion_by_block(never.episodes, never.facts)
    assert found["episodes"].tolist() == [5, 16]
    assert found["env_steps"].tolist() == [15, 48]
    assert found["is_met"].tolist() == [True, False]
    runs = [never, make_run(tmp_path / "a", 2), make_run(tmp_path / "b", 3, ([0.0] * 19 + [BEST], [0.0] * 20))]
    table = table_of(sections.criterion(runs, {}))
    assert table["block 0"].tolist() == ["5", "5", "> 16", "5"]  # the last is the median
    assert table["block 1"].tolist() == ["> 16", "10", "> 16", "> 16"]
    np.testing.assert_allclose(table["savings, block 1"], [np.nan, -0.5, np.nan, np.nan])  # no median of two of three


def test_a_block_that_was_mastered_at_once_has_no_savings(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 1, ([BEST] * 20, [0.0] * 16 + [BEST] * 5))
    table = table_of(sections.criterion([run], {}))
    assert table["block 0"].iloc[0] == "1"
    assert table["block 1"].iloc[0] == "17"
    assert table["savings, block 1"].isna().all()


def test_blocks_that_never_began_are_not_censored_at_zero(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 1, ([BEST] * 6, []))
    assert criterion_by_block(run.episodes, run.facts).index.tolist() == [0]


def test_a_runs_curve_holds_after_its_end() -> None:
    short, long = pd.Series({10: 0.0, 20: 5.0}), pd.Series({5: 0.0, 15: 4.0, 40: 5.0})
    grid = on_grid([short, long])
    assert grid.index.tolist() == [10, 15, 20, 40]  # from the first one that both have reached
    assert grid[0].tolist() == [0, 0, 5, 5]
    assert grid[1].tolist() == [0, 4, 4, 5]
    curves = {"a": [short], "b": [long]}
    stretch = common_stretch(curves)
    assert stretch == (10, 40)
    means = mean_over_training(curves, stretch)
    assert means["a"].tolist() == [(10 * 0 + 20 * 5) / 30]
    assert means["b"].tolist() == [(5 * 0 + 25 * 4) / 30]


def test_a_block_that_ended_keeps_nothing(tmp_path: Path) -> None:
    """Block 0 ends after 12 episodes of 3 env steps in one condition, and after 30 in the other."""
    twelve = make_run(tmp_path / "12", 1, ([0.0] * 12, [0.0] * 8), curve={9: 1.0, 24: 3.0, 36: 0.5, 54: 2.0})
    thirty = make_run(tmp_path / "30", 1, ([0.0] * 30, [0.0] * 8), curve={6: 0.5, 30: 2.0, 60: 3.0, 99: 1.0, 108: 2.0})
    tables = {name: [evaluations(run, "env_steps")] for name, run in (("12", twelve), ("30", thirty))}
    first = {name: curves_of_block(of_one, 0) for name, of_one in tables.items()}
    assert first["12"][0].index.tolist() == [9, 24, 36]
    assert np.isnan(first["12"][0].loc[36])
    assert on_grid(first["12"])[0].tolist() == [1.0, 3.0]
    assert on_grid([*first["12"], *first["30"]]).index.tolist() == [9, 24, 30]
    found = {outcome.name: outcome for outcome in outcomes({"12": [twelve], "30": [thirty]}, Axis("env_steps", ""))}
    block_0 = found["mean return over env steps in block 0"]
    assert block_0.values["12"].tolist() == pytest.approx([(15 * 1.0 + 12 * 3.0) / 27])
    assert block_0.values["30"].tolist() == pytest.approx([(21 * 0.5 + 6 * 2.0) / 27])
    assert "after 9 env steps since the start of the block, to 36 (at most to the end of the shortest" in block_0.note
    block_1 = found["mean return over env steps in block 1"]  # in which both runs ended: 0 and 18; 9 and 18
    assert block_1.values["12"].tolist() == [0.5]
    assert block_1.values["30"].tolist() == [1.0]
    assert "after 9 env steps since the start of the block, to 18 " in block_1.note


@pytest.mark.parametrize(
    "early",
    [{9: 1.0, 24: 3.0, 60: 2.0}, {9: 1.0}],  # one evaluation in the later one's time; a run that ended at once
)
def test_a_mean_of_one_evaluation_is_left_out(tmp_path: Path, early: dict[int, float]) -> None:
    returns = ([0.0] * 20,)
    groups = {
        "early": [make_run(tmp_path / "early", 1, returns, curve=early)],
        "late": [make_run(tmp_path / "late", 1, returns, curve={60: 3.0})],
    }
    found = {section.name: section for section in sections_on_conditions(groups, Axis("env_steps", ""))}
    left_out = "Left out, because the conditions have at most one evaluation in common: mean return over env steps."
    assert left_out in found["tests"].text
    assert table_of(found["tests"]).index.get_level_values("outcome").unique().tolist() == [
        "episodes to criterion",
        "final return",
    ]


def test_there_is_no_stretch_where_a_block_ended_before_the_others_first_evaluation() -> None:
    ended, late = pd.Series({5: 1.0, 8: 2.0, 10: np.nan}), pd.Series({10: 0.0, 20: 1.0})
    assert common_stretch({"a": [ended], "b": [late]}) is None
    assert on_grid([ended, late]).empty
    assert common_stretch({"a": [ended], "b": [late.rename(index={10: 6, 20: 7})]}) == Stretch(6, 10)
    draw_curves(new_figure()[1][0], [ended, late], "a", looks_of(["a"])["a"])


def test_captions_say_which_part_of_training_counts(tmp_path: Path) -> None:
    curve, returns = {9: 1.0, 24: 3.0, 60: 2.0}, ([0.0] * 20,)
    short = [make_run(tmp_path / "short", 1, returns, curve=curve)]
    long = [make_run(tmp_path / "long", 1, returns, lengths=5, curve=curve)]
    on_steps = Axis("env_steps", "")
    found = {section.name: section.text for section in sections_on_conditions({"short": short, "long": long}, on_steps)}
    assert (
        "The mean return over env steps is taken from the first evaluation that all runs have reached, after 9 env "
        "steps, to 60; earlier training doesn't count. Env steps" in found["outcomes"]
    )
    for name in ("learning", "outcomes"):
        assert "Env steps count the steps of a delay too" in found[name]
    assert note_on_lengths({"short": short, "long": long}, EPISODES) == ""
    assert note_on_lengths({"short": short, "same": short}, on_steps) == ""


def test_captions_say_how_long_a_run_that_ended_is_held(tmp_path: Path) -> None:
    """Over an axis on which runs had different budgets, one that trained less keeps its last value."""
    returns = ([0.0] * 20,)
    short = make_run(tmp_path / "short", 1, returns, curve={9: 1.0, 24: 3.0, 60: 2.0})
    long = make_run(tmp_path / "long", 1, returns, lengths=9, curve={9: 1.0, 90: 3.0, 180: 2.0})
    found = {outcome.name: outcome for outcome in outcomes({"a": [short], "b": [long]}, Axis("env_steps", ""))}
    held = found["mean return over env steps"]
    assert held.note.endswith("Runs that ended before, the first one after 60, keep their last value up to there.")
    assert held.values["a"].tolist() == [(15 * 1.0 + 36 * 3.0 + 120 * 2.0) / 171]


def test_curves_are_aligned_to_the_switch_of_each_run(tmp_path: Path) -> None:
    curve = {30: 0.0, 60: 3.0, 63: 1.0, 90: 2.0}
    early = make_run(tmp_path / "early", 1, curve=curve)  # the switch is at env step 60
    late = make_run(tmp_path / "late", 2, lengths=6, curve={2 * steps: value for steps, value in curve.items()})
    for run in (early, late):
        found = evaluations(run, "episodes")
        assert found["block"].tolist() == [0, 1, 1, 1]
        assert found["x"].tolist() == [10, 0, 1, 10]
        assert found["return"].tolist() == [0.0, 3.0, 1.0, 2.0]
    assert evaluations(late, "env_steps")["x"].tolist() == [60, 0, 6, 60]


def test_the_axis_is_the_budget_that_runs_have_in_common(tmp_path: Path) -> None:
    short = make_run(tmp_path / "short", 1)
    long = make_run(tmp_path / "long", 1, lengths=9, data={"num_envs": 2})
    assert shared_axis([short, long]) == ("episodes", "all runs had a budget of 40 training episodes")
    other = make_run(tmp_path / "other", 1, agent={"max_episodes": 30})
    assert shared_axis([short, other]).name == "env_steps"
    assert axis_of([short], "updates").name == "updates"
    with pytest.raises(ConfigurationError, match="--axis is 'trials'; it must be one of"):
        axis_of([short], "trials")
    with pytest.raises(ConfigurationError, match="--axis is 'steps'; it must be one of env_steps, episodes, updates "):
        axis_of([short], "steps")


def test_trials_are_the_choices_for_which_an_action_was_right(tmp_path: Path) -> None:
    picks = [(episode, 0, letter, False) for episode in range(4) for letter in "ABC"]
    run = make_run(tmp_path / "run", 1, ([BEST] * 4,), trials=picks, curve={3: 0.0, 6: 1.0, 12: 2.0})
    table = pd.read_csv(run.folder / "trials.csv")
    table.loc[table["trial"] % 3 == 1, "correct_action"] = -1  # as while waiting
    table.to_csv(run.folder / "trials.csv", index=False)
    axis = axis_of([run], "trials")
    assert axis.label == "trials"
    assert evaluations(run, axis.name)["x"].tolist() == [2.0, 4.0, 8.0]


def test_runs_that_have_not_reached_their_budget_are_named(tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", 1)
    early = make_run(tmp_path / "early", 2, agent={"max_episodes": 50})
    other_budget = make_run(tmp_path / "other", 3, agent={"max_episodes": None})
    assert [unfinished(run) for run in (whole, early, other_budget)] == [None, "40 of 50 training episodes", None]
    said = " Not all runs have reached their budget: {}seed 2 (40 of 50 training episodes)."
    assert sections.warning({"all runs": [whole, early]}) == said.format("")
    assert sections.warning({"delay=4": [early], "delay=8": [whole]}) == said.format("delay=4, ")
    assert sections.warning({"a": [whole], "b": [whole], "c": [other_budget]}) == " a and b have the same settings."
    assert sections.warning({"delay=4": [whole]}) == ""


def picks(*episodes: tuple[int, str]) -> list[tuple[int, int, str, bool]]:
    """The choices of episodes, each with its block and the objects chosen."""
    return [(number, block, letter, False) for number, (block, letters) in enumerate(episodes) for letter in letters]


def test_accuracy_and_errors_are_those_of_evaluations(tmp_path: Path) -> None:
    trained = picks(*[(0, "ZZZABC")] * 4)  # random choices, which say nothing about the policy
    probes = picks((0, "ZZZABC"), (0, "ACBC"), (1, "AACBA"), (1, "CBA"))
    run = make_run(tmp_path / "run", trials=trained, probes=probes)
    assert run.probes is not None
    found = accuracy_by_position(probes_at(run.probes, "last")).loc[0]
    assert found["accuracy"].tolist() == [1.0, 0.5, 1.0]
    assert found["choices"].tolist() == [1, 2, 1]
    over_training = accuracy_of_probes(run.folder / "probes.csv", run.facts)
    assert over_training.index.tolist() == [10, 20, 30, 40]
    assert over_training.loc[20].tolist() == [1.0, 0.5, 1.0]
    errors = sections.probed_errors({"all": [run]}).table
    assert errors is not None
    assert errors.loc[("all", 0, "first")].tolist() == [0.5, 0.0, 0.0, 0.0, 0.5]
    assert errors.loc[("all", 1, "first"), "right"] == 3 / 5
    assert errors.loc[("all", 1, "first"), "perseverative"] == 1 / 5  # A once more
    assert errors.loc[("all", 1, "last"), "right"] == 1.0
    without = make_run(tmp_path / "without", 2, trials=trained)
    section = sections.positions({"all": [run, without]})
    assert section.figure is None
    assert "Not every run has" in section.text


def test_objects_that_are_right_at_one_position_are_not_mixed(tmp_path: Path) -> None:
    probes = picks((0, "ABC"), (1, "CBA"))
    run = make_run(tmp_path / "run", trials=probes, probes=probes)
    by_position = sections.confusions([run], run.facts.order)
    assert by_position.data is not None
    assert set(by_position.data["block"]) == {"block 0", "block 1"}
    assert run.probes is not None
    run.__dict__["probes"] = run.probes.assign(block=0, env_steps=0)  # as where a context decides
    mixed = sections.confusions([run], run.facts.order)
    assert mixed.data is not None
    assert "correct_action" in mixed.data
    right = mixed.data[mixed.data["correct_action"] == mixed.data["action"]]
    assert right["share"].dropna().tolist() == [1.0, 1.0, 1.0]


def test_conditions_are_told_apart_by_their_settings(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / f"{gamma}_{seed}", seed, model={"class_path": "a.DQN", "init_args": {"gamma": gamma}})
        for gamma in (0.9, 0.5)
        for seed in (2, 1)
    ]
    found = conditions_of(runs)
    assert list(found) == ["gamma=0.5", "gamma=0.9"]
    assert [run.seed for run in found["gamma=0.5"]] == [1, 2]
    assert one_condition(runs[:2])[0].seed == 1
    with pytest.raises(ConfigurationError, match=r"of 2 conditions \(gamma=0.5; gamma=0.9\); they must differ in"):
        one_condition(runs)
    with pytest.raises(ConfigurationError, match="have the same settings and seed 2; each seed"):
        conditions_of([runs[0], runs[0]])


def test_names_of_conditions_are_as_short_as_they_can_be(tmp_path: Path) -> None:
    def model(network: str, **settings: int) -> dict[str, object]:
        return {"init_args": {"network": {"class_path": f"x.{network}", "init_args": settings}}}

    gru = make_run(tmp_path / "gru", model=model("GRU", size=8), data={"size": 8})
    mlp = make_run(tmp_path / "mlp", model=model("MLP", size=9), data={"size": 9})
    small = make_run(tmp_path / "small", model=model("MLP", size=9), data={"size": 8})
    assert list(conditions_of([gru, mlp, small])) == [  # the network's own size goes with the network
        "size=8, network=GRU",
        "size=9, network=MLP",
        "size=8, network=MLP",
    ]


def test_conditions_never_share_a_name(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / f"{network}{size}", model={"network": {"class_path": network, "init_args": {"size": size}}})
        for network, size in (("MLP", 8), ("MLP", 9), ("GRU", 9))
    ]
    assert list(conditions_of(runs)) == ["network=MLP, size=8", "network=MLP, size=9", "network=GRU, size=9"]


def test_commands_refuse_to_pool_conditions(tmp_path: Path) -> None:
    for gamma in (0.5, 0.9):
        make_run(tmp_path / f"{gamma}", model={"gamma": gamma})
    for command, message in (
        (["analyse", f"{tmp_path}"], "the runs are of 2 conditions (gamma=0.5; gamma=0.9); they must differ in"),
        (["compare", f"--runs=all={tmp_path},one={tmp_path}/0.5"], "all are of 2 conditions"),
        (["compare", f"--runs=one={tmp_path}/0.5,two={tmp_path}/0.5"], "is in one and in two; each run must be in one"),
        (["compare", f"{tmp_path}/0.5"], "the runs are of one condition; they must be of several"),
        (["compare", f"{tmp_path}", "--effect=0.4"], "--effect is 0.4; it must be above 0.5 and at most 1"),
        (["compare"], "the runs are given twice or not at all"),
    ):
        status, _, err = seqrl(*command)
        assert status == 2
        assert message in err
        assert err.count("\n") == 1


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:  # type: ignore[type-arg]
    """Two conditions with five seeds: one learns the second rule five episodes later, and two of its seeds never."""
    root = tmp_path_factory.mktemp("groups")
    second = {"fast": [3, 4, 5, 6, 7], "slow": [8, 9, 10, 20, 20]}
    return {
        name: [
            make_run(root / name / str(seed), seed, ([BEST] * 20, [0.0] * wrong + [BEST] * (20 - wrong)))
            for seed, wrong in enumerate(of_seed)
        ]
        for name, of_seed in second.items()
    }


def test_speed_is_tested_with_the_runs_that_never_learn(groups: dict[str, list]) -> None:  # type: ignore[type-arg]
    found = {outcome.name: outcome for outcome in outcomes(groups, EPISODES)}
    speed = found["episodes to criterion in block 1"]
    assert speed.values["slow"].tolist() == [9, 10, 11, 16, 16]
    assert speed.is_met is not None
    assert speed.is_met["slow"].tolist() == [True, True, True, False, False]
    row = compare(speed).iloc[0]
    assert (row["A"], row["B"]) == ("fast", "slow")
    assert (row["A's middle"], row["B's middle"]) == (6, 11)
    assert row["P(A > B)"] == 0.0
    assert row["Cliff's delta"] == -1.0
    assert row["p"] == row["p (Holm)"] == pytest.approx(2 / 252)
    sections_of = {section.name: section for section in sections_on_conditions(groups, EPISODES)}
    assert "Left out, because not every run has a number: savings in block 1" in sections_of["tests"].text
    assert "savings in block 1" not in table_of(sections_of["tests"]).index.get_level_values("outcome")
    final = compare(found["final return"]).iloc[0]
    assert (final["P(A > B)"], final["p"]) == (0.5, 1.0)


def test_a_report_says_that_no_pair_can_differ_and_that_seeds_are_shared(groups: dict[str, list]) -> None:  # type: ignore[type-arg]
    five = {str(i): groups["fast"] for i in range(5)}
    assert too_few_for_tests({name: five[name] for name in "0123"}) == ""  # 6 * 2 / 252 is below 5 %
    said = too_few_for_tests(five)
    assert "with 10 pairs and these seeds, the smallest p (Holm) is 0.079" in said
    assert "It takes 6 seeds in each condition" in said  # 10 * 2 / 924
    many = dict.fromkeys(map(str, range(23)), groups["fast"])  # 253 pairs, of at least 2 / 10,000 each
    assert too_few_for_tests(many).endswith("It takes fewer conditions.")
    found = {section.name: section.text for section in sections_on_conditions(groups, EPISODES, effect=0.75)}
    assert "Conditions share seeds" in found["tests"]
    assert "No pair can reach" not in found["tests"] + found["planning"]
    assert note_on_shared_seeds({"one": groups["fast"][:2], "two": groups["slow"][2:]}) == ""


def test_fewer_than_five_seeds_are_not_tested(groups: dict[str, list]) -> None:  # type: ignore[type-arg]
    few = {name: runs[:4] for name, runs in groups.items()}
    table = pd.concat(compare(outcome) for outcome in outcomes(few, EPISODES) if not why_left_out(outcome))
    assert table[["p", "p (Holm)", "lower", "upper"]].isna().all(axis=None)
    found = {section.name: section for section in sections_on_conditions(few, EPISODES, effect=0.75)}
    assert "There is no test" in found["tests"].text
    assert table_of(found["returns"])["lower to upper"].tolist() == ["range", "range"]
    assert "each needs 21 seeds" in found["planning"].text
    assert found["criterion"].data is not None
    assert (~found["criterion"].data["is_met"]).sum() == 1


def test_a_run_that_ended_in_an_earlier_block_has_no_speed_in_the_later_one(tmp_path: Path) -> None:
    learned = (0.0,) * 4 + (BEST,) * 16
    whole = make_run(tmp_path / "whole", 1)
    short = make_run(tmp_path / "short", 2, (learned, ()))
    found = {outcome.name: outcome for outcome in outcomes({"one": [whole], "two": [short]}, EPISODES)}
    first, second = (found[f"episodes to criterion in block {block}"] for block in (0, 1))
    assert [first.values[name].tolist() for name in ("one", "two")] == [[5.0], [5.0]]
    assert not why_left_out(first)
    assert np.isnan(second.values["two"]).all()
    assert why_left_out(second) == "not every run has a number"
    text = {
        section.name: section.text for section in sections_on_conditions({"one": [whole], "two": [short]}, EPISODES)
    }
    why = "the conditions have at most one evaluation in common"
    assert f"Left out, because {why}: mean return over training episodes in block 1." in text["tests"]


def test_reports_say_that_conditions_trained_unequally(tmp_path: Path) -> None:
    """In as many episodes, longer ones are more to learn from."""
    short, long = make_run(tmp_path / "short"), make_run(tmp_path / "long", lengths=9)
    unequal = {"short": [short], "long": [long]}
    note = " Conditions differ in how much they trained (medians): env steps from 120 (short) to 360 (long)."
    assert note_on_training(unequal).startswith(note)
    assert note_on_training({"short": [short], "same": [short]}) == ""
    found = {section.name: section.text for section in sections_on_conditions(unequal, EPISODES)}
    assert note in found["learning"]
    assert note in found["tests"]
    assert note in sections.warning(unequal)


def test_reports_say_that_final_returns_are_under_different_rules(tmp_path: Path) -> None:
    second, first = make_run(tmp_path / "second"), make_run(tmp_path / "first", returns=([0.0] * 20, []))
    differing = "runs ended in different blocks (0 to 1), under different rules"
    groups = {"second": [second], "first": [first]}
    assert f"The {differing}: their final returns can't be compared." in sections.returns(groups).text
    found = {section.name: section for section in sections_on_conditions(groups, EPISODES)}
    assert f"Left out, because {differing}: final return." in found["tests"].text
    assert "final return" not in table_of(found["tests"]).index.get_level_values("outcome")
    assert found["profiles"].figure is None
    assert different_rules({"second": [second]}) == ""
    table = table_of(sections.returns({"both": [second, first], "second": [second]}))
    assert table["interquartile mean"].isna().tolist() == [True, False]
    assert table["each seed"].tolist() == ["3, 3", "3"]


def test_a_final_return_is_under_the_last_rule(tmp_path: Path) -> None:
    """A run that is killed after the switch, at env step 60, and before an evaluation has no return under the rule."""
    killed = make_run(tmp_path / "killed", 1, curve={30: 0.0, 57: BEST})
    whole = make_run(tmp_path / "whole", 2, curve={30: 0.0, 57: BEST, 60: 1.0})
    assert final_returns([killed, whole]).tolist() == [pytest.approx(np.nan, nan_ok=True), 1.0]
    found = {outcome.name: outcome for outcome in outcomes({"a": [killed], "b": [whole]}, EPISODES)}
    assert why_left_out(found["final return"]) == "not every run has a number"
    assert why_left_out(found["episodes to criterion in block 0"]) == ""


def test_outcomes_of_several_blocks_are_left_out_where_runs_reached_different_ones(tmp_path: Path) -> None:
    """And greedy choices are compared block by block: those of one condition may be of one rule only."""
    both = [(0, 0, letter, False) for letter in "ABC"] + [(1, 1, letter, False) for letter in "CAB"]
    second = [(0, 1, letter, False) for letter in "CBA"]
    early = make_run(tmp_path / "early", returns=([BEST] * 2, []), trials=both[:3], probes=both[:3])
    late = make_run(tmp_path / "late", trials=both, probes=second)
    whole = make_run(tmp_path / "whole", trials=both, probes=both)
    found = {outcome.name: outcome for outcome in outcomes({"late": [late], "whole": [whole]}, EPISODES)}
    first, last = (found[f"fraction right in the last evaluation in block {block}"] for block in (0, 1))
    assert why_left_out(first) == "not every run has a number"
    assert why_left_out(last) == why_left_out(found["share of choices that were errors"]) == ""
    assert [last.values[name].tolist() for name in ("late", "whole")] == [[1.0], [2 / 3]]  # C, A for B, B
    for section in (sections.positions, sections.probed_errors):
        text = section({"late": [late], "whole": [whole]}).text
        assert "Not every run was evaluated: 0 of 1 runs of late in block 0: ABC. " in f"{text} "
    found = {outcome.name: outcome for outcome in outcomes({"early": [early], "whole": [whole]}, EPISODES)}
    for name in ("final return", "share of choices that were errors", "share of exploration errors"):
        assert why_left_out(found[name]) == "runs ended in different blocks (0 to 1), under different rules"


def test_captions_define_what_they_show(groups: dict[str, list]) -> None:  # type: ignore[type-arg]
    found = {section.name: section for section in sections_on_conditions(groups, EPISODES)}
    for name in ("learning", "criterion", "outcomes", "profiles"):
        assert "n = 5 seeds in each condition" in found[name].text
    assert "mastered if its return is at least 3." in found["criterion"].text
    shown = [outcome for outcome in outcomes(groups, EPISODES) if outcome.is_met is None]
    assert all(outcome.definition for outcome in shown if not why_left_out(outcome))
    for outcome in shown:
        assert why_left_out(outcome) or outcome.definition in found["outcomes"].text
    few = {"fast": groups["fast"], "slow": groups["slow"][:4]}
    assert "n = 5 (fast); 4 (slow) seeds" in sections.learning(few, EPISODES, {}).text


def test_methods_state_settings_seeds_versions_and_commands(tmp_path: Path) -> None:
    model = {
        "class_path": "a.DQN",
        "init_args": {"gamma": 0.9, "network": {"class_path": "b.GRU", "init_args": {"hidden_size": 8}}},
    }
    runs = [make_run(tmp_path / "one" / str(seed), seed, model=model, data={"batch_size": 8}) for seed in (1, 2)]
    for run in runs:
        config = run.folder / "config.yaml"
        config.write_text("# torch 2.9\n# numpy 2.4\n" + config.read_text())
    text = sections.methods({"all runs": runs}, EPISODES, "seqrl analyse one").text
    assert "network GRU (hidden_size 8), discount factor 0.9, batch size 8, training episodes 40." in text
    assert "The seeds were 1, 2. Runs were trained with torch 2.9, numpy 2.4." in text
    assert f"by `seqrl fit --config {runs[0].folder}/config.yaml --seed_everything SEED --trainer." in text
    for place, run in enumerate(runs):
        write_levels(Levels(place, {"a": str(place)}, "seqrl experiment x.yaml"), run.folder)
    again = [Run(run.folder) for run in runs]
    text = sections.methods({"a=0": again[:1], "a=1": again[1:]}, EPISODES, "seqrl compare one").text
    assert "The seeds were 1 (a=0); 2 (a=1)." in text
    assert "The runs were trained by `seqrl experiment x.yaml`." in text
