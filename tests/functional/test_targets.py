import torch
from torch import tensor
from torch.testing import assert_close

from seqrl_lightning.functional import (
    bellman_target,
    bootstrap_discounts,
    expected_value,
    lambda_returns,
    n_step_returns,
    q_lambda_target,
    value_of,
)


def test_value_of_picks_the_action() -> None:
    assert_close(value_of(tensor([[1.0, 3.0, 2.0], [4.0, 5.0, 6.0]]), tensor([2, 0])), tensor([2.0, 4.0]))


def test_value_of_picks_the_actions_distribution() -> None:
    values = torch.arange(2 * 3 * 4.0).view(1, 2, 3, 4)
    assert_close(value_of(values, tensor([[1, 2]])), torch.stack([values[0, 0, 1], values[0, 1, 2]])[None])


def test_expected_value_by_hand() -> None:
    policy = tensor([[0.25, 0.75]])
    assert_close(expected_value(tensor([[4.0, 8.0]]), policy), tensor([7.0]))
    atoms = tensor([[[4.0, 0.0], [8.0, 4.0]]])
    assert_close(expected_value(atoms, policy), tensor([[7.0, 3.0]]))


def test_n_step_returns_by_hand() -> None:
    assert_close(n_step_returns(tensor([[1.0], [2.0]]), 0.5), tensor([1.0, 2.0]))
    assert_close(n_step_returns(tensor([[1.0, 2.0, 4.0], [8.0, 0.0, 0.0]]), 0.5), tensor([3.0, 8.0]))


def test_bootstrapping_goes_by_gamma_to_the_n_and_ends_with_the_episode() -> None:
    assert_close(bootstrap_discounts(tensor([False, True]), None, 0.5), tensor([0.5, 0.0]))
    discounts = bootstrap_discounts(tensor([False, False, True]), tensor([3, 1, 2]), 0.5)
    assert_close(discounts, tensor([0.125, 0.5, 0.0]))
    targets = bellman_target(tensor([1.0, 1.0, 1.0]), discounts, tensor([8.0, 8.0, 8.0]))
    assert_close(targets, tensor([2.0, 5.0, 1.0]))


def test_targets_of_distributions_move_every_atom() -> None:
    targets = bellman_target(tensor([1.0]), tensor([0.5]), tensor([[2.0, 4.0]]))
    assert_close(targets, tensor([[2.0, 3.0]]))


# One environment over five steps; the third terminates, the fifth is the rollout's last.
REWARD = tensor([1.0, 2.0, 3.0, 4.0, 5.0])[:, None]
TERMINATED = tensor([False, False, True, False, False])[:, None]
VALUES = tensor([10.0, 20.0, 30.0, 40.0, 50.0])[:, None]


def test_lambda_returns_by_hand() -> None:
    returns = lambda_returns(REWARD, TERMINATED, TERMINATED, VALUES, gamma=0.5, lambda_=0.5)
    g4 = 5.0 + 0.5 * 50.0
    g3 = 4.0 + 0.5 * (0.5 * 40.0 + 0.5 * g4)
    g2 = 3.0
    g1 = 2.0 + 0.5 * (0.5 * 20.0 + 0.5 * g2)
    g0 = 1.0 + 0.5 * (0.5 * 10.0 + 0.5 * g1)
    assert_close(returns.squeeze(1), tensor([g0, g1, g2, g3, g4]))


def test_lambda_zero_is_one_step_and_one_is_monte_carlo() -> None:
    one_step = REWARD + 0.5 * VALUES.masked_fill(TERMINATED, 0.0)
    assert_close(lambda_returns(REWARD, TERMINATED, TERMINATED, VALUES, 0.5, 0.0), one_step)
    to_the_end = lambda_returns(REWARD, TERMINATED, TERMINATED, VALUES, 0.5, 1.0)
    assert_close(to_the_end[0], tensor([1.0 + 0.5 * 2.0 + 0.25 * 3.0]))


def test_a_truncated_episode_bootstraps_and_looks_no_further() -> None:
    truncated_after_two = tensor([False, True, True, False, False])[:, None]
    returns = lambda_returns(REWARD, TERMINATED, truncated_after_two, VALUES, 0.5, 1.0)
    assert_close(returns[1], tensor([2.0 + 0.5 * 20.0]))


def test_q_lambda_bootstraps_from_the_allowed_action_that_the_selector_prefers() -> None:
    reward, no = tensor([[1.0], [2.0]]), tensor([[False], [False]])
    values = tensor([[[4.0, 6.0, 9.0]], [[7.0, 8.0, 9.0]]])
    mask = tensor([[[True, True, False]], [[True, True, False]]])
    selector = tensor([[[2.0, 1.0, 3.0]], [[1.0, 2.0, 3.0]]])
    assert_close(q_lambda_target(reward, no, no, values, 0.5, 0.0, mask), tensor([[4.0], [6.0]]))
    double = q_lambda_target(reward, no, no, values, 0.5, 0.25, mask, selector)
    assert_close(double, tensor([[1.0 + 0.5 * (0.75 * 4.0 + 0.25 * 6.0)], [2.0 + 0.5 * 8.0]]))
