"""Measures of tables of trials, on tables made by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from seqrl_lightning.analysis.measures import (
    accuracy_by_position,
    action_values,
    confusion,
    criterion_by_block,
    error_shares,
    measure_episodes,
    rank_transfer,
    swap_inference,
    trials_to_criterion,
)
from seqrl_lightning.analysis.trials import read_trials, shows_position, with_observation_columns
from seqrl_lightning.functional import ERROR_KINDS
from seqrl_lightning.metrics import TaskFacts
from seqrl_lightning.types import Order

# ABCDE, then ADCBE; Z is a distractor. Nothing is given.
ORDER = Order(np.array([[0, 1, 2, 3, 4], [0, 3, 2, 1, 4]]), 0, "ABCDEZ")


def facts_of(order: Order) -> TaskFacts:
    return TaskFacts(order.num_picks + 1, order.num_objects, order, len(order.sequences), float(order.num_picks))


@pytest.fixture
def table(tmp_path: Path) -> Any:
    """Makes a table of trials from (episode, block, position, object chosen), by way of a file."""

    def make(*picks: tuple[int, int, int, str], order: Order = ORDER, env: int = 0, **columns: Any) -> pd.DataFrame:
        rows = []
        for episode, block, position, letter in picks:
            state = json.dumps(np.eye(order.num_picks + 1)[position].tolist())
            right = order.sequences[block, position + order.num_given]
            rows.append((episode, env, len(rows), block, state, order.letters.index(letter), right))
        names = ["episode", "env", "trial", "block", "state", "action", "correct_action"]
        path = tmp_path / "trials.csv"
        pd.DataFrame(rows, columns=names).assign(**columns).to_csv(path, index=False)
        return read_trials(path, facts_of(order))

    return make


def test_episodes_of_subjects_and_sessions_are_kept_apart(tmp_path: Path) -> None:
    rows = [(who, session, e, t, 0, 0) for who in "ab" for session in (1, 2) for e in (0, 1) for t in (0, 1)]
    columns = ["subject", "session", "episode", "trial", "action", "correct_action"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "people.csv", index=False)
    trials = read_trials(tmp_path / "people.csv", TaskFacts())
    assert trials["number"].tolist() == [number for number in range(8) for _ in (0, 1)]
    assert trials["position"].tolist() == [0, 1] * 8


def test_observations_become_columns(table: Any) -> None:
    trials = table((0, 0, 0, "A"), (0, 0, 1, "D"))
    wide = with_observation_columns(trials, facts_of(ORDER)._replace(num_positions=4))
    assert "state" not in wide
    columns = ["at_position_1", "at_position_2", "at_position_3", "at_position_4", "observation_1", "observation_2"]
    assert wide[columns].to_numpy().tolist() == [[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]]
    assert wide["action"].tolist() == trials["action"].tolist()
    pictures = trials.assign(state=pd.Categorical(["[[1.0], [0.0]]"] * 2))
    assert with_observation_columns(pictures, facts_of(ORDER)).equals(pictures)


def test_every_wrong_choice_has_a_kind(table: Any) -> None:
    trials = table(
        (0, 0, 0, "A"),  # right
        (0, 0, 1, "D"),  # tried for the first time
        (0, 0, 0, "D"),  # again, where A has to be chosen again
        (0, 0, 0, "C"),  # A has to be chosen again, C was not tried yet
        (0, 0, 0, "Z"),
        (0, 0, 0, "A"),
        (1, 1, 1, "B"),
    )
    assert trials["outcome"].tolist() == [
        "right",
        "exploration",
        "perseverative",
        "rule_breaking",
        "distractor",
        "right",
        "exploration",
    ]


def test_without_an_order_choices_are_right_wrong_or_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    path.write_text("episode,trial,action,correct_action\n0,0,1,-1\n0,1,1,1\n0,2,1,2\n1,0,1,1\n")
    trials = read_trials(path, TaskFacts())
    assert trials["outcome"].tolist() == ["uncounted", "right", "wrong", "right"]
    assert trials["position"].tolist() == [-1, 0, 1, 0]  # the number of answers before
    assert trials["number"].tolist() == [0, 0, 0, 1]


def test_episodes_that_did_not_end_are_not_counted(table: Any) -> None:
    trials = table((0, 0, 0, "A"), (0, 0, 1, "B"), (1, 0, 0, "A"), terminated=[0, 1, 0], truncated=0)
    assert trials["outcome"].tolist() == ["right", "right", "uncounted"]
    assert len(measure_episodes(trials, facts_of(ORDER))) == 1


def test_episodes_are_numbered_in_the_order_in_which_they_end(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    rows = [(0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1)]  # environment 0's first ends before environment 1's
    table = pd.DataFrame(rows, columns=["episode", "env", "terminated"]).assign(trial=0, action=1, correct_action=1)
    table.to_csv(path, index=False)
    assert read_trials(path, TaskFacts())["number"].tolist() == [0, 2, 0, 1, 2]


def test_a_given_object_shifts_positions(table: Any) -> None:
    given = Order(np.array([[0, 1, 2], [0, 2, 1]]), 1, "ABC")
    trials = table((0, 0, 0, "B"), (0, 0, 1, "C"), (1, 1, 0, "B"), (1, 1, 0, "C"), order=given)
    assert trials["outcome"].tolist() == ["right", "right", "exploration", "right"]
    episodes = measure_episodes(trials, facts_of(given))
    assert episodes["completion"].tolist() == [1.0, 0.5]
    assert episodes["previous_order"].tolist() == [0, 1]


def test_episodes_are_measured_by_completion_and_counts_of_errors(table: Any) -> None:
    trials = table((0, 0, 0, "A"), (0, 0, 1, "B"), (0, 0, 2, "Z"), (1, 0, 0, "A"), (1, 0, 1, "Z"))
    episodes = measure_episodes(trials, facts_of(ORDER))
    assert episodes["completion"].tolist() == [2 / 5, 1 / 5]
    assert episodes["choices"].tolist() == [3, 2]
    assert episodes["distractor"].tolist() == [1, 1]
    assert episodes["exploration"].tolist() == [0, 0]
    shares = error_shares(episodes)
    assert list(shares) == [*ERROR_KINDS, "previous_order"]
    assert shares["distractor"].tolist() == [1 / 3, 1 / 2]


def test_criterion_by_block() -> None:
    returns = [0.0] * 9 + [5.0] * 5 + [0.0] * 4 + [5.0] * 5 + [0.0] * 5
    episodes = pd.DataFrame({"episode_return": returns, "block": [0] * 14 + [1] * 9 + [2] * 5}).assign(episode_length=2)
    found = criterion_by_block(episodes, TaskFacts(num_blocks=4, mastery_return=5.0))
    assert found["episodes"].to_dict() == {0: 10, 1: 5, 2: 1}  # the last four of the five could begin it
    assert found["env_steps"].to_dict() == {0: 20, 1: 10, 2: 2}
    assert found["is_met"].to_dict() == {0: True, 1: True, 2: False}


def test_trials_to_criterion_are_those_of_its_episodes(table: Any) -> None:
    first = [(0, 0, 0, "A"), (0, 0, 1, "B"), (1, 0, 0, "A"), (2, 0, 0, "A"), (2, 0, 1, "Z"), (2, 0, 1, "B")]
    later = [(3, 1, 0, "A"), (4, 1, 0, "A"), (4, 1, 1, "D"), (5, 2, 0, "A")]
    trials = table(*first, *later[:-1], order=ORDER)
    trials.loc[3, "correct_action"] = -1  # waiting
    criterion = pd.DataFrame({"episodes": [3, 2, 1]}, index=[0, 1, 2])
    np.testing.assert_array_equal(trials_to_criterion(criterion, trials), [5, 3, np.nan])  # no table of block 2
    trials = table(*first, terminated=[False, True, True, False, False, False])  # the third goes on
    assert np.isnan(trials_to_criterion(criterion.head(1), trials)[0])
    assert trials_to_criterion(criterion.head(1) - 1, trials)[0] == 3


def test_accuracy_and_confusion_by_position(table: Any) -> None:
    trials = table((0, 0, 0, "A"), (0, 0, 1, "B"), (1, 0, 0, "A"), (1, 0, 1, "C"), (2, 0, 1, "C"))
    found = accuracy_by_position(trials).loc[0]
    assert found["accuracy"].tolist() == [1.0, 1 / 3]
    assert found["choices"].tolist() == [2, 3]
    np.testing.assert_allclose(confusion(trials, 6)[1], [0, 1 / 3, 2 / 3, 0, 0, 0])


def test_rank_transfer_tells_old_habits_from_the_new_order(table: Any) -> None:
    reversal = Order(np.array([[0, 1, 2, 3], [3, 2, 1, 0]]), 0, "ABCD")
    as_before = table(*[(5, 1, position, "ABCD"[position]) for position in range(4)], order=reversal)
    assert rank_transfer(as_before, reversal, 1) == pytest.approx((1.0, -1.0))
    relearned = table(*[(5, 1, position, "DCBA"[position]) for position in range(4)], order=reversal)
    assert rank_transfer(relearned, reversal, 1) == pytest.approx((-1.0, 1.0))


def test_rank_transfer_looks_at_the_first_episodes_after_the_switch(table: Any) -> None:
    reversal = Order(np.array([[0, 1, 2, 3], [3, 2, 1, 0]]), 0, "ABCD")
    early = [(5 + episode, 1, position, "ABCD"[position]) for episode in range(2) for position in range(4)]
    late = [(7, 1, position, "DCBA"[position]) for position in range(4)]
    trials = table(*early, *late, order=reversal)
    assert rank_transfer(trials, reversal, 1, num_episodes=2) == pytest.approx((1.0, -1.0))
    assert rank_transfer(trials, reversal, 1, num_episodes=3)[0] < 1.0


def test_swap_inference_looks_at_the_first_changed_position(table: Any) -> None:
    trials = table(
        *[(0, 1, 1, "D")],  # at once
        *[(1, 1, 1, "B"), (1, 1, 0, "A"), (1, 1, 1, "D")],  # the old one, and after going back the new one
        *[(2, 1, 1, "B"), (2, 1, 1, "C")],
        *[(3, 1, 1, "C"), (3, 1, 1, "D")],
    )
    assert swap_inference(trials, ORDER, 1) == (1 / 4, 1 / 2)


def test_action_values_are_means_over_the_values_that_are_there() -> None:
    trials = pd.DataFrame({"number": [0, 0, 1, 2], "q_0": [1.0, 3.0, np.nan, 5.0], "q_1": [0.0, 0.0, np.nan, 1.0]})
    assert action_values(trials, np.array([0, 1])).to_dict() == {0: 1.0, 2: 3.0}


def test_positions_come_from_the_state(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    path.write_text(
        "episode,env,trial,block,state,action,correct_action\n"
        '0,0,0,0,"[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]",0,0\n'
        '0,0,1,0,"[0.0, 1.0, 0.0, 0.0, 0.0, 0.0]",5,1\n'
    )
    assert shows_position(path)
    trials = read_trials(path, facts_of(ORDER))
    assert trials["position"].tolist() == [0, 1]
    assert trials["outcome"].tolist() == ["right", "distractor"]
    assert read_trials(path, TaskFacts())["position"].tolist() == [0, 1]  # the number of the answer


@pytest.mark.parametrize("state", ['"[[1.0, 0.0], [1.0, 0.0]]"', None])
def test_stacked_or_missing_states_show_no_position(tmp_path: Path, state: str | None) -> None:
    path = tmp_path / "trials.csv"
    column, cell = ("", "") if state is None else (",state", f",{state}")
    path.write_text(f"episode,trial,action,correct_action{column}\n0,0,0,0{cell}\n")
    assert not shows_position(path)
