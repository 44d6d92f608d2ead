import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn, tensor
from torch.testing import assert_close

from seqrl_lightning.algorithms import DQN
from seqrl_lightning.batches import Transitions
from seqrl_lightning.collect import Policy
from seqrl_lightning.networks import MLP, Table
from seqrl_lightning.types import ConfigurationError

POLICY = tensor([[1.0, 2.0], [4.0, 3.0], [0.0, 6.0]])  # Q-values of three states and two actions
TARGET = tensor([[0.5, 1.5], [5.0, 7.0], [9.0, 8.0]])


def tabular_dqn(**kwargs: Any) -> DQN:
    dqn = DQN((3,), 2, network=Table, gamma=0.5, **kwargs)
    dqn.policy_net.table.weight.data.copy_(POLICY.T)  # type: ignore[union-attr]
    dqn.target_net.table.weight.data.copy_(TARGET.T)  # type: ignore[union-attr]
    return dqn


def batch_of(
    states: list[int], actions: list[int], rewards: list[float], nexts: list[int], terminated: list[bool]
) -> Transitions:
    one_hot = torch.eye(3)
    return Transitions(
        one_hot[states][None],
        tensor(actions)[None],
        tensor(rewards)[None, :, None],
        one_hot[nexts][None],
        tensor(terminated)[None],
    )


# Goes on; terminates; is truncated (so goes on bootstrapping from its final state).
BATCH = batch_of([0, 1, 0], [1, 0, 0], [1.0, -1.0, 0.0], [1, 2, 2], [False, True, False])


@pytest.mark.parametrize(
    ("double", "targets"),
    [
        (False, [1.0 + 0.5 * 7.0, -1.0, 0.5 * 9.0]),
        (True, [1.0 + 0.5 * 5.0, -1.0, 0.5 * 8.0]),  # the policy prefers action 0 in state 1 and 1 in state 2
    ],
)
def test_the_loss_by_hand(double: bool, targets: list[float]) -> None:
    dqn = tabular_dqn(double=double, huber_delta=1.0)
    outputs = dqn.optimize_model(BATCH)
    values = [2.0, 4.0, 1.0]
    errors = [target - value for target, value in zip(targets, values, strict=True)]
    huber = [0.5 * e * e if abs(e) <= 1 else abs(e) - 0.5 for e in errors]
    assert_close(outputs["state_action_values"], tensor([values]))
    assert_close(outputs["expected_state_action_values"], tensor([targets]))
    assert float(outputs["loss"].detach()) == pytest.approx(sum(huber) / 3)


def test_n_step_targets_bootstrap_by_gamma_to_the_n() -> None:
    rewards = tensor([[[1.0, 2.0, 4.0], [1.0, 0.0, 0.0]]])
    batch = BATCH.map(lambda column: column[:, :2])
    batch = batch._replace(reward_batch=rewards, num_steps_batch=tensor([[3, 1]]))
    expected = tabular_dqn().optimize_model(batch)["expected_state_action_values"]
    assert_close(expected, tensor([[1.0 + 0.5 * 2.0 + 0.25 * 4.0 + 0.125 * 7.0, 1.0]]))


def test_munchausen_by_hand() -> None:
    dqn = tabular_dqn(munchausen_alpha=0.9, munchausen_temperature=2.0, munchausen_clip=-0.5)
    expected = dqn.optimize_model(BATCH)["expected_state_action_values"]
    log_policy = (TARGET / 2.0).log_softmax(-1)
    soft_values = (log_policy.exp() * (TARGET - 2.0 * log_policy)).sum(-1)
    bonus = 0.9 * (2.0 * log_policy).clamp(min=-0.5)  # of the action that was taken
    by_hand = [
        1.0 + bonus[0, 1] + 0.5 * soft_values[1],
        -1.0 + bonus[1, 0],
        0.0 + bonus[0, 0] + 0.5 * soft_values[2],
    ]
    assert_close(expected, torch.stack(by_hand)[None])


def test_forbidden_actions_are_not_bootstrapped_from() -> None:
    mask = tensor([[[True, False], [True, True], [False, True]]])
    expected = tabular_dqn().optimize_model(BATCH._replace(next_action_mask_batch=mask))
    targets = [1.0 + 0.5 * 5.0, -1.0, 0.5 * 8.0]
    assert_close(expected["expected_state_action_values"], tensor([targets]))


def test_weights_weigh_the_loss_and_errors_become_priorities() -> None:
    plain = tabular_dqn().optimize_model(BATCH)
    assert "priority_batch" not in plain
    weighted = BATCH._replace(weight_batch=tensor([[1.0, 0.1, 0.5]]), slot_batch=tensor([[4, 5, 6]]))
    outputs = tabular_dqn().optimize_model(weighted)
    errors = (plain["expected_state_action_values"] - plain["state_action_values"]).abs()
    assert_close(outputs["priority_batch"], errors)
    assert_close(outputs["loss"].detach(), (errors[0] - 0.5) @ tensor([1.0, 0.1, 0.5]) / 3)


def test_half_the_squared_error_without_a_delta() -> None:
    outputs = tabular_dqn(huber_delta=None).optimize_model(BATCH)
    errors = np.array([1.0 + 0.5 * 7.0 - 2.0, -1.0 - 4.0, 0.5 * 9.0 - 1.0])
    assert float(outputs["loss"].detach()) == pytest.approx(0.5 * (errors**2).mean())


def test_only_the_values_of_the_actions_taken_get_a_gradient() -> None:
    dqn = tabular_dqn(huber_delta=None)
    dqn.optimize_model(batch_of([0], [1], [1.0], [1], [False]))["loss"].backward()
    expected = torch.zeros(2, 3)
    expected[1, 0] = 2.0 - (1.0 + 0.5 * 7.0)  # the value minus its target
    assert_close(dqn.policy_net.table.weight.grad, expected)  # type: ignore[union-attr]
    assert dqn.target_net.table.weight.grad is None  # type: ignore[union-attr]


def test_the_target_network_is_a_copy_that_learns_nothing() -> None:
    dqn = DQN((4,), 3)
    for policy, target in zip(dqn.policy_net.parameters(), dqn.target_net.parameters(), strict=True):
        assert_close(policy, target)
        assert policy is not target
        assert policy.requires_grad
        assert not target.requires_grad


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [({}, [3.0, -4.0]), ({"clip_grad_value": 1.0}, [1.0, -1.0]), ({"clip_grad_norm": 1.0}, [0.6, -0.8])],
)
def test_gradient_clipping_by_value_and_by_norm(kwargs: dict[str, float], expected: list[float]) -> None:
    dqn = DQN((2,), 1, network=Table, **kwargs)  # type: ignore[arg-type]
    weight: Any = dqn.policy_net.table.weight  # type: ignore[union-attr]
    weight.grad = tensor([[3.0, -4.0]])
    dqn.configure_gradient_clipping(torch.optim.SGD([weight], 0.1))
    assert_close(weight.grad, tensor([expected]))


def test_acting_is_greedy_and_takes_numpy() -> None:
    dqn = tabular_dqn()
    q_values, state = dqn.act_values(np.eye(3, dtype=np.float32), "state")
    assert_close(torch.from_numpy(q_values.copy()), POLICY)
    assert state == "state"
    assert Policy(dqn.act_values).act(np.eye(3, dtype=np.float32)).tolist() == [1, 0, 1]


def test_the_optimizer_gets_the_policy_and_the_learning_rate() -> None:
    dqn = DQN((4,), 3, learning_rate=0.25, optimizer=lambda params, lr: torch.optim.SGD(params, lr))
    optimizer: Any = dqn.configure_optimizers()
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in dqn.policy_net.parameters()}


def test_a_scheduler_is_stepped_with_the_updates() -> None:
    dqn = DQN((4,), 3, lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer))
    configured: Any = dqn.configure_optimizers()
    assert configured["lr_scheduler"]["interval"] == "step"
    assert configured["lr_scheduler"]["scheduler"].optimizer is configured["optimizer"]


class WrongWidth(nn.Module):
    def __init__(self, obs_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = nn.Linear(obs_shape[0], out_shape[0] + 1)

    def forward(self, observation: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return self.layer(observation), state


class WrongInput(WrongWidth):
    def __init__(self, obs_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
        super().__init__((obs_shape[0] + 1,), (out_shape[0] - 1,))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"network": WrongWidth},
            r"model.network is 'WrongWidth'; it must be .* \(4,\) into outputs of shape \(3,\), not",
        ),
        ({"network": WrongInput}, r"model.network does not fit .* shape \(4,\) into outputs of shape \(3,\)"),
        ({"learning_rate": -1e-3}, "model.learning_rate is -0.001; it must be positive"),
        ({"gamma": 1.5}, r"model.gamma is 1.5; it must be in \[0, 1\]"),
        ({"huber_delta": 0.0}, "model.huber_delta is 0.0"),
        ({"clip_grad_value": -1.0}, "model.clip_grad_value is -1.0"),
        ({"clip_grad_norm": 0.0}, "model.clip_grad_norm is 0.0"),
    ],
)
def test_bad_settings_are_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DQN((4,), 3, **kwargs)


def test_double_precision_is_still_a_cast() -> None:
    dqn = DQN((4,), 3, network=MLP, double=True)
    assert copy.deepcopy(dqn).double().act_values(np.zeros((2, 4)))[0].shape == (2, 3)
