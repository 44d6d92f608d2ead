"""Measures of choices, on episodes made by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics import Metric

from seqrl_lightning.functional import ERROR_KINDS, error_kinds, follows_previous_order
from seqrl_lightning.metrics import (
    Completion,
    ErrorShares,
    PositionAccuracy,
    PositionConfusion,
    SwitchErrors,
)
from seqrl_lightning.types import Choices, Order

# ABCDE, then ADCBE; Z is a distractor.
ORDER = Order(np.array([[0, 1, 2, 3, 4], [0, 3, 2, 1, 4]]), 0, "ABCDEZ")


def play(*episodes: str, block: int = 0, env: int = 0, backtrack: str = "first") -> Choices:
    """Choices as the laboratory task answers them: an error sets one back, but not a second one in a row."""
    rows = []
    for number, picks in enumerate(episodes):
        position, has_erred = 0, False
        for letter in picks:
            action, right = ORDER.letters.index(letter), int(ORDER.sequences[block, position])
            rows.append((env, number, block, position, action, right))
            goes_back = action != right and (backtrack == "every" or (backtrack == "first" and not has_erred))
            has_erred = action != right
            position = position + 1 if action == right else max(0, position - goes_back)
    return Choices(*torch.tensor(rows, dtype=torch.int64).reshape(-1, 6).unbind(1))


def joined(*parts: Choices) -> Choices:
    """Choices one after the other."""
    first = 0
    renumbered = []
    for part in parts:
        renumbered.append(part._replace(episode=part.episode + first))
        first += int(part.episode.max()) + 1
    return Choices(*(torch.cat(columns) for columns in zip(*renumbered, strict=True)))


def computed(metric: Metric, *updates: Choices) -> dict[str, Any]:
    """The numbers that it computes, without unknown ones."""
    for choices in updates:
        metric.update(choices)
    return {tag: float(value) for tag, value in metric.compute().items() if not value.isnan()}


def test_completion_is_how_far_an_episode_came() -> None:
    found = computed(Completion(5), play("ABZ", "ACAB"), play("ABCDE"))  # 2, 2 and 5 of 5
    assert found == {"learning/completion": pytest.approx((2 + 2 + 5) / 15)}


def test_without_a_sequence_completion_is_how_many_answers_were_right() -> None:
    answers = play("ABBC", "ZAZZ")  # 2 of 4 and 1 of 4
    assert computed(Completion(None), answers) == {"learning/completion": pytest.approx((2 / 4 + 1 / 4) / 2)}


def test_accuracy_by_serial_position() -> None:
    found = computed(PositionAccuracy(3), play("ABC", "AC", "CAB"), play("AB"))
    expected = {"position_1": 4 / 5, "position_2": 3 / 4, "position_3": 1.0}
    assert found == {f"learning/{name}/accuracy": pytest.approx(share) for name, share in expected.items()}


@pytest.mark.parametrize(
    ("picks", "kinds"),
    [
        ("ABCDE", "....."),
        ("ACABD", ".e..e"),  # an error, back to A as the rule says, on; another
        ("ACDAB", ".er.."),  # A had to be chosen again, D was not
        ("ACDEA", ".err."),  # and still not
        ("ACCAB", ".ep.."),  # the same once more
        ("ACACABC", ".e.p..."),  # the same at the same place, after going back
        ("CDCAB", "eep.."),  # at the start there is nothing to go back to
        ("ABDABE", "..er.e"),  # back to B, but A
        ("AZAZB", ".d.dr"),
    ],
)
def test_kinds_of_errors(picks: str, kinds: str) -> None:
    letters = {".": -1, **{name[0]: number for number, name in enumerate(ERROR_KINDS)}}
    assert error_kinds(play(picks), ORDER.num_objects).tolist() == [letters[kind] for kind in kinds]


def test_an_episode_knows_nothing_of_the_one_before() -> None:
    kinds = error_kinds(joined(play("ABE"), play("E", "E")), 5)
    assert [ERROR_KINDS[kind] for kind in kinds.tolist() if kind >= 0] == ["exploration"] * 3


def test_shares_of_errors_are_of_all_choices() -> None:
    found = computed(ErrorShares(5), play("ACDAB", "AZAC"), play("B"))  # 10 choices
    expected = {"exploration": 0.3, "rule_breaking": 0.1, "perseverative": 0.0, "distractor": 0.1}
    assert found == {f"learning/errors/{name}": pytest.approx(share) for name, share in expected.items()}


def test_swaps_are_anticipated_or_inferred() -> None:
    before = play("AD", "AB", block=0)  # before the switch nothing counts
    after = play(
        "AD",  # anticipated: D right after A
        "ABAD",  # inferred: B, which the old order had here, and D when it comes here again
        "ABAC",  # not inferred
        "ACAD",  # neither
        "ZZ",  # never came here
        block=1,
    )
    found = computed(SwitchErrors(ORDER), before, after)
    del found["learning/errors/previous_order"]
    assert found == {"learning/errors/anticipated_swap": 1 / 4, "learning/errors/ordinal_inference": 1 / 2}


def test_what_is_inferred_without_going_back() -> None:
    found = computed(SwitchErrors(ORDER), play("ABD", block=1, backtrack="none"))
    expected = {
        "learning/errors/anticipated_swap": 0.0,
        "learning/errors/ordinal_inference": 1.0,
        "learning/errors/previous_order": 1 / 3,
    }
    assert found == {name: pytest.approx(value) for name, value in expected.items()}


def test_orders_without_a_change_infer_nothing() -> None:
    same = Order(ORDER.sequences[[0, 0]], 0, "ABCDEZ")
    assert computed(SwitchErrors(same), play("ABC")) == {"learning/errors/previous_order": 0.0}


def test_errors_that_were_right_before_the_switch() -> None:
    before = play("ABZ", "AD", block=0)  # before a switch there is no other order
    after = play("ADCD", "ABADCB", "Z", block=1)  # D is right at position 2 now, and was at position 4
    choices = joined(before, after)
    expected = [False] * 5 + [False, False, False, True] + [False, True, False, False, False, False] + [False]
    assert follows_previous_order(choices, ORDER).tolist() == expected
    assert computed(SwitchErrors(ORDER), choices)["learning/errors/previous_order"] == pytest.approx(2 / len(expected))


def test_a_given_object_shifts_the_previous_order() -> None:
    given = Order(ORDER.sequences, 1, ORDER.letters)
    choices = Choices(*torch.tensor([(0, 0, 1, 0, 1, 3), (0, 0, 1, 0, 2, 3)]).unbind(1))  # B and C, where D is right
    assert follows_previous_order(choices, given).tolist() == [True, False]


def test_confusion_by_position() -> None:
    metric = PositionConfusion(4, 6)
    metric.update(play("AB", "AC"))
    metric.update(play("AC"))
    shares, is_right = metric.compute()
    torch.testing.assert_close(shares, torch.tensor([[1.0, 0, 0, 0, 0, 0], [0, 1 / 3, 2 / 3, 0, 0, 0]]))
    assert is_right.nonzero().tolist() == [[0, 0], [1, 1]]


METRICS = [
    Completion(5),
    PositionAccuracy(3),
    ErrorShares(5),
    SwitchErrors(ORDER),
    PositionConfusion(3, 6),
]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: type(metric).__name__)
def test_no_choices_change_nothing_and_the_state_is_exact(metric: Metric) -> None:
    metric.persistent(True)
    metric.update(joined(play("ACAB", "ZAB"), play("AD", "ABAD", block=1)))
    before = {name: value.clone() for name, value in metric.state_dict().items()}
    metric.update(play())
    for name, value in metric.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    assert before
