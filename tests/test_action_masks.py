"""Actions that a state forbids are not taken, neither exploring nor greedily, and not bootstrapped from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqrl_lightning.algorithms import C51, DQN, IQN, PQN, SARSA, DiscreteSAC, ExpectedSARSA
from seqrl_lightning.exploration import ConstantEpsilon, explore, greedy
from seqrl_lightning.replay import LatestSampler, RolloutSampler
from tests.running import fit

ALGORITHMS: list[tuple[type[DQN], dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (DQN, {"double": True}, {}, {}),
    (DQN, {"munchausen_alpha": 0.9}, {}, {}),
    (SARSA, {}, {"sampler": LatestSampler()}, {}),
    (ExpectedSARSA, {}, {}, {}),
    (C51, {}, {}, {}),
    (IQN, {}, {}, {}),
    (DiscreteSAC, {}, {}, {"epsilon": ConstantEpsilon(0.0)}),
    (
        PQN,
        {"epochs": 1},
        {"num_envs": 2, "sampler": RolloutSampler(8)},
        {"warmup_env_steps": 16, "updates_per_collect": 2, "env_steps_per_update": 8.0},
    ),
]


@pytest.mark.parametrize(("module_class", "model", "data", "agent"), ALGORITHMS)
@pytest.mark.parametrize("num_envs", [1, 2])
def test_no_shut_door_is_ever_tried(
    tmp_path: Path,
    module_class: type[DQN],
    model: dict[str, Any],
    data: dict[str, Any],
    agent: dict[str, Any],
    num_envs: int,
) -> None:
    """The environment raises if one is, in training and in evaluation."""
    settings = {"env_id": "tests/Doors-v0", "batch_size": 8, "capacity": 100, "num_envs": num_envs, "eval_episodes": 4}
    trainer, _, datamodule = fit(
        tmp_path,
        {**settings, "batches_per_epoch": 20, **data},
        {"gamma": 0.5, **model},
        {"warmup_env_steps": 16, "epsilon": ConstantEpsilon(0.5), **agent},
        module_class=module_class,
        max_steps=40,
    )
    assert datamodule.ring.action_mask.shape[2] == 3
    ring = datamodule.ring
    slots = ring.slots(np.arange(1, ring.num_slots + 1))
    slots = slots[ring.is_transition(slots)]
    assert ring.action_mask.reshape(-1, 3)[slots, ring.action.reshape(-1)[slots]].all()
    assert float(trainer.callback_metrics["val/return_mean"]) > 0


def test_greedy_takes_the_best_of_the_allowed() -> None:
    mask = np.array([[True, False, True], [True, True, True]])
    assert greedy(np.array([[1.0, 9.0, 2.0], [1.0, 9.0, 2.0]]), mask).tolist() == [2, 1]


def test_exploring_takes_every_allowed_action_equally_often() -> None:
    mask = np.tile([[True, False, True, True]], (30_000, 1))
    _, action = explore(30_000, 4, 1.0, np.random.default_rng(0), mask)
    assert np.bincount(action, minlength=4) / 30_000 == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=0.01)
