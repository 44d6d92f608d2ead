"""Defaults by kind of learner and network."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from seqrl_lightning import Agent
from seqrl_lightning.algorithms import DQN
from seqrl_lightning.cli import main
from seqrl_lightning.exploration import LinearEpsilon
from seqrl_lightning.networks import MLP, Network
from seqrl_lightning.types import ConfigurationError, State

CONFIGS = Path(__file__).parents[1] / "configs"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict, str]:
    """The settings that ``seqrl fit`` would have, and what it said about them."""
    with pytest.raises(SystemExit) as ended:
        main(["fit", *arguments, "--print_config"])
    assert ended.value.code in (0, None)
    out, err = capsys.readouterr()
    return yaml.safe_load(out), err


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("network", ["GRU", "FFM", "Transformer", "FrameStack"])
def test_a_network_that_remembers(network: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings, said = printed(capsys, f"--model.network={network}")
    sampler, epsilon = settings["data"]["sampler"], settings["agent"]["epsilon"]["init_args"]
    assert sampler["class_path"].endswith(".SequenceSampler")
    assert (settings["data"]["num_envs"], settings["data"]["batch_size"]) == (16, 32)
    assert (settings["model"]["init_args"]["double"], settings["model"]["init_args"]["clip_grad_norm"]) == (True, 10.0)
    assert (epsilon["start"], epsilon["end"], epsilon["decay_env_steps"]) == (1.0, 0.05, 10_000)
    assert (settings["agent"]["max_env_steps"], settings["target_sync"]["tau"]) == (30_000, 0.01)
    assert said.startswith(f"seqrl: defaults for model.network {network}: data.num_envs 16, data.batch_size 32, ")
    assert said.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["DQN", "IQN", "QRDQN"])
def test_munchausen_selects_by_its_own_policy(learner: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Double Q-learning would be refused with it: no default may be what the user then has to take back."""
    given = f"--model={learner}", "--model.network=GRU", "--model.munchausen_alpha=0.9"
    settings, said = printed(capsys, *given)
    assert not settings["model"]["init_args"]["double"]
    assert "double" not in said
    assert printed(capsys, *given[:2], "--model.munchausen_alpha=0")[0]["model"]["init_args"]["double"]


def test_what_is_given_counts(capsys: pytest.CaptureFixture[str]) -> None:
    given = (
        "--data.batch_size=8",
        "--data.sampler.overlap=3",
        "--agent.epsilon.decay_env_steps=77",
        "--model.double=false",
    )
    settings, said = printed(capsys, "--model.network=GRU", *given, "--trainer.max_epochs", "1")
    assert settings["data"]["batch_size"] == 8
    assert settings["data"]["sampler"]["init_args"]["overlap"] == 3
    assert settings["agent"]["epsilon"]["init_args"] == {"start": 1.0, "end": 0.05, "decay_env_steps": 77}
    assert not settings["model"]["init_args"]["double"]
    assert settings["agent"]["max_env_steps"] is None
    assert "data.num_envs 16" in said
    for name in ("batch_size", "sampler", "epsilon", "double", "max_env_steps"):
        assert name not in said


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    "budget",
    [
        "--agent.max_episodes=5",
        "--trainer.max_steps=5",
        "--trainer.max_time=00:00:01:00",
        "--trainer.callbacks=Timer",
        "--trainer.callbacks+=Timer",
    ],
)
def test_a_budget_that_is_given_is_the_only_one(budget: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings, said = printed(capsys, "--model.network=GRU", budget)
    assert settings["agent"]["max_env_steps"] is None
    assert "max_env_steps" not in said


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    ("group", "values"),
    [("agent", {"max_env_steps": 500}), ("target_sync", {"tau": 0.5}), ("data", {"num_envs": 4})],
)
def test_settings_that_are_given_as_a_group(group: str, values: dict, capsys: pytest.CaptureFixture[str]) -> None:
    settings, said = printed(capsys, "--model.network=GRU", f"--{group}={json.dumps(values)}")
    assert settings[group].items() >= values.items()
    assert not any(f"{group}.{name}" in said for name in values)


@pytest.mark.slow
@pytest.mark.parametrize("given", ["--target_sync.sync_every_updates=500", '--target_sync={"sync_every_updates": 500}'])
def test_syncs_that_are_rare_are_copies(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings, said = printed(capsys, "--model.network=GRU", given)
    assert settings["target_sync"] == {"sync_every_updates": 500, "tau": None}
    assert "tau" not in said
    assert printed(capsys, "--model.network=GRU", given, "--target_sync.tau=0.5")[0]["target_sync"]["tau"] == 0.5


def test_a_clone_has_no_target_network_to_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    settings, said = printed(capsys, "--model=BehaviorCloning", "--model.network=GRU")
    assert settings["target_sync"]["tau"] is None
    assert "tau" not in said


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--model.network=MLP"], True),  # the class that it would be anyway
        (["--model.network.hidden_sizes=[64,64]"], True),
        (["--model.network.head=DuelingHead"], True),
        (["--model.network.layer_norm=false"], False),
    ],
)
def test_a_setting_leaves_the_others_of_its_class(
    words: list[str], kept: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, said = printed(capsys, "--model=PQN", *words)
    assert settings["model"]["init_args"]["network"]["init_args"]["layer_norm"] == kept
    assert ("model.network MLP (layer_norm True)" in said) == kept


OWN_DEFAULTS = {
    "epsilon": (["--agent.epsilon=LinearEpsilon"], "agent.epsilon", {"start": 1.0, "decay_env_steps": 10_000}),
    "epsilon in a group": (
        ['--agent={"epsilon": "LinearEpsilon"}'],
        "agent.epsilon",
        {"start": 1.0, "decay_env_steps": 10_000},
    ),
    "epsilon, one setting": (
        ["--agent.epsilon=LinearEpsilon", "--agent.epsilon.end=0.1"],
        "agent.epsilon",
        {"start": 1.0, "end": 0.1, "decay_env_steps": 10_000},
    ),
    "no class, one setting": (["--agent.epsilon.end=0.1"], "agent.epsilon", {"start": 0.9, "decay_env_steps": 200}),
    "epsilon of another kind": (
        ["--model.network=GRU", "--agent.epsilon=ExponentialEpsilon"],
        "agent.epsilon",
        {"start": 0.9, "decay_env_steps": 200},
    ),
    "sampler of another kind": (
        ["--model.network=GRU", "--data.sampler=RolloutSampler"],
        "data.sampler",
        {"length": 32},
    ),
    "optimizer": (["--model.optimizer=AdamW"], "model.init_args.optimizer", {"weight_decay": 0.01}),
    "torch's optimizer": (["--model.optimizer=torch.optim.Adadelta"], "model.init_args.optimizer", {"eps": 1e-6}),
    "the default optimizer": (["--model.gamma=0.9"], "model.init_args.optimizer", {"fused": True}),
    "one of its settings": (["--model.optimizer.eps=1e-5"], "model.init_args.optimizer", {"fused": True, "eps": 1e-5}),
    "it is named": (["--model=IQN", "--model.optimizer=Adam"], "model.init_args.optimizer", {"fused": True}),
    "a copied target": (
        ["--model.network=GRU", "--model.optimizer.eps=1e-5", "--target_sync.sync_every_updates=500"],
        "model.init_args.optimizer",
        {"fused": True, "eps": 1e-5},
    ),
}


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(("words", "setting", "expected"), OWN_DEFAULTS.values(), ids=OWN_DEFAULTS)
def test_a_class_that_is_named_has_its_own_defaults(
    words: list[str], setting: str, expected: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not those of the class in whose place it is named, wherever both have a setting of that name."""
    found, _ = printed(capsys, *words)
    for name in setting.split("."):
        found = found[name]
    assert found["init_args"].items() >= expected.items()


@pytest.mark.slow
def test_a_class_that_is_named_in_a_file_or_from_python_has_its_own_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("agent: {epsilon: {class_path: LinearEpsilon, init_args: {end: 0.1}}}")
    settings, _ = printed(capsys, f"--config={path}")
    assert settings["agent"]["epsilon"]["init_args"] == {"start": 1.0, "end": 0.1, "decay_env_steps": 10_000}
    agent = Agent(
        "CartPole-v1", seed=1, folder=tmp_path, epsilon=LinearEpsilon, optimizer=torch.optim.AdamW, warmup_env_steps=200
    ).learn(210)
    written = yaml.safe_load((Path(str(agent.trainer.log_dir)) / "config.yaml").read_text())
    assert written["agent"]["epsilon"]["init_args"]["decay_env_steps"] == 10_000
    assert written["model"]["init_args"]["optimizer"]["init_args"]["weight_decay"] == 0.01


@pytest.mark.slow
def test_pqn(capsys: pytest.CaptureFixture[str]) -> None:
    settings, said = printed(capsys, "--model=PQN")
    assert settings["data"]["sampler"]["class_path"].endswith(".RolloutSampler")
    assert settings["model"]["init_args"]["network"]["init_args"]["layer_norm"]
    assert settings["agent"]["max_env_steps"] == 100_000
    assert "model.network MLP (layer_norm True)" in said
    settings, _ = printed(capsys, "--model=PQN", "--model.network=GRU")
    assert settings["data"]["sampler"]["class_path"].endswith(".RolloutSampler")
    assert "layer_norm" not in settings["model"]["init_args"]["network"]["init_args"]


@pytest.mark.slow
def test_composed_remembers_if_its_network_does(capsys: pytest.CaptureFixture[str]) -> None:
    for core, num_envs in (("GRU", 16), ("MLP", 1)):
        settings, _ = printed(capsys, "--model.network=Composed", f"--model.network.network={core}")
        assert settings["data"]["num_envs"] == num_envs


@pytest.mark.slow
def test_a_network_of_ones_own_remembers_if_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    own = f"{__name__}.Total"
    for words in ([f"--model.network={own}"], ["--model.network=Composed", f"--model.network.network={own}"]):
        settings, said = printed(capsys, *words)
        assert settings["data"]["sampler"]["class_path"].endswith(".SequenceSampler")
        assert said.startswith("seqrl: defaults for model.network ")


class Total(Network):
    """Reads the sum of the observations since the episode's start."""

    remembers = True

    def __init__(self, obs_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
        super().__init__(obs_shape[0], out_shape)

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        if state is None or (is_first is not None and is_first[0].all()):
            state = torch.zeros_like(observation[:1])
        total = observation.sum(0, keepdim=True) + state
        return total.expand_as(observation), total


class Undeclared(Total):
    remembers = False


class Forgetful(MLP):
    remembers = True


class Endless(Total):
    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        return super().torso(observation, state)


class BothWays(Total):
    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        features, state = super().torso(observation, state, is_first)
        return features + len(observation), state


class BatchFirst(Total):
    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        return observation, observation[-1]


class Pair(Total):
    def torso(self, observation: Tensor, state: Any = None, is_first: Tensor | None = None) -> tuple[Tensor, Any]:
        return observation, (observation[:1], observation[:1])


class Double(Total):
    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        return observation, observation[:1].double()


@pytest.mark.parametrize(
    ("network", "line"),
    [
        (Undeclared, "is False; it must be True: Undeclared carries a state from step to step"),
        (Forgetful, "is True; it must be False: Forgetful carries no state from step to step"),
    ],
)
def test_a_network_that_declares_its_memory_wrongly(network: type[Network], line: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^remembers of model.network {line}$"):
        DQN((3,), 2, network=network)
    assert DQN((3,), 2, network=Total).remembers


@pytest.mark.parametrize(
    ("network", "line"),
    [
        (Endless, "'carried into the next episode'; it must be reset before each row in which is_first is true"),
        (BatchFirst, r"'torch.float32 \[1, 3\]'; it must be one float32 tensor \[S, B, ...\], here with B = 1"),
        (Double, r"'torch.float64 \[1, 1, 3\]'; it must be one float32 tensor"),
        (Pair, "'tuple'; it must be one float32 tensor"),
    ],
)
def test_a_network_that_carries_what_is_no_state(network: type[Network], line: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^the state of {network.__name__} is {line}"):
        DQN((3,), 2, network=network)


class Frozen(Total):
    """A part of it stays in evaluation mode, as a pretrained one with batch normalization does."""

    def __init__(self, obs_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
        super().__init__(obs_shape, out_shape)
        self.head.train(False)


def test_a_frozen_part_stays_frozen_when_the_network_is_tried() -> None:
    net = DQN((3,), 2, network=Frozen).policy_net
    assert net.training
    assert not net.head.training


def test_a_network_that_reads_windows_otherwise_than_steps() -> None:
    line = "model.network is 'BothWays'; it must be one that reads two rows at once as it reads one after the other"
    with pytest.raises(ConfigurationError, match=f"^{line}$"):
        DQN((3,), 2, network=BothWays)


@pytest.mark.slow
def test_other_kinds_have_the_classes_own(capsys: pytest.CaptureFixture[str]) -> None:
    plain, said = printed(capsys)
    assert (plain["data"]["num_envs"], plain["data"]["sampler"], said) == (1, None, "")
    assert printed(capsys, "--model=C51", "--model.network=Table")[0]["data"] == plain["data"]


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("name", ["recall_gru", "delayed_recall_transformer", "delayed_recall_pqn", "cartpole_pqn"])
def test_configs_of_these_kinds_rely_on_none(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A change of these defaults can't change results that are published."""
    assert printed(capsys, f"--config={CONFIGS / name}.yaml")[1] == ""
