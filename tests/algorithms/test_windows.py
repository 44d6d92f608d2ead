"""Learning from windows of consecutive steps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from seqrl_lightning.algorithms import C51, DQN, IQN, QRDQN, SARSA, DiscreteSAC, ExpectedSARSA, LearnerModule, QLambda
from seqrl_lightning.networks import GRU, MLP
from seqrl_lightning.replay import RingBuffer, Sampler, SequenceSampler, UniformSampler
from seqrl_lightning.types import ConfigurationError
from tests.running import fit

NUM_ENVS, ROWS = 2, 30


def filled_ring(masks: bool = False) -> RingBuffer:
    ring = RingBuffer(NUM_ENVS * ROWS, NUM_ENVS, (3,), "float32")
    rng = np.random.default_rng(0)

    def mask() -> Any:
        allowed = rng.random((NUM_ENVS, 2)) < 0.5
        return allowed | ~allowed.any(1, keepdims=True) if masks else None

    ring.restart(rng.random((NUM_ENVS, 3), np.float32), mask())
    ended = np.zeros(NUM_ENVS, bool)
    for t in range(ROWS - 2):
        terminated, truncated = (np.array([t in ends, False]) & ~ended for ends in ((4, 17), (10,)))
        reward, action = np.where(ended, 0.0, rng.random(NUM_ENVS)), rng.integers(2, size=NUM_ENVS)
        ring.add(action, reward, terminated, truncated, rng.random((NUM_ENVS, 3), np.float32), mask())
        ended = terminated | truncated
    return ring


def network(obs_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> MLP:
    return MLP(obs_shape, out_shape, (16,))


SETTINGS: list[tuple[type[LearnerModule], dict[str, Any]]] = [
    (DQN, {}),
    (DQN, {"double": True, "value_rescaling": 1e-3}),
    (DQN, {"munchausen_alpha": 0.9}),
    (SARSA, {}),
    (ExpectedSARSA, {}),
    (C51, {"double": True}),
    (QRDQN, {}),
    (DiscreteSAC, {}),
]


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize(("module_class", "settings"), SETTINGS)
def test_a_network_without_memory_learns_the_same_from_windows(
    module_class: type[LearnerModule], settings: dict[str, Any], masks: bool
) -> None:
    torch.manual_seed(0)
    ring, learner = filled_ring(masks), module_class((3,), 2, network=network, gamma=0.9, **settings)
    for p in learner.target_net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    first_slots, length, n_step = np.array([0, 1, 7]), 12, 3
    needs_action = learner.needs_next_action

    def learned(batch: Any) -> Any:
        epsilon = torch.zeros(batch.action_batch.shape)  # so that an action that has to be drawn is the greedy one
        return learner.optimize_model(batch._replace(epsilon_batch=epsilon))

    batch = ring.windows(first_slots, length, n_step, next_actions=needs_action)
    slots = (first_slots + NUM_ENVS * np.arange(length)[:, None]).reshape(-1)
    windows, single = learned(batch), learned(ring.transitions(slots, n_step, next_actions=needs_action))
    weight = batch.weight_batch
    assert 0 < weight.sum() < weight.numel()
    # At a window's end returns look less far ahead; before, all is the same.
    whole = (weight > 0) & (torch.arange(length)[:, None] <= length - n_step)
    for name in ("state_action_values", "expected_state_action_values"):
        assert_close(windows[name][whole], single[name].view(length, 3)[whole])


def test_sarsa_trains_on_windows(tmp_path: Path) -> None:
    data = {"env_id": "tests/Diary-v0", "batch_size": 4, "capacity": 100, "sampler": SequenceSampler(4, 2, n_step=2)}
    trainer, *_ = fit(
        tmp_path, data, {"network": GRU}, {"warmup_env_steps": 20}, module_class=SARSA, max_steps=5, limit_val_batches=0
    )
    assert trainer.global_step == 5


@pytest.mark.parametrize("double", [False, True])
def test_a_lambda_of_zero_is_plain_q_learning(double: bool) -> None:
    batch = filled_ring(masks=True).windows(np.array([0, 1]), 12, burn_in=0)
    targets = []
    for learner_class, settings in ((DQN, {}), (QLambda, {"lambda_": 0.0}), (QLambda, {"lambda_": 0.5})):
        torch.manual_seed(0)
        learner = learner_class((3,), 2, network=GRU, double=double, **settings)
        targets.append(learner.optimize_model(batch)["expected_state_action_values"][batch.weight_batch > 0])
    assert_close(targets[0], targets[1])
    assert (targets[0] != targets[2]).any()


def test_the_last_transition_of_an_episode_and_of_the_window_is_last() -> None:
    batch = filled_ring().windows(np.array([0, 1]), 12)
    is_last = batch.is_last_batch & (batch.weight_batch > 0)
    assert is_last.nonzero().tolist() == [[4, 0], [10, 0], [11, 1]]  # row 5, and row 11 of environment 0, hold no step


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (UniformSampler(), "data.sampler is 'UniformSampler'; it must be SequenceSampler with QLambda"),
        (SequenceSampler(n_step=3), "data.sampler.n_step is 3; it must be 1 with QLambda"),
    ],
)
def test_lambda_returns_need_windows_of_single_steps(sampler: Sampler, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        QLambda((3,), 2, network=network).check_sampler(sampler)


def test_what_does_not_count_changes_nothing() -> None:
    ring, learner = filled_ring(), DQN((3,), 2, network=network)
    batch = ring.windows(np.array([0]), 12)
    nothing = batch.weight_batch == 0
    assert nothing.any()
    other = batch._replace(reward_batch=batch.reward_batch.masked_fill(nothing.unsqueeze(-1), 1e6))
    assert learner.optimize_model(batch)["loss"].item() == learner.optimize_model(other)["loss"].item()


@pytest.mark.parametrize("module_class", [DQN, C51, QRDQN, IQN])
@pytest.mark.parametrize("double", [False, True])
def test_a_recurrent_network_reads_a_window_in_order(module_class: type[DQN], double: bool) -> None:
    """An observation changes the values of its row and of later ones of its episode, and no others."""
    ring = filled_ring()
    learner = module_class((3,), 2, network=GRU, double=double)
    batch = ring.windows(np.array([0, 1]), 12, burn_in=0)

    def values(batch: Any) -> torch.Tensor:
        torch.manual_seed(0)  # IQN draws fractions
        return learner.optimize_model(batch)["state_action_values"]

    changed = batch.observation.clone()
    changed[2, 0] += 10.0
    differs = (values(batch) != values(batch._replace(observation=changed))).nonzero().tolist()
    # Environment 0's first episode: steps 0 to 4 and the final observation in row 5.
    assert [row for row, env in differs if row != 5] == [2, 3, 4]
    assert all(env == 0 for _, env in differs)


def test_burn_in_brings_the_state_up_to_date_without_a_gradient() -> None:
    ring, learner = filled_ring(), DQN((3,), 2, network=GRU)
    first_slots = np.array([NUM_ENVS * 3 + 1])  # in the long episode of environment 1
    whole = learner.optimize_model(ring.windows(first_slots - 3 * NUM_ENVS, 11))
    burnt_in = ring.windows(first_slots, 8, burn_in=3)
    assert burnt_in.state_batch.shape[0] == 8
    outputs = learner.optimize_model(burnt_in)
    assert_close(outputs["state_action_values"], whole["state_action_values"][3:])
    assert_close(outputs["expected_state_action_values"], whole["expected_state_action_values"][3:])
