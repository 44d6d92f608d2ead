"""Simulated subjects, recovery, and posterior predictive checks."""

import numpy as np
import pandas as pd
import pytest

from seqrl_lightning.behavior.checks import check, measure
from seqrl_lightning.behavior.fits import Fit, fit
from seqrl_lightning.behavior.histories import Histories, read_histories
from seqrl_lightning.behavior.model import find_model
from seqrl_lightning.behavior.recovery import (
    draw_points,
    inversion,
    recover_models,
    recover_parameters,
    summarize_recovery,
)
from seqrl_lightning.behavior.sections import recovered_parameters
from seqrl_lightning.behavior.simulation import TableTask, simulate
from seqrl_lightning.types import ConfigurationError
from tests.behavior.tables import bandit, histories_of, point


@pytest.fixture(scope="module")
def told() -> Histories:
    return read_histories(bandit(10, 120, alpha=(0.2, 0.6), beta=(2.0, 6.0, 4.0)))


@pytest.fixture(scope="module")
def learned(told: Histories) -> Fit:
    return fit(find_model("QLearning"), told)


def test_the_design_is_the_tables(told: Histories, learned: Fit) -> None:
    simulated = simulate(learned.model, told, learned.points, seed=1)
    for name in ("state", "position", "is_first", "is_last", "correct_action", "fold", "is_choice", "set_size"):
        np.testing.assert_array_equal(getattr(simulated, name), getattr(told, name))
    assert not (simulated.action == told.action).all()
    again = simulate(learned.model, told, learned.points, seed=1)
    np.testing.assert_array_equal(simulated.action, again.action)


def test_rewards_are_as_probable_as_in_the_table(told: Histories, learned: Fit) -> None:
    """By whether the choice was right, as the table tells that; by the action chosen if it does not."""
    for table in (told, told.with_columns(correct_action=np.full_like(told.action, -1))):
        simulated = simulate(learned.model, table, learned.points, seed=2)
        is_right = simulated.action == told.correct_action
        assert simulated.reward[is_right].mean() == pytest.approx(0.8, abs=0.08)
        assert simulated.reward[~is_right].mean() == pytest.approx(0.2, abs=0.08)


def test_episodes_follow_the_tables_transitions() -> None:
    """A right choice leads on, and a wrong one ends the episode."""
    rng = np.random.default_rng(0)
    rows: list[tuple[object, ...]] = []
    for subject in "ab":
        for episode in range(40):
            for position in range(3):
                action = int(rng.integers(2)) if rng.random() < 0.4 else position % 2
                is_right = action == position % 2
                rows.append((subject, episode, f"at {position}", action, float(is_right), position % 2))
                if not is_right:
                    break
    told = histories_of(rows, "subject episode state action reward correct_action")
    model = find_model("QLearning+gamma")
    points = np.repeat(point(model, alpha=0.5, beta=2.0, gamma=0.5), 2, axis=0)
    simulated = simulate(model, told, points, seed=0)
    is_right = simulated.action == simulated.correct_action
    shown = np.where(told.is_choice, simulated.position, -1)
    np.testing.assert_array_equal(simulated.reward[told.is_choice], is_right[told.is_choice])
    np.testing.assert_array_equal(simulated.state[told.is_choice], shown[told.is_choice])
    ends = ~is_right | (simulated.position == 2)
    for t in range(len(shown) - 1):
        goes_on = told.is_choice[t + 1]
        np.testing.assert_array_equal((shown[t + 1] == 0)[goes_on], ends[t][goes_on])
    assert 0 < is_right[told.is_choice].mean() < 1


def test_what_nobody_ever_chose_has_the_least_reward_of_the_state() -> None:
    told = histories_of([("s", a, r) for a, r in ((0, 1.0), (0, 0.0), (0, 1.0))] + [("t", 1, -1.0)])
    outcome = TableTask(told, seed=0).answer(2, np.array([0]), np.array([1]))
    assert outcome.reward.tolist() == [0.0]


def test_each_cue_keeps_its_rewards_where_the_right_action_is_told() -> None:
    """Right is rewarded in 9 of 10 for one cue and in 5 of 10 for the other, wrong never."""
    rows = [("AB" if t % 2 else "CD", int(t % 5 == 0), float(t // 2 % 10 < (9 if t % 2 else 5)), 0) for t in range(400)]
    told = histories_of([(s, a, r * (a == 0), c) for s, a, r, c in rows], "state action reward correct_action")
    simulated = simulate(find_model("Chance"), told, np.zeros((1, 0)), seed=0)
    for state, rate in ((0, 0.5), (1, 0.9)):
        is_right = (simulated.state == state) & (simulated.action == 0)
        assert simulated.reward[is_right].mean() == pytest.approx(rate, abs=0.1)
        assert simulated.reward[(simulated.state == state) & (simulated.action == 1)].max() == 0.0


def test_a_wrong_choice_in_a_state_without_one_has_the_outcome_of_wrong_choices() -> None:
    told = histories_of([("s", 0, 1.0, 0), ("t", 1, 0.0, 0)], "state action reward correct_action")
    outcome = TableTask(told, seed=0).answer(0, np.array([0]), np.array([1]))
    assert outcome.reward.tolist() == [0.0]


def test_outcomes_are_copied_equally_often() -> None:
    """The last choice before the subject turns away from an action is never rewarded, and stands alone in time."""
    actions = [0, 0, 0, 1] + [1] * 36
    told = histories_of([("s", a, float(a == 0 and t < 2)) for t, a in enumerate(actions)])
    task = TableTask(told, seed=0)
    first, shown = np.array([0]), np.array([0])
    drawn = [int(task.answer(t, shown, first).row[0]) for t in range(3, 33)]
    assert np.bincount(drawn).tolist() == [10, 10, 10]


@pytest.mark.slow
def test_a_subject_that_follows_the_model_repeats_choices_as_simulated() -> None:
    """With few trials per cue and block, where the outcomes of a choice that stands alone would count too much."""
    model = find_model("QLearning")
    told = read_histories(bandit(40, 120, alpha=(0.4,), beta=(4.0,)))
    points = np.repeat(point(model, alpha=0.4, beta=4.0), 40, axis=0)
    simulated = [measure(simulate(model, told, points, seed=seed)) for seed in range(3)]
    real, copied = measure(told), pd.concat(simulated).groupby(["measure", "x"], as_index=False)["value"].mean()
    after_reward = [table.query("measure == 'repeats' and x == 1")["value"].item() for table in (real, copied)]
    assert after_reward[1] == pytest.approx(after_reward[0], abs=0.01)


def test_missed_trials_are_missed_in_the_simulation() -> None:
    rows = [(e, p, -1 if p == 1 and e % 2 else p, 1.0) for e in range(8) for p in range(3)]
    told = histories_of(rows, "episode state action reward")
    simulated = simulate(find_model("Chance"), told, np.zeros((1, 0)), seed=0)
    np.testing.assert_array_equal(simulated.position, told.position)
    is_missed = ~simulated.is_choice
    assert (simulated.position[is_missed] == 1).all()
    assert 0 < is_missed.sum() <= 8
    np.testing.assert_array_equal(simulated.follows_choice[1:], ~simulated.is_first[1:] & ~is_missed[:-1])


def test_only_allowed_actions_are_simulated() -> None:
    rows = [("s", t % 2 + t % 3 % 2, 1.0, "0 1" if t % 2 == 0 else "1 2") for t in range(60)]
    told = histories_of(rows, "state action reward allowed")
    simulated = simulate(find_model("Chance"), told, np.zeros((1, 0)), seed=0)
    assert set(simulated.action[::2, 0].tolist()) == {0, 1}
    assert set(simulated.action[1::2, 0].tolist()) == {1, 2}


def test_choices_do_not_follow_the_outcomes(told: Histories) -> None:
    simulated = simulate(find_model("Chance"), told, np.zeros((10, 0)), seed=3)
    assert (simulated.action == told.correct_action).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.slow
def test_parameters_that_differ_are_recovered() -> None:
    told = read_histories(bandit(20, 200, beta=(1.5, 6.0)))
    learned = fit(find_model("QLearning"), told)
    recovered = recover_parameters(learned, told, seed=0)
    assert len(recovered) == 40
    np.testing.assert_allclose(
        recovered.loc[recovered["parameter"] == "beta", "true"], np.exp(draw_points(learned, told, seed=0)[:, 1])
    )
    summary = summarize_recovery(recovered)
    assert summary.loc["beta", "correlation"] > 0.7
    assert summary.loc["beta", "is_recovered"]


def test_a_parameter_that_the_design_says_nothing_about_is_not_recovered(told: Histories) -> None:
    """With one set size, capacity and rho of working memory can't be told apart."""
    found = fit(find_model("WorkingMemoryRL"), told, "map")
    wide = np.random.default_rng(0).normal(size=found.points.shape)
    found = Fit(*[wide if name == "points" else value for name, value in vars(found).items()])
    summary = summarize_recovery(recover_parameters(found, told))
    assert not summary.loc["capacity", "is_recovered"]


def test_no_correlation_is_computed_of_a_single_subject() -> None:
    told = read_histories(bandit(1, 60))
    found = fit(find_model("QLearning"), told, "map")
    assert summarize_recovery(recover_parameters(found, told))["correlation"].isna().all()
    text = recovered_parameters(found, told, seed=0).text
    assert "No correlation can be computed for alpha, beta" in text
    assert "can't be recovered" not in text


def test_models_are_recovered_that_differ(told: Histories) -> None:
    fits = {name: fit(find_model(name), told, "map") for name in ("Chance", "QLearning")}
    confusion = recover_models(fits, told)
    np.testing.assert_allclose(confusion.sum(axis=1), 1.0)
    assert (np.diag(confusion) > 0.75).all()
    np.testing.assert_allclose(inversion(confusion).sum(), 1.0)


def test_measures_by_hand() -> None:
    rows = [
        ("a", 0, "s", 0, 1.0, 0), ("a", 0, "s", 0, 0.0, 1), ("a", 1, "s", 1, 1.0, 1), ("a", 1, "s", 0, 0.0, 1),
    ]  # fmt: skip
    table = measure(histories_of(rows, "subject block state action reward correct_action"))
    values = table.set_index(["measure", "x"])["value"]
    assert values["learning"].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert values["repeats"].to_dict() == {0: 0.0, 1: 0.5}  # after rewards: one of two choices
    assert values["switch"].to_dict() == {-2: 1.0, -1: 0.0, 0: 1.0, 1: 0.0}
    assert "position" not in values.index.get_level_values("measure")


def test_position_is_measured_in_episodes() -> None:
    rows = [(e, "s", int(p == 1), float(p == e % 2)) for e in range(4) for p in range(2)]
    values = measure(histories_of(rows, "episode state action reward")).set_index(["measure", "x"])["value"]
    assert values["position"].to_dict() == {1: 0.5, 2: 0.5}


@pytest.mark.slow
def test_a_good_model_does_as_the_subjects_do_and_chance_does_not(told: Histories, learned: Fit) -> None:
    outside = {}
    for found in (learned, fit(find_model("Chance"), told)):
        table = check(found, told, copies=10)
        outside[found.model.name] = ((table["value"] < table["lower"]) | (table["value"] > table["upper"])).mean()
    assert outside["QLearning"] < 0.35
    assert outside["Chance"] > 0.5


def test_a_missed_trial_is_a_step_of_its_episode() -> None:
    rows = [(0, 0, "x", 0), (0, 1, None, -1), (0, 2, "z", 2), (1, 0, "x", 0), (1, 1, "y", 1), (1, 2, "z", -1)]
    histories = histories_of([(*row, 1.0) for row in rows], "episode trial state action reward")
    assert histories.position[:, 0].tolist() == [0, 1, 2, 0, 1, 2]
    assert histories.state[:, 0].tolist() == [0, 1, 2, 0, 3, 2]
    assert histories.next_state[:, 0].tolist() == [1, 2, 2, 3, 2, 2]
    assert histories.follows_choice[:, 0].tolist() == [False, True, False, False, True, True]
    assert histories.set_size[:, 0].tolist() == [3] * 6  # the state that the table doesn't tell is not counted
    assert histories.num_choices.tolist() == [4]
    right = measure(histories.with_columns(correct_action=histories.position % 3))
    values = right[right["measure"] == "position"].set_index("x")["value"]
    assert values.to_dict() == {1: 1.0, 2: 1.0, 3: 1.0}


@pytest.mark.parametrize("columns", ["trial", "session trial", "episode trial"])
def test_trials_must_ascend(columns: str) -> None:
    names = f"{columns} state action reward"
    ascending = [(*[0] * columns.count(" "), trial, "s", trial % 2, 1.0) for trial in (0, 1, 2, 3)]
    assert histories_of(ascending * 2, names).num_choices.tolist() == [8]  # the numbers begin again
    with pytest.raises(ConfigurationError, match="trial in the table is \\['1 after 2'\\]; it must be ascending"):
        histories_of([ascending[k] for k in (0, 2, 1, 3)], names)


def test_episodes_may_be_numbered_anew() -> None:
    """In each session and block: they are neither merged nor reordered."""
    rows = [(s, b, e, f"{s}{b}{p}", p, s + b / 2) for s in (1, 2) for b in (0, 1) for e in (0, 1) for p in range(2 + b)]
    histories = histories_of(rows, "session block episode state action reward")
    assert histories.reward[:, 0].tolist() == [row[-1] for row in rows]
    assert histories.position[:, 0].tolist() == [row[4] for row in rows]
    assert histories.set_size[:, 0].tolist() == [2 + row[1] for row in rows]  # of the block, not of the session
    assert histories.fold[:, 0].tolist() == [row[0] - 1 for row in rows]


def test_histories_are_read_in_the_order_of_episodes() -> None:
    """Of two environments that alternate; each subject's states are numbered from 0."""
    rows = [(0, 0, "x", 0), (1, 0, "y", 1), (0, 0, "z", 2), (1, 0, "x", 0), (0, 1, "y", 1)]
    table = pd.DataFrame(rows, columns=["env", "episode", "state", "action"]).assign(reward=[1, 2, 3, 4, 5])
    histories = read_histories(table)
    assert histories.reward[:, 0].tolist() == [1, 3, 2, 4, 5]
    assert histories.state[:, 0].tolist() == [0, 1, 2, 0, 2]
    assert histories.next_state[:, 0].tolist() == [1, 1, 0, 0, 2]
    assert histories.is_first[:, 0].tolist() == [True, False, True, False, True]
    assert histories.is_last[:, 0].tolist() == [False, True, False, True, True]
    assert histories.position[:, 0].tolist() == [0, 1, 0, 1, 0]
