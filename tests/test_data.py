from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.types import ConfigurationError, EvaluationTask

TASK = {"env_id": "seqrl/Sequence-v0"}
BLOCKS = {"blocks": [{"sequence": "ABCDEFGHIJ", "episodes": 5}, {"sequence": "reversed"}]}


def test_the_task_tells_its_shapes() -> None:
    data = ReplayDataModule(**TASK)
    assert (data.obs_shape, data.obs_dtype, data.n_actions) == ((10,), "float32", 10)


def test_discrete_observations_become_one_hot() -> None:
    data = ReplayDataModule("FrozenLake-v1", capacity=200)
    assert (data.obs_shape, data.n_actions) == ((16,), 4)
    data.setup("fit")
    observation, _ = data.envs.reset(seed=0)
    assert observation.sum() == 1


def test_a_task_uses_its_native_vector_environment() -> None:
    data = ReplayDataModule(**TASK, num_envs=2)
    data.setup("fit")
    assert type(data.envs.unwrapped).__name__ == "SequenceVectorEnv"


def test_evaluation_has_environments_and_seeds_of_its_own() -> None:
    data = ReplayDataModule(**TASK, eval_episodes=6, eval_num_envs=2, eval_seed=100)
    data.setup("fit")
    assert data.eval_envs is not data.envs
    assert data.eval_envs.num_envs == 2
    assert list(data.val_dataloader()) == [EvaluationTask(seed, None, ("",)) for seed in (100, 102, 104)]


def test_every_block_is_evaluated_and_the_one_in_training_twice_named() -> None:
    data = ReplayDataModule(**TASK, env_kwargs=BLOCKS, eval_episodes=1, eval_seed=7)
    data.block = 1
    assert list(data.val_dataloader()) == [
        EvaluationTask(7, {"block": 0}, ("block_0/",)),
        EvaluationTask(7, {"block": 1}, ("block_1/", "")),
    ]
    assert data.evaluation_names() == ("", "block_0/", "block_1/")


@pytest.mark.parametrize("vectorization_mode", [None, "sync", "async", "vector_entry_point"])
def test_the_blocks_are_known_however_the_task_is_vectorised(vectorization_mode: str | None) -> None:
    data = ReplayDataModule(**TASK, env_kwargs=BLOCKS, num_envs=2, vectorization_mode=vectorization_mode)
    assert data.num_blocks == 2


def test_batches_come_whole_from_the_ring() -> None:
    data = ReplayDataModule(**TASK, batch_size=5, capacity=50, batches_per_epoch=3)
    zeros = np.zeros(1, bool)
    data.ring.restart(np.zeros((1, 10), np.float32))
    for t in range(20):
        data.ring.add(np.array([t]), np.array([float(t)]), zeros, zeros, np.full((1, 10), t + 1, np.float32))
    loader = data.train_dataloader()
    assert len(loader) == 3
    batches = list(loader)
    assert len(batches) == 3
    assert batches[0].state_batch.shape == (1, 5, 10)
    assert any(not (batches[0].action_batch == other.action_batch).all() for other in batches[1:])


class Instant(gym.vector.VectorEnv[Any, Any, Any]):
    """A vector environment of the other kind: it resets within the step."""

    metadata = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}

    def __init__(self, num_envs: int = 1) -> None:
        self.num_envs = num_envs


gym.register("tests/Instant-v0", vector_entry_point=Instant)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"env_id": "seqrl/Sequense-v0"}, r"data.env_id is 'seqrl/Sequense-v0', .* Did you mean: `Sequence`"),
        ({"env_id": "no_such_package:Env-v0"}, r"data.env_id is 'no_such_package:Env-v0', .*No module named"),
        ({"env_id": "Pendulum-v1"}, r"data.env_id is 'Pendulum-v1', whose actions are Box.*needs a Discrete"),
        ({"env_id": "tests/Instant-v0"}, r"autoreset_mode of data.env_id is .*SAME_STEP.*; it must be .*NEXT_STEP"),
        ({**TASK, "env_kwargs": {"trials": 3}}, r"data.env_kwargs is {'trials': 3}, which seqrl/Sequence-v0 refuses"),
        ({**TASK, "env_kwargs": {"blocks": [{"sequence": "XY"}]}}, r"X, Y is not among the objects ABCDEFGHIJ"),
        ({**TASK, "batch_size": 300, "capacity": 200}, r"data.batch_size is 300; it must be at most data.capacity"),
        ({**TASK, "num_envs": 0}, "data.num_envs is 0"),
        ({**TASK, "batches_per_epoch": 0}, "data.batches_per_epoch is 0"),
        ({**TASK, "eval_episodes": 5, "eval_num_envs": 2}, "data.eval_num_envs is 2; it must be a divisor of"),
        ({**TASK, "vectorization_mode": "threads"}, "data.vectorization_mode is 'threads'; it must be"),
    ],
)
def test_bad_settings_are_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ReplayDataModule(**kwargs)
