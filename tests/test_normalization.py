"""Running normalization in whole runs: with every kind of batch, in evaluation, in files, and what is refused."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from seqrl_lightning.algorithms import DQN, PQN, SARSA, DiscreteSAC
from seqrl_lightning.callbacks import AgentCallback
from seqrl_lightning.envs import PreviousActionReward
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.networks import GRU, MLP, Composed, Network, Table
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.replay import LatestSampler, PrioritizedSampler, RolloutSampler, SequenceSampler
from seqrl_lightning.types import ConfigurationError
from tests.running import assert_identical, fit

BOTH = {"normalize_observations": True, "normalize_rewards": True}
ONLINE = {"batch_size": 1, "sampler": LatestSampler()}
ROLLOUTS = {"num_envs": 3, "sampler": RolloutSampler(8), "batch_size": 8}
CASES: dict[str, tuple[type[DQN], dict[str, Any], dict[str, Any]]] = {
    "one environment": (DQN, {}, {}),
    "n-step": (DQN, {"double": True}, {"num_envs": 3, "sampler": PrioritizedSampler(n_step=3)}),
    "windows": (DQN, {"network": GRU}, {"num_envs": 2, "sampler": SequenceSampler(6, 3, 2)}),
    "previous action": (DQN, {"network": GRU}, {"wrappers": [PreviousActionReward], "sampler": SequenceSampler(6, 3)}),
    "online": (SARSA, {}, ONLINE),
    "masks": (DQN, {}, {"env_id": "tests/Doors-v0", "num_envs": 2}),
    "discrete SAC": (DiscreteSAC, {}, {}),
    "rollouts": (PQN, {"epochs": 1}, ROLLOUTS),
    "recurrent rollouts": (PQN, {"epochs": 1, "network": GRU}, ROLLOUTS),
    "frames": (DQN, {}, {"frame_stack": 2, "num_envs": 2}),
    "parts": (DQN, {"network": Composed}, {"env_id": "seqrl/PictureCue-v0", "num_envs": 2}),
}


class Witness(Callback):
    """Compares what networks read and rewards are with the replay memory's rows, by the statistics of the time."""

    def __init__(self) -> None:
        self.num_read = 0
        self.expected: Any = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        networks = [module for module in pl_module.modules() if isinstance(module, Network)]
        for network in [net for net in networks if isinstance(net, Composed)] or networks:
            network.register_forward_pre_hook(partial(self.check_read, pl_module.obs_shape))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        ring, norms = trainer.datamodule.ring, pl_module.normalization
        slots = np.arange((ring.num_added + 1) * ring.num_envs)  # nothing was overwritten so far
        frames = numbers(ring.observations(slots), pl_module.obs_shape)
        newest = frames if ring.frame_stack == 1 else frames[:, -1]
        mean, variance = (np.array(of) for of in norms.observations.norm.moments[1:])
        variance /= len(slots)
        np.testing.assert_allclose(mean if ring.frame_stack == 1 else mean[-1], newest.mean(0), rtol=1e-6)
        unused = np.zeros((1, *frames.shape[1:]))  # rows of windows that weren't filled yet, without a weight
        self.expected = ((np.concatenate([frames, unused]) - mean) / np.sqrt(variance + 1e-8)).clip(-10, 10)
        stored, scale = ring.reward.reshape(-1), np.sqrt(float(norms.rewards.norm.moments.variance) + 1e-8)
        assert scale != pytest.approx(1.0)
        rewards = np.append(0.0, (stored / scale).clip(-10, 10))
        learned = norms.batch(batch).reward_batch.numpy().reshape(-1, 1)
        assert np.abs(learned - rewards).min(1).max() < 1e-4

    def check_read(self, shape: Any, network: Any, args: Any) -> None:
        if self.expected is None or torch.is_inference_mode_enabled():  # an action's observation is not yet stored
            return
        read = numbers(args[0].flatten(0, 1), shape)
        distances = np.abs(read.reshape(len(read), 1, -1) - self.expected.reshape(len(self.expected), -1))
        assert distances.max(-1).min(1).max() < 1e-3
        self.num_read += 1


def numbers(observation: torch.Tensor, shape: Any) -> Any:
    """[N, *obs] as float64; of parts those that are floats."""
    if isinstance(shape, PackedShape):
        parts = shape.unpack_tensor(observation)
        floats = [part.flatten(1) for name, part in parts.items() if shape.parts[name].dtype == "float32"]
        return torch.cat(floats, dim=1).double().numpy()
    return observation.double().numpy()


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_batch_is_normalized_by_all_that_was_seen(tmp_path: Path, name: str) -> None:
    module_class, model, data = CASES[name]
    settings = {"env_id": "tests/Diary-v0", "batch_size": 4, "capacity": 900, **data}
    agent = {"epsilon": ConstantEpsilon(0.5), **({} if module_class is PQN else {"warmup_env_steps": 30})}
    witness = Witness()
    _, module, _ = fit(tmp_path, settings, {**BOTH, **model}, agent, None, [witness], module_class, max_steps=12)
    assert witness.num_read >= 12
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


@pytest.mark.parametrize("network", [MLP, GRU])  # which act in NumPy and in torch
def test_actions_are_chosen_by_normalized_observations(network: Any) -> None:
    module = DQN((3,), 2, network=network, normalize_observations=True)
    assert module.normalization.observations is not None
    rows = np.random.default_rng(0).normal(5.0, 2.0, (50, 3)).astype(np.float32)
    module.normalization.observations.add(torch.from_numpy(rows))
    module.normalization.share()
    values, _ = module.act_values(rows[:4])
    read = ((rows[:4] - rows.mean(0)) / rows.std(0)).astype(np.float32)
    with torch.no_grad():
        expected = module.policy_net(torch.from_numpy(read)[None])[0][0]
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_actions_are_chosen_without_the_memory_of_the_episode_before() -> None:
    module = DQN((3,), 2, network=GRU)
    rows = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    _, state = module.act_values(rows)
    afresh, _ = module.act_values(rows)
    values, _ = module.act_values(rows, state, np.array([True, False]))
    np.testing.assert_allclose(values[0], afresh[0], atol=1e-6)
    assert np.abs(values[1] - afresh[1]).max() > 1e-4


def test_logged_returns_are_the_tasks_own_and_evaluation_leaves_the_statistics_alone(tmp_path: Path) -> None:
    data = {"env_id": "tests/Short-v0", "env_kwargs": {"length": 7}, "batch_size": 4, "capacity": 100}
    trainer, module, datamodule = fit(tmp_path, data, BOTH, {"warmup_env_steps": 30}, max_steps=20)
    assert set(AgentCallback.of(trainer).episode_log.recent_returns) == {7.0}
    before = {name: value.clone() for name, value in module.state_dict().items()}
    (results,) = trainer.validate(module, datamodule=datamodule, verbose=False)
    assert results["val/return_mean"] == 7.0
    assert_identical(before, dict(module.state_dict()))


@pytest.mark.parametrize(
    ("model", "data", "line"),
    [
        ({}, {"env_id": "tests/Lights-v0"}, "the observations are no floats, but"),
        ({"network": Table}, {"env_id": "tests/Corridor-v0"}, "with a Table, which reads one-hot states"),
    ],
)
def test_what_has_no_scale_is_refused(tmp_path: Path, model: Any, data: Any, line: str) -> None:
    start = "model.normalize_observations is True; it must be false"
    with pytest.raises(ConfigurationError, match=f"^{start}.*{line}"):
        fit(tmp_path, {"batch_size": 4, **data}, {**BOTH, **model}, {"warmup_env_steps": 30}, max_steps=4)
