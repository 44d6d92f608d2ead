"""What a table of trials says, on tables made by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seqrl_lightning.analysis.metrics import (
    accuracy_by_position,
    action_values,
    attempts,
    confusion,
    criterion_by_block,
    rank_transfer,
    swap_inference,
)
from seqrl_lightning.analysis.trials import outcomes, read_trials
from seqrl_lightning.types import Order

# ABCDE, then ADCBE; Z is a distractor. Nothing is given.
ORDER = Order(np.array([[0, 1, 2, 3, 4], [0, 3, 2, 1, 4]]), 0, "ABCDEZ")


def table(*picks: tuple[int, int, int, str], order: Order = ORDER, explored: bool = False) -> pd.DataFrame:
    """Rows from (episode, block, position, object chosen)."""
    rows = []
    for episode, block, position, letter in picks:
        right = order.sequences[block, position + order.num_given]
        action = order.letters.index(letter)
        rows.append((0, episode, len(rows), block, position, action, right, int(explored), action == right))
    columns = ["env", "episode", "trial", "block", "position", "action", "correct_action", "explored", "is_right"]
    trials = pd.DataFrame(rows, columns=columns)
    names = ("action", "correct_action", "explored", "block", "position")
    trials["outcome"] = outcomes(*(trials[name].to_numpy() for name in names), order)
    return trials


def test_every_wrong_choice_has_a_kind() -> None:
    trials = table(
        (0, 0, 0, "A"),  # right
        (0, 0, 1, "D"),  # its turn comes later
        (0, 0, 2, "A"),  # its turn has been
        (0, 0, 2, "Z"),
        (1, 1, 1, "B"),  # was right here in the block before
        (1, 1, 1, "C"),
        (1, 1, 3, "D"),  # was right here before; its turn has been, too
        (1, 1, 3, "A"),
    )
    expected = ["right", "skip", "repeat", "distractor", "perseverative", "skip", "perseverative", "repeat"]
    assert trials["outcome"].tolist() == expected
    assert set(table((0, 0, 1, "D"), (0, 0, 1, "Z"), explored=True)["outcome"]) == {"random"}


def test_without_an_order_choices_are_right_wrong_or_not_counted() -> None:
    zeros = np.zeros(3, int)
    found = outcomes(np.array([1, 1, 1]), np.array([1, 2, -1]), zeros, zeros, zeros, None)
    assert found.tolist() == ["right", "other", "uncounted"]


def test_a_given_object_shifts_positions() -> None:
    given = Order(np.array([[0, 1, 2]]), 1, "ABC")
    assert table((0, 0, 0, "B"), (0, 0, 1, "B"), (0, 0, 0, "C"), order=given)["outcome"].tolist() == [
        "right",
        "repeat",
        "skip",
    ]


def test_completion_is_how_far_an_attempt_came() -> None:
    trials = table((0, 0, 0, "A"), (0, 0, 1, "B"), (0, 0, 2, "Z"), (1, 0, 0, "A"), (1, 0, 1, "Z"))
    rows = attempts(trials, ORDER)
    assert rows["completion"].tolist() == [2 / 5, 1 / 5]
    assert rows["distractor"].tolist() == [1 / 3, 1 / 2]
    assert rows["skip"].tolist() == [0, 0]


def test_criterion_by_block() -> None:
    completion = [0.0] * 9 + [1.0] * 4 + [0.0] * 4 + [1.0] * 4 + [0.0] * 5
    rows = pd.DataFrame({"completion": completion, "block": [0] * 13 + [1] * 8 + [2] * 5})
    found = criterion_by_block(rows)
    assert found[0] == 10
    assert found[1] == 5
    assert np.isnan(found[2])


def test_accuracy_and_confusion_by_position() -> None:
    trials = table((0, 0, 0, "A"), (0, 0, 1, "B"), (1, 0, 0, "A"), (1, 0, 1, "C"), (2, 0, 1, "C"))
    assert accuracy_by_position(trials).loc[0].tolist() == [1.0, 1 / 3]
    np.testing.assert_allclose(confusion(trials, 6)[1], [0, 1 / 3, 2 / 3, 0, 0, 0])


def test_rank_transfer_tells_old_habits_from_the_new_order() -> None:
    reversal = Order(np.array([[0, 1, 2, 3], [3, 2, 1, 0]]), 0, "ABCD")
    as_before = table(*[(5, 1, position, "ABCD"[position]) for position in range(4)], order=reversal)
    assert rank_transfer(as_before, reversal, 1) == pytest.approx((1.0, -1.0))
    relearned = table(*[(5, 1, position, "DCBA"[position]) for position in range(4)], order=reversal)
    assert rank_transfer(relearned, reversal, 1) == pytest.approx((-1.0, 1.0))


def test_swap_inference_looks_at_the_first_changed_position() -> None:
    trials = table(
        *[(0, 1, 1, "D")],  # at once
        *[(1, 1, 1, "B"), (1, 1, 0, "A"), (1, 1, 1, "D")],  # the old one, and after going back the new one
        *[(2, 1, 1, "B"), (2, 1, 1, "C")],
        *[(3, 1, 1, "C"), (3, 1, 1, "D")],
    )
    assert swap_inference(trials, ORDER, 1) == (1 / 4, 1 / 2)


def test_action_values_are_means_over_what_was_told() -> None:
    trials = pd.DataFrame({"episode": [0, 0, 1, 2], "q_0": [1.0, 3.0, np.nan, 5.0], "q_1": [0.0, 0.0, np.nan, 1.0]})
    assert action_values(trials, np.array([0, 1])).to_dict() == {0: 1.0, 2: 3.0}


def test_positions_come_from_the_state(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    path.write_text(
        "episode,env,trial,block,state,action,correct_action\n"
        '0,0,0,0,"[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]",0,0\n'
        '0,0,1,0,"[0.0, 1.0, 0.0, 0.0, 0.0, 0.0]",5,1\n'
    )
    trials = read_trials(path, ORDER)
    assert trials["position"].tolist() == [0, 1]
    assert trials["outcome"].tolist() == ["right", "distractor"]
    assert read_trials(path, None)["position"].tolist() == [0, 1]  # the number of the answer
