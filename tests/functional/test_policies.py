import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from seqrl_lightning.functional import epsilon_greedy_policy, mask_actions, soft_policy

Q_VALUES = tensor([[1.0, 3.0, 2.0]])
MASK = tensor([[True, False, True]])


def test_masked_actions_are_never_the_best() -> None:
    assert mask_actions(Q_VALUES, None) is Q_VALUES
    assert mask_actions(Q_VALUES, MASK).argmax(-1).tolist() == [2]


def test_epsilon_greedy_by_hand() -> None:
    policy = epsilon_greedy_policy(Q_VALUES, tensor([0.3]))
    assert_close(policy, tensor([[0.1, 0.8, 0.1]]))


def test_epsilon_greedy_shares_among_the_allowed() -> None:
    policy = epsilon_greedy_policy(Q_VALUES, tensor([0.4]), MASK)
    assert_close(policy, tensor([[0.2, 0.0, 0.8]]))


@pytest.mark.parametrize("temperature", [0.03, 1.0, 10.0])
def test_the_soft_policy_is_the_softmax(temperature: float) -> None:
    q_values = torch.randn(4, 5)
    policy, scaled_log_policy = soft_policy(q_values, temperature)
    assert_close(policy, (q_values / temperature).softmax(-1))
    assert_close(scaled_log_policy, temperature * (q_values / temperature).log_softmax(-1), atol=1e-5, rtol=1e-5)


def test_the_soft_policy_leaves_forbidden_actions_out() -> None:
    policy, scaled_log_policy = soft_policy(Q_VALUES, 1.0, MASK)
    allowed = tensor([1.0, 2.0]).softmax(0)
    assert_close(policy, tensor([[allowed[0], 0.0, allowed[1]]]))
    assert_close(scaled_log_policy, tensor([[allowed[0].log(), 0.0, allowed[1].log()]]))
