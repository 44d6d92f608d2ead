import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.envs import Border, FlattenMultiDiscreteAction, PreviousActionReward, TaskVectorEnv
from seqrl_lightning.envs.vector_border import VectorBorder
from seqrl_lightning.replay import PrioritizedSampler, room
from seqrl_lightning.types import ConfigurationError, EvaluationTask
from tests.running import assert_identical, fit
from tests.tasks import Lights

TASK = {"env_id": "seqrl/Sequence-v0"}
BLOCKS = {"blocks": [{"sequence": "ABCDEFGHIJ", "episodes": 5}, {"sequence": "reversed"}]}


def test_the_task_tells_its_shapes() -> None:
    data = ReplayDataModule(**TASK)
    assert (data.obs_shape, data.obs_dtype, data.n_actions) == ((10,), "float32", 10)


def test_discrete_observations_become_one_hot() -> None:
    data = ReplayDataModule("FrozenLake-v1", capacity=200)
    assert (data.obs_shape, data.n_actions) == ((16,), 4)
    data.setup("fit")
    assert data.envs.reset(seed=0).observation.sum() == 1


def test_a_task_uses_its_native_vector_environment() -> None:
    data = ReplayDataModule(**TASK, num_envs=2)
    data.setup("fit")
    assert isinstance(data.envs, VectorBorder)
    assert type(data.envs.envs) is TaskVectorEnv


def test_evaluation_has_environments_and_seeds_of_its_own() -> None:
    data = ReplayDataModule(**TASK, eval_episodes=6, eval_num_envs=2, eval_seed=100)
    data.setup("fit")
    assert data.eval_envs is not data.envs
    assert data.eval_envs.num_envs == 2
    assert list(data.val_dataloader()) == [EvaluationTask(seed, None, ("",)) for seed in (100, 102, 104)]


def test_every_block_is_evaluated_and_the_one_in_training_twice_named() -> None:
    data = ReplayDataModule(**TASK, env_kwargs=BLOCKS, eval_episodes=1, eval_seed=7)
    data.progress.block = 1
    assert list(data.val_dataloader()) == [
        EvaluationTask(7, {"block": 0}, ("block_0/",)),
        EvaluationTask(7, {"block": 1}, ("block_1/", "")),
    ]
    assert data.evaluation_names() == ("", "block_0/", "block_1/")


@pytest.mark.parametrize("vectorization_mode", [None, "sync", "async", "vector_entry_point"])
def test_the_blocks_are_known_however_the_task_is_vectorised(vectorization_mode: str | None) -> None:
    data = ReplayDataModule(**TASK, env_kwargs=BLOCKS, num_envs=2, vectorization_mode=vectorization_mode)
    assert data.num_blocks == 2


def limited(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    return gym.wrappers.TimeLimit(env, max_episode_steps=3)


def doubled(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    return gym.wrappers.TransformReward(env, lambda reward: 2 * reward)


@pytest.mark.parametrize(("num_envs", "vectorization_mode"), [(1, None), (3, None), (2, "sync"), (2, "async")])
def test_wrappers_are_applied_in_order_to_each_environment(num_envs: int, vectorization_mode: str | None) -> None:
    # The previous reward is what the wrapper inside gives; the doubling outside it comes after.
    wrappers = [limited, doubled, PreviousActionReward, doubled]
    data = ReplayDataModule(**TASK, num_envs=num_envs, vectorization_mode=vectorization_mode, wrappers=wrappers)
    assert data.obs_shape == (10 + 10 + 1,)
    data.setup("fit")
    for envs in (data.envs, data.eval_envs):
        shown = envs.reset(seed=0)
        assert (shown.observation[:, 10:] == 0).all()
        assert shown.correct_action is not None
        assert (shown.correct_action == 1).all()
        outcome = envs.step(np.ones(envs.num_envs, int))
        assert (outcome.reward == 4).all()
        assert (outcome.task_reward == 1).all()
        assert (outcome.shown.observation[:, -1] == 2).all()
        for _ in range(2):
            outcome = envs.step(np.zeros(envs.num_envs, int))
        assert outcome.truncated.all()
    data.teardown("fit")


def test_blocks_are_known_through_wrappers() -> None:
    assert ReplayDataModule(**TASK, env_kwargs=BLOCKS, num_envs=2, wrappers=[PreviousActionReward]).num_blocks == 2


def test_wrappers_from_python_stay_out_of_the_saved_hyperparameters() -> None:
    data = ReplayDataModule(**TASK, wrappers=[PreviousActionReward])
    assert "wrappers" not in data.hparams
    assert data.hparams["env_id"] == TASK["env_id"]


def test_what_the_agent_did_is_in_the_replay_memory(tmp_path: Path) -> None:
    settings = {"env_id": "tests/Corridor-v0", "wrappers": [PreviousActionReward], "num_envs": 3, "batch_size": 64}
    _, _, data = fit(tmp_path, settings, {}, {"warmup_env_steps": 90}, max_steps=20)
    batch = next(iter(data.train_dataloader()))
    assert data.obs_shape == (6 + 2 + 1,)
    assert (batch.next_state_batch[..., 6:8].argmax(-1) == batch.action_batch).all()
    assert (batch.next_state_batch[..., 8] == batch.reward_batch.squeeze(-1)).all()
    at_the_start = batch.state_batch[..., 6:8].sum(-1) == 0
    assert at_the_start.any()
    assert (batch.state_batch[at_the_start][:, 0] == 1).all()


class Scene(gym.Env[Any, Any]):
    """An observation made of parts."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, space: gym.Space[Any]) -> None:
        self.observation_space = space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(0)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


gym.register("tests/Scene-v0", Scene)
PARTS = (gym.spaces.Discrete(3), gym.spaces.Box(0, 1, (2, 2)))


@pytest.mark.parametrize(
    ("space", "size", "one_hots"),
    [
        (gym.spaces.Discrete(3), 3, 1),
        (gym.spaces.MultiDiscrete([2, 3]), 5, 2),
        (gym.spaces.Tuple(PARTS), 3 + 4, None),
        (gym.spaces.Dict(a=PARTS[0], b=PARTS[1]), 3 + 4, None),
    ],
)
@pytest.mark.parametrize("num_envs", [1, 2])
def test_composed_observations_become_flat_and_the_log_says_so(
    space: gym.Space[Any], size: int, one_hots: int | None, num_envs: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        data = ReplayDataModule("tests/Scene-v0", num_envs=num_envs, env_kwargs={"space": space})
        data.setup("fit")
    assert caplog.text.count("The observations of tests/Scene-v0") == 1
    assert f"are flattened to ({size},)" in caplog.text
    assert data.obs_shape == (size,)
    observation = data.envs.reset(seed=0).observation
    assert observation.shape == (num_envs, size)
    if one_hots is not None:
        assert (observation.sum(axis=1) == one_hots).all()
        assert set(np.unique(observation)) == {0, 1}


@pytest.mark.parametrize("num_envs", [1, 2])
def test_popgym(num_envs: int) -> None:
    pytest.importorskip("popgym", reason="needs the extra popgym")
    settings = {"env_id": "popgym:popgym-RepeatFirstEasy-v0", "num_envs": num_envs}
    assert ReplayDataModule(**settings).obs_shape == (4,)
    data = ReplayDataModule(**settings, wrappers=[PreviousActionReward])
    data.setup("fit")
    first = data.envs.reset(seed=0).observation[:, :4].argmax(1)
    assert (data.envs.step(first).reward > 0).all()  # the task is to repeat what was shown first
    assert data.envs.step((first + 1) % 4).shown.observation.shape == (num_envs, 4 + 4 + 1)


def test_box_observations_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        ReplayDataModule(**TASK)
    assert "flattened" not in caplog.text


def test_combined_actions_become_actions_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert ReplayDataModule("tests/Lights-v0").n_actions == 6
    assert "The actions of tests/Lights-v0, MultiDiscrete([2 3]), are flattened to 6" in caplog.text
    assert ReplayDataModule("tests/Lights-v0", wrappers=[FlattenMultiDiscreteAction]).n_actions == 6


def test_too_many_combined_actions_are_refused_and_the_error_names_the_wrapper() -> None:
    class ManyLights(Lights):
        action_space = observation_space = gym.spaces.MultiDiscrete([17, 241])

    gym.register("tests/ManyLights-v0", ManyLights)
    with pytest.raises(ConfigurationError, match=r"with 4,097 combinations; .* at most 4,096.*FlattenMultiDiscrete"):
        ReplayDataModule("tests/ManyLights-v0")
    assert ReplayDataModule("tests/ManyLights-v0", wrappers=[FlattenMultiDiscreteAction]).n_actions == 4097


def test_a_sampler_can_be_given_to_one_run_after_another(tmp_path: Path) -> None:
    sampler = PrioritizedSampler()
    weights = []
    for _ in range(2):
        settings = {"env_id": "tests/Corridor-v0", "batch_size": 8, "capacity": 100, "sampler": sampler}
        torch.manual_seed(7)
        _, module, _ = fit(tmp_path, settings, {}, {"warmup_env_steps": 16}, max_steps=20)
        weights.append({name: value.clone() for name, value in module.state_dict().items()})
    assert_identical(*weights)


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


class Undeclared(CartPoleVectorEnv):
    """A vector environment that doesn't say when it resets."""

    metadata = {}


gym.register("tests/Undeclared-v0", vector_entry_point=Undeclared)


class Clipping(CartPoleVectorEnv):
    """A vector environment with the settings of ALE's."""

    def __init__(self, num_envs: int = 1, reward_clipping: bool = True, episodic_life: bool = False) -> None:
        super().__init__(num_envs)


gym.register("tests/Clipping-v0", vector_entry_point=Clipping)


@pytest.mark.parametrize(
    ("env_kwargs", "named"),
    [
        ({}, "data.env_kwargs.reward_clipping"),
        ({"episodic_life": True}, "data.env_kwargs.reward_clipping and data.env_kwargs.episodic_life"),
        ({"episodic_life": True, "reward_clipping": False}, "data.env_kwargs.episodic_life"),
        ({"reward_clipping": False}, None),
    ],
)
def test_settings_that_change_returns_are_named(env_kwargs: dict[str, Any], named: str | None) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ReplayDataModule("tests/Clipping-v0", env_kwargs=env_kwargs)
    messages = [str(warning.message) for warning in caught if "Returns of" in str(warning.message)]
    assert len(messages) == (named is not None)
    assert all(f"not the task's own, but follow from {named}, which must be false" in message for message in messages)


def is_closed(envs: Border) -> bool:
    assert isinstance(envs, VectorBorder)
    return envs.envs.closed


@pytest.mark.parametrize("how", ["teardown", "discard"])
def test_all_environments_are_closed_once(how: str) -> None:
    data = ReplayDataModule("CartPole-v1", num_envs=2, vectorization_mode="async", eval_episodes=2)
    data.setup("fit")
    first = data.envs
    data.remake_envs()
    assert data.envs is not first
    assert is_closed(first)
    data.setup("validate")
    made = [data.envs, data.eval_envs]
    assert not any(is_closed(envs) for envs in made)
    for _ in range(2):  # the second time there is nothing left to close
        data.teardown("fit") if how == "teardown" else data.discard_envs()
    assert all(is_closed(envs) for envs in made)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"env_id": "seqrl/Sequense-v0"}, r"data.env_id is 'seqrl/Sequense-v0', .* Did you mean: `Sequence`"),
        ({"env_id": "no_such_package:Env-v0"}, r"data.env_id is 'no_such_package:Env-v0', .*No module named"),
        ({"env_id": "tests.tasks:Diry"}, r"'tests.tasks:Diry', .* defines no class and no function Diry$"),
        ({"env_id": "Pendulum-v1"}, r"'Pendulum-v1', whose actions are Box.*must be Discrete or MultiDiscrete"),
        ({"env_id": "tests/Undeclared-v0"}, r"data.autoreset_mode is None; it must be one of .* doesn't declare it"),
        ({**TASK, "env_kwargs": {"trials": 3}}, r"data.env_kwargs is {'trials': 3}, which seqrl/Sequence-v0 refuses"),
        ({**TASK, "env_kwargs": {"blocks": [{"sequence": "XY"}]}}, r"X, Y is not among the objects ABCDEFGHIJ"),
        ({**TASK, "batch_size": 300, "capacity": 200}, r"data.batch_size is 300; it must be at most data.capacity"),
        ({**TASK, "num_envs": 0}, "data.num_envs is 0"),
        ({**TASK, "batches_per_epoch": 0}, "data.batches_per_epoch is 0"),
        ({**TASK, "eval_episodes": 5, "eval_num_envs": 2}, "data.eval_num_envs is 2; it must be a divisor of"),
        ({**TASK, "wrappers": [FlattenMultiDiscreteAction]}, r"FlattenMultiDiscreteAction needs MultiDiscrete actions"),
        (
            {**TASK, "wrappers": [limited, gym.wrappers.TimeLimit]},
            r"data.wrappers\[1\] can't wrap seqrl/Sequence-v0: .*",
        ),
        (
            {**TASK, "wrappers": [limited], "vectorization_mode": "vector_entry_point"},
            r"data.wrappers\[0\] is 'TimeLimit'; it must be ClipReward or ScaleReward with data.vectorization_mode",
        ),
        ({**TASK, "buffer_device": "tpu"}, "data.buffer_device is 'tpu'; it must be auto, cpu or cuda"),
        (
            {**TASK, "buffer_device": "auto", "mmap_dir": "."},
            "data.buffer_device is 'auto'; it must be cpu with data.mmap",
        ),
        ({**TASK, "vectorization_mode": "threads"}, "data.vectorization_mode is 'threads'; it must be"),
    ],
)
def test_bad_settings_are_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ReplayDataModule(**kwargs)


def test_a_gpu_for_the_replay_memory_is_the_trainers(tmp_path: Path) -> None:
    data = {**TASK, "buffer_device": "cuda", "batch_size": 8}
    with pytest.raises(
        ConfigurationError, match=r"data.buffer_device is 'cuda'; it must be cpu or auto: the Trainer's"
    ):
        fit(tmp_path, data, {}, {"warmup_env_steps": 8}, accelerator="cpu", max_steps=1)


def test_a_replay_memory_that_cannot_fit_is_refused_with_what_fits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(room, "memory_bytes", lambda: 16_000)  # CartPole's observations are of 16 bytes
    ReplayDataModule("CartPole-v1", capacity=1_000)
    with pytest.raises(ConfigurationError, match=r"data.capacity is 1001; it must be at most 1,000: .*data.mmap_dir"):
        ReplayDataModule("CartPole-v1", capacity=1_001)
    ReplayDataModule("CartPole-v1", capacity=1_001, mmap_dir=str(tmp_path))


def test_the_memory_of_a_container_is_its_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(room, "_CONTAINER_LIMIT", tmp_path / "memory.max")
    physical = room.memory_bytes()
    assert physical > 2**28
    (tmp_path / "memory.max").write_text("max\n")
    assert room.memory_bytes() == physical
    (tmp_path / "memory.max").write_text("1048576\n")
    assert room.memory_bytes() == 2**20
