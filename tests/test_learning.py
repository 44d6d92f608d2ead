"""Learners solve small tasks, and a broken update doesn't."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seqrl_lightning.algorithms import DQN
from seqrl_lightning.batches import Update
from seqrl_lightning.callbacks import AgentCallback
from seqrl_lightning.envs import SequenceDistractorEnv
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.networks import MLP, Table
from seqrl_lightning.random_streams import random_stream
from seqrl_lightning.replay import LatestSampler
from tests.running import fit

BLOCKS = [{"sequence": "ABCDE", "episodes": 15}, {"sequence": "ADCBE"}]


class WithoutBootstrap(DQN):
    def returns_and_discounts(self, batch: Any) -> tuple[Tensor, Tensor]:
        returns, discounts = super().returns_and_discounts(batch)
        return returns, torch.zeros_like(discounts)


class WithoutReward(DQN):
    def optimize_model(self, batch: Any) -> Update:
        return super().optimize_model(batch._replace(reward_batch=torch.zeros_like(batch.reward_batch)))


@pytest.mark.parametrize(("module_class", "learns"), [(DQN, True), (WithoutBootstrap, False), (WithoutReward, False)])
def test_dqn_learns_what_has_to_be_bootstrapped(tmp_path: Path, module_class: type[DQN], learns: bool) -> None:
    _, module, _ = fit(
        tmp_path,
        {"env_id": "tests/Corridor-v0", "batch_size": 64, "capacity": 2000, "num_envs": 4},
        {"network": lambda *shapes: MLP(*shapes, (32,)), "learning_rate": 5e-3, "gamma": 0.8},
        {"warmup_env_steps": 1000, "epsilon": ConstantEpsilon(1.0), "env_steps_per_update": 1},
        {"tau": 0.1},
        module_class=module_class,
        max_steps=300,
    )
    q_values, _ = module.act_values(np.eye(6, dtype=np.float32)[:5])
    optimal = 0.8 ** np.arange(4, -1, -1)
    if learns:
        assert (q_values.argmax(-1) == 1).all()
        np.testing.assert_allclose(q_values[:, 1], optimal, atol=0.1)
    else:
        assert np.abs(q_values[:, 1] - optimal).max() > 0.3


def numpy_q_learning(steps: int) -> np.ndarray[Any, Any]:
    """Tabular Q-learning (Sutton and Barto, section 6.5) with the agent's own random stream."""
    env, rng, q = SequenceDistractorEnv(blocks=BLOCKS), random_stream("agent"), np.zeros((6, 6))
    state = int(env.reset(seed=0)[0].argmax())
    for _ in range(steps):
        uniform = rng.random(2)
        action = int(uniform[1] * 6) if uniform[0] < 0.1 else q[state].argmax()
        observation, reward, terminated, truncated, _ = env.step(action)
        next_state = int(observation.argmax())
        q[state, action] += 0.1 * (reward + 0.95 * q[next_state].max() * (not terminated) - q[state, action])
        state = next_state
        if terminated or truncated:
            state = int(env.reset()[0].argmax())
            rng.random(2)  # the step in which a vector environment resets itself
    return q


@pytest.mark.parametrize("steps", [1, 7, 400])
def test_tabular_q_learning_equals_ten_lines_of_numpy(tmp_path: Path, steps: int) -> None:
    trainer, module, _ = fit(
        tmp_path,
        {
            "env_id": "seqrl/SequenceDistractor-v0",
            "env_kwargs": {"blocks": BLOCKS},
            "batch_size": 1,
            "capacity": 100,
            "sampler": LatestSampler(),
        },
        {
            "network": Table,
            "optimizer": lambda params, lr: torch.optim.SGD(params, lr),
            "learning_rate": 0.1,
            "gamma": 0.95,
            "huber_delta": None,
        },
        {"warmup_env_steps": 1, "epsilon": ConstantEpsilon(0.1)},
        {"sync_every_updates": 1, "tau": 1.0},
        max_steps=steps,
        limit_val_batches=0,
    )
    assert AgentCallback.of(trainer).progress.env_steps == steps + 1
    weight: Any = module.policy_net.table.weight  # type: ignore[union-attr]
    expected = torch.from_numpy(numpy_q_learning(steps).T).float()
    assert expected.abs().max() > 0
    assert_close(weight.detach(), expected, rtol=1e-4, atol=1e-5)
