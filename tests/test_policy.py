"""A checkpoint alone gives a policy that plays as its module does."""

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import seqrl_lightning
from seqrl_lightning import collect
from seqrl_lightning.algorithms import DQN, QRDQN
from seqrl_lightning.envs import PreviousActionReward
from seqrl_lightning.envs.state import layers
from seqrl_lightning.export import export_policy
from seqrl_lightning.networks import GRU, MLP, Composed
from seqrl_lightning.policy import Policy, load_policy
from seqrl_lightning.replay import SequenceSampler
from seqrl_lightning.types import ConfigurationError
from tests.running import fit, seqrl
from tests.test_action_masks import ALGORITHMS

RECURRENT: dict[str, Any] = {
    "data": {"env_id": "seqrl/NBack-v0", "batch_size": 2, "capacity": 200, "sampler": SequenceSampler(length=4)},
    "agent": {"warmup_env_steps": 50},
}


def played(policy: Policy, env: gym.Env[Any, Any], seed: int) -> tuple[list[int], float]:
    """The actions and the return of one episode, in a plain Gymnasium loop."""
    observation, info = env.reset(seed=seed)
    policy.reset()
    actions, total, ended = [], 0.0, False
    while not ended:
        actions.append(policy.act(observation, info.get("action_mask")))
        observation, reward, terminated, truncated, info = env.step(actions[-1])
        total += float(reward)
        ended = terminated or truncated
    return actions, total


def played_by(module: Any, datamodule: Any, seed: int) -> tuple[list[int], float]:
    """The same by the module itself, as it is evaluated."""
    module.eval()
    steps = list(collect.rollout(collect.Policy(module.act_values).act, datamodule.factory.make_envs(1), seed))
    return [int(step.action[0]) for step in steps], float(sum(step.outcome.reward[0] for step in steps))


OTHERS: list[Any] = [
    (QRDQN, {"n_quantiles": 5}, {}, {}),
    (DQN, {"normalize_observations": True, "normalize_rewards": True}, {}, {}),
]


@pytest.mark.parametrize(("module_class", "model", "data", "agent"), [*ALGORITHMS, *OTHERS])
def test_every_algorithm_plays_as_its_module_does(
    tmp_path: Path, module_class: type[DQN], model: dict[str, Any], data: dict[str, Any], agent: dict[str, Any]
) -> None:
    """In an environment that raises if an action is taken that the mask forbids."""
    settings = {"env_id": "tests/Doors-v0", "batch_size": 8, "capacity": 100, **data}
    warmup = {"warmup_env_steps": 16, **agent}
    trainer, module, datamodule = fit(tmp_path, settings, model, warmup, module_class=module_class, max_steps=4)
    trainer.save_checkpoint(tmp_path / "policy.ckpt")

    policy = load_policy(tmp_path / "policy.ckpt", allow="tests")
    assert type(policy.module) is module_class
    env = policy.make_env()
    for seed in range(3):
        assert played(policy, env, seed) == played_by(module, datamodule, seed)
    assert policy.values is not None
    assert policy.values.shape == (3,)


def test_parts_are_shown_and_taken_by_their_names(tmp_path: Path) -> None:
    settings = {"env_id": "seqrl/PictureCue-v0", "batch_size": 8, "capacity": 100, "frame_stack": 2}
    trainer, module, datamodule = fit(tmp_path, settings, {"network": Composed}, {"warmup_env_steps": 16}, max_steps=4)
    trainer.save_checkpoint(tmp_path / "policy.ckpt")

    policy = load_policy(tmp_path / "policy.ckpt", network=Composed)
    env = policy.make_env()
    for seed in range(3):
        assert played(policy, env, seed) == played_by(module, datamodule, seed)
    observation, _ = env.reset(seed=0)
    policy.reset()
    both = policy.act({name: np.stack([part, part]) for name, part in observation.items()})
    assert isinstance(both, np.ndarray)
    policy.reset()
    assert both.tolist() == [policy.act(observation)] * 2
    for wrong, given in [
        (observation["picture"], "the observation is 'ndarray'"),
        ({"picture": observation["picture"]}, r"the observation is \['picture'\]"),
        ({**observation, "numbers": np.zeros(3)}, "the observation's shape is "),
    ]:
        with pytest.raises(ConfigurationError, match=rf"{given}.*; it must be a dict of picture uint8\(2, 8, 8\)"):
            policy.act(wrong)


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A checkpoint of a GRU that was handed in from Python, the module and its datamodule."""
    folder = tmp_path_factory.mktemp("recurrent")
    model = {"network": functools.partial(GRU, hidden_size=8)}
    trainer, module, datamodule = fit(folder, RECURRENT["data"], model, RECURRENT["agent"], max_steps=2)
    trainer.save_checkpoint(folder / "policy.ckpt")
    return folder / "policy.ckpt", module, datamodule


def small_gru(obs_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> GRU:
    return GRU(obs_shape, out_shape, hidden_size=8)


def test_a_recurrent_policy_remembers_until_it_is_reset(recurrent: tuple[Path, Any, Any]) -> None:
    path, module, datamodule = recurrent
    policy = load_policy(path, small_gru)
    env = policy.make_env()
    assert [played(policy, env, seed) for seed in (0, 1, 0)] == [
        played_by(module, datamodule, seed) for seed in (0, 1, 0)
    ]
    observation = np.ones(policy.module.obs_shape, np.float32)
    values = []
    for is_new in (True, False, True):
        if is_new:
            policy.reset()
        policy.act(observation)
        assert policy.values is not None
        values.append(policy.values.tolist())
    assert values[0] == values[2] != values[1]


def test_environments_side_by_side(recurrent: tuple[Path, Any, Any]) -> None:
    """A row whose episode starts anew is as in a policy of its own."""
    policy, alone = load_policy(recurrent[0], small_gru), load_policy(recurrent[0], small_gru)
    observations = np.random.default_rng(0).normal(size=(4, 3, *policy.module.obs_shape)).astype(np.float32)
    policy.act(observations[0])
    policy.act(observations[1], is_first=np.array([False, True, False]))
    actions = policy.act(observations[2], np.array([[1, 1, 1, 1], [0, 1, 0, 0], [1, 1, 1, 1]]))
    assert isinstance(actions, np.ndarray)
    assert actions[1] == 1
    for row, start in ((0, 0), (1, 1)):
        alone.reset()
        for step in range(start, 3):
            alone.act(observations[step, row])
        assert alone.values == pytest.approx(policy.values[row], abs=1e-6)  # type: ignore[index]
    with pytest.raises(ConfigurationError, match=r"number of environments is 2; it must be 3, as before"):
        policy.act(observations[3, :2])


def test_a_network_from_python_has_to_be_given_again(recurrent: tuple[Path, Any, Any]) -> None:
    for wrong in (None, MLP, GRU):
        with pytest.raises(ConfigurationError, match=r"the network of .* doesn't fit .* network=\.\.\."):
            load_policy(recurrent[0], wrong)


def test_observations_of_another_shape_are_named(recurrent: tuple[Path, Any, Any]) -> None:
    policy = load_policy(recurrent[0], small_gru)
    with pytest.raises(ConfigurationError, match=r"the observation's shape is \(3,\); it must be \(9,\)"):
        policy.act([0, 1, 0])


def test_what_is_no_checkpoint_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    for name, reason in (("none", "it is missing"), ("text", "it is damaged"), ("other", "it has no format version")):
        with pytest.raises(ConfigurationError, match=rf"{name}.ckpt can't be used: {reason}"):
            load_policy(tmp_path / f"{name}.ckpt")


def test_by_the_command_line_the_checkpoint_holds_network_and_wrappers(tmp_path: Path) -> None:
    status, _, err = seqrl(
        "fit",
        "--data.env_id=CartPole-v1",
        '--data.wrappers=["PreviousActionReward"]',
        "--data.frame_stack=2",
        "--data.batch_size=4",
        "--model=C51",
        "--model.n_atoms=5",
        "--model.network=MLP",
        "--model.network.hidden_sizes=[6]",
        "--agent.warmup_env_steps=10",
        "--trainer.max_steps=2",
        "--trainer.enable_progress_bar=false",
        f"--trainer.default_root_dir={tmp_path}",
    )
    assert status == 0, err
    policy = seqrl_lightning.load_policy(tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt")
    assert policy.module.policy_net.head.output.weight.shape == (2 * 5, 6)
    env = policy.make_env()
    assert isinstance(env.env, gym.wrappers.FrameStackObservation)
    assert any(isinstance(layer, PreviousActionReward) for layer in layers(env))
    actions, total = played(policy, env, 0)
    assert len(actions) == total >= 8  # which any policy reaches


@pytest.mark.slow
@pytest.mark.alone
def test_a_program_that_never_imports_the_command_line_rebuilds_wrappers() -> None:
    scale = {"class_path": "gymnasium.wrappers.RescaleObservation", "init_args": {"min_obs": -1.0, "max_obs": 1.0}}
    settings = {"env_id": "seqrl/CartPoleNoVel-v1", "wrappers": [scale], "_instantiator": "by the command line"}
    lines = [
        "import sys; from types import SimpleNamespace; from seqrl_lightning.policy import Policy; "
        "from seqrl_lightning.recipe import Recipe",
        "learner = SimpleNamespace(act_values=None, obs_shape=(2,))",
        f"env = Policy(learner, Recipe('', {{}}, {settings}, 'float32')).make_env()",
        "print(env.observation_space.high, 'seqrl_lightning.cli' in sys.modules)",
    ]
    result = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "[1. 1.] False", result.stderr


def test_wrappers_from_python_are_not_in_the_checkpoint(tmp_path: Path) -> None:
    settings = {"env_id": "CartPole-v1", "batch_size": 4, "capacity": 20, "wrappers": [PreviousActionReward]}
    trainer, *_ = fit(tmp_path, settings, {}, {"warmup_env_steps": 10}, max_steps=1)
    trainer.save_checkpoint(tmp_path / "policy.ckpt")
    policy = load_policy(tmp_path / "policy.ckpt")
    with pytest.raises(ConfigurationError, match=r"doesn't hold data\.wrappers"):
        policy.make_env()
    _, total = played(policy, PreviousActionReward(gym.make("CartPole-v1")), 0)
    assert total >= 8


def test_masks_of_a_vector_environment(tmp_path: Path) -> None:
    settings = {"env_id": "tests/Doors-v0", "batch_size": 4, "capacity": 20}
    trainer, *_ = fit(tmp_path, settings, {}, {"warmup_env_steps": 10}, max_steps=1)
    trainer.save_checkpoint(tmp_path / "policy.ckpt")
    policy = load_policy(tmp_path / "policy.ckpt")
    observations, infos = gym.make_vec("tests/Doors-v0", num_envs=5).reset(seed=0)
    actions = policy.act(observations, infos["action_mask"])
    mask = np.stack(list(infos["action_mask"]))
    assert mask[range(5), actions].all()


def test_a_network_from_python_is_exported_and_read_back(recurrent: tuple[Path, Any, Any], tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="needs the extra export")
    policy, path = load_policy(recurrent[0], small_gru), tmp_path / "policy.safetensors"
    assert export_policy(policy, "safetensors", path) == 0.0
    observation = np.ones(policy.module.obs_shape, np.float32)
    assert load_policy(path, small_gru).act(observation) == policy.act(observation)
    policy.network = None
    for unwritten in (path, tmp_path / "other.safetensors"):
        with pytest.raises(ConfigurationError, match=r"network=\.\.\."):
            export_policy(policy, "safetensors", unwritten)
    assert path.exists()  # the one that could be read back
    assert not unwritten.exists()  # what can't be read back isn't kept
