import torch
from torch import tensor
from torch.testing import assert_close

from seqrl_lightning.functional import double_q_values, max_q_values, one_step_targets


def test_max_q_values_by_hand() -> None:
    assert_close(max_q_values(tensor([[1.0, 3.0, 2.0], [-1.0, -3.0, -2.0]])), tensor([3.0, -1.0]))


def test_double_q_values_by_hand() -> None:
    target, policy = tensor([[1.0, 5.0, 2.0]]), tensor([[0.0, 1.0, 9.0]])
    assert_close(double_q_values(target, policy), tensor([2.0]))  # the policy selects action 2, the target values it


def test_double_q_values_equal_the_maximum_if_both_networks_agree() -> None:
    q_values = torch.randn(3, 4, 5)
    assert_close(double_q_values(q_values, q_values), max_q_values(q_values))


def test_one_step_targets_by_hand() -> None:
    targets = one_step_targets(
        reward=tensor([1.0, 1.0, -2.0]),
        terminated=tensor([False, True, False]),
        next_state_values=tensor([10.0, 10.0, -4.0]),
        gamma=0.5,
    )
    assert_close(targets, tensor([6.0, 1.0, -4.0]))


def test_a_terminal_state_is_worth_nothing_even_if_its_value_is_not_finite() -> None:
    targets = one_step_targets(tensor([1.0]), tensor([True]), tensor([float("nan")]), 0.9)
    assert_close(targets, tensor([1.0]))
