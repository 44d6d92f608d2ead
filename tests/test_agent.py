"""``Agent`` and ``run_callbacks``: a run from Python is the run of ``seqrl fit``, and what is missing is an error."""

import re
from functools import partial
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, ModelPruning

import seqrl_lightning
from seqrl_lightning import Agent, algorithms
from seqrl_lightning.agent import Settings
from seqrl_lightning.algorithms import DQN, PQN
from seqrl_lightning.callbacks import (
    AgentCallback,
    GlobalRandomStreams,
    PriorityWriter,
    Sidecars,
    TargetSync,
    run_callbacks,
)
from seqrl_lightning.collect import CountBonus
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.docstrings import setting_names
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.networks import MLP
from seqrl_lightning.replay import PrioritizedSampler, UniformSampler
from seqrl_lightning.running.parser import SETTINGS_OF
from seqrl_lightning.types import ConfigurationError
from tests.running import seqrl

SMALL: dict[str, Any] = {
    "warmup_env_steps": 16,
    "batch_size": 8,
    "batches_per_epoch": 20,
    "eval_episodes": 2,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Corridor(gym.Wrapper[Any, Any, Any, Any]):
    def __init__(self, length: int = 20) -> None:
        super().__init__(gym.wrappers.TimeLimit(gym.make("CartPole-v1"), length))


def arguments_of_learners() -> set[str]:
    owners = {owner for name in algorithms.__all__ for owner in getattr(algorithms, name).__mro__}
    ours = [owner for owner in owners if owner.__module__.startswith("seqrl_lightning") and "__init__" in vars(owner)]
    parameters = [parameter for owner in ours for parameter in signature(owner).parameters.values()]
    passed_on = {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}  # to the class that they are settings of
    return {p.name for p in parameters if p.kind not in passed_on} - {"obs_shape", "n_actions"}


def test_every_setting_is_a_keyword_of_one_part() -> None:
    groups = {group: setting_names(cls) for group, cls in SETTINGS_OF.items()}
    groups["model"] = arguments_of_learners()
    names = [name for names in groups.values() for name in names]
    assert sorted(names) == sorted(set(names))
    given_elsewhere = {"env_id", "max_env_steps"}
    ours = set().union(*(names for group, names in groups.items() if group != "trainer")) - given_elsewhere
    named = set(Settings.__annotations__) - groups["trainer"]
    assert ours == named, "name the settings of all parts, and no others, in Settings of seqrl_lightning/agent.py"
    assert set(Settings.__annotations__) - ours < groups["trainer"]


def test_it_learns_evaluates_and_saves_a_policy(tmp_path: Path) -> None:
    agent = Agent("CartPole-v1", seed=1, folder=tmp_path, gamma=0.9, network=partial(MLP, hidden_sizes=[16]), **SMALL)
    assert agent.learn(60) is agent
    assert agent.data.progress.env_steps == 60
    found = agent.evaluate()
    assert 8.0 <= found <= 500.0
    agent.save(tmp_path / "agent.ckpt")
    policy = seqrl_lightning.load_policy(tmp_path / "agent.ckpt")
    assert policy.module.gamma == 0.9
    for name, weights in agent.module.policy_net.state_dict().items():
        assert torch.equal(policy.module.policy_net.state_dict()[name], weights)
    tested = seqrl(
        *("test", "--data.env_id=CartPole-v1", f"--trainer.default_root_dir={tmp_path}", "--data.eval_episodes=2"),
        *(f"--ckpt_path={tmp_path / 'agent.ckpt'}", "--trainer.enable_progress_bar=false"),
    )
    assert tested[0] == 0
    assert f"{found:g}" in tested[1]


@pytest.mark.slow
def test_it_says_what_it_is_and_each_remark_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    env = gym.make("FrozenLake-v1")
    agent = Agent(env, "QRDQN", seed=3, folder=tmp_path, frame_stack=1, **SMALL)
    assert re.fullmatch(r"<Agent: QRDQN on python/FrozenLakeEnv-v\d+, seed 3, 0 env steps learned>", repr(agent))
    assert "30 env steps learned" in repr(agent.learn(30))
    assert caplog.text.count("are flattened to") == 1
    assert len({str(warning.message) for warning in recwarn}) == len(recwarn)


@pytest.mark.slow
def test_it_is_the_run_of_the_command_line(tmp_path: Path) -> None:
    agent = Agent("CartPole-v1", "QRDQN", seed=3, folder=tmp_path, epsilon=ConstantEpsilon(0.5), **SMALL).learn(50)
    config = Path(str(agent.trainer.log_dir)) / "config.yaml"
    assert seqrl("fit", f"--config={config}", f"--trainer.default_root_dir={tmp_path / 'again'}")[0] == 0
    names = ("lightning_logs/version_0/checkpoints/last.ckpt", "lightning_logs/version_0/episodes.csv")
    ours, theirs = (torch.load(folder / names[0], weights_only=True) for folder in (tmp_path, tmp_path / "again"))
    assert all(torch.equal(weights, theirs["state_dict"][name]) for name, weights in ours["state_dict"].items())
    assert (tmp_path / names[1]).read_text() == (tmp_path / "again" / names[1]).read_text()


@pytest.mark.slow
def test_learning_twice_is_learning_once(tmp_path: Path) -> None:
    once = Agent("CartPole-v1", folder=tmp_path / "once", **SMALL).learn(90)
    twice = Agent("CartPole-v1", folder=tmp_path / "twice", **SMALL).learn(40)
    twice.evaluate()
    twice.learn(50)
    assert len(list((tmp_path / "twice" / "lightning_logs").iterdir())) == 1
    for name, weights in once.module.state_dict().items():
        assert torch.equal(weights, twice.module.state_dict()[name])


@pytest.mark.slow
def test_another_run_in_its_folder_is_not_continued(tmp_path: Path) -> None:
    first = Agent("CartPole-v1", folder=tmp_path, **SMALL).learn(30)
    Agent("CartPole-v1", folder=tmp_path, **SMALL).learn(30)
    with pytest.raises(ConfigurationError, match=r"folder is .*no other run"):
        first.learn(30)


@pytest.mark.slow
@pytest.mark.parametrize("env", [Corridor, lambda **settings: Corridor(10), partial(Corridor, length=10)])
def test_an_environment_needs_no_registration(env: Any, tmp_path: Path) -> None:
    agent = Agent(env, folder=tmp_path, num_envs=2, **SMALL).learn(40)
    assert agent.evaluate() <= (20.0 if env is Corridor else 10.0)


@pytest.mark.slow
def test_environments_of_one_name_are_told_apart() -> None:
    ids = [Agent(env).data.env_id for env in (Corridor, lambda: Corridor(5), lambda: Corridor(6), Corridor)]
    assert ids == [f"{__name__}:Corridor", ids[1], ids[2], f"{__name__}:Corridor"]
    assert ids[1] != ids[2]


@pytest.mark.slow_after(3)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gama": 0.9}, "model.gama is not a setting; did you mean 'model.gamma'"),
        ({"gamma": 3.0}, r"model.gamma is 3.0; it must be in \[0, 1\]"),
        ({"learner": "DQNN"}, "model is 'DQNN'; .* did you mean 'DQN'"),
        ({"num_envs": 0}, "data.num_envs is 0"),
        ({"seed": -1}, "seed_everything is -1; it must be from 0 to 4294967295"),
        ({"env": "CartPole-v7"}, "data.env_id is 'CartPole-v7'"),
        ({"sampler": UniformSampler()}, "sampler is an object; it must be UniformSampler, or"),
        ({"exploration_bonus": CountBonus()}, "exploration_bonus is an object; it must be CountBonus, or"),
    ],
)
def test_what_cannot_work_is_an_exception_of_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refusal:
        Agent(**{"env": "CartPole-v1", **settings})
    assert "\n" not in str(refusal.value)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("env_steps", ["x", 0, 2.5])
def test_env_steps_are_a_number(env_steps: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"env_steps is {env_steps!r}; it must be a whole number above 0"):
        Agent("CartPole-v1").learn(env_steps)


def test_nothing_is_saved_before_learning(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="untrained"):
        Agent("CartPole-v1").save(tmp_path / "agent.ckpt")


# With Lightning's parts


def start(folder: Path, callbacks: list[Callback], **data: Any) -> None:
    datamodule = ReplayDataModule("CartPole-v1", batch_size=8, batches_per_epoch=5, eval_episodes=1, **data)
    learner = PQN if "Rollout" in str(data.get("sampler")) else DQN
    off: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = Trainer(default_root_dir=folder, max_epochs=1, logger=False, callbacks=callbacks, **off)
    trainer.fit(learner(datamodule.obs_shape, datamodule.n_actions), datamodule)


@pytest.mark.parametrize("missing", [AgentCallback, PriorityWriter, TargetSync, Sidecars, GlobalRandomStreams])
def test_a_missing_callback_is_named(missing: type[Callback], tmp_path: Path) -> None:
    callbacks = run_callbacks(AgentCallback(warmup_env_steps=8), progress_bar=False)
    left = [callback for callback in callbacks if not isinstance(callback, missing)]
    with pytest.raises(ConfigurationError, match=rf"trainer.callbacks has no {missing.__name__}\b.*must have one"):
        start(tmp_path, left, sampler=PrioritizedSampler())


@pytest.mark.parametrize(
    "unfit",
    [LearningRateFinder(), BatchSizeFinder(), ModelPruning("l1_unstructured")],
    ids=lambda one: type(one).__name__,
)
def test_a_callback_that_cant_do_its_work_is_named(unfit: Callback, tmp_path: Path) -> None:
    callbacks = run_callbacks(AgentCallback(warmup_env_steps=8), progress_bar=False)
    with pytest.raises(
        ConfigurationError, match=rf"trainer.callbacks has {type(unfit).__name__}; it must have none: it"
    ):
        start(tmp_path, [unfit, *callbacks])
    assert not list(tmp_path.iterdir())


def test_priorities_come_before_the_agent(tmp_path: Path) -> None:
    callbacks = run_callbacks(AgentCallback(warmup_env_steps=8), progress_bar=False)
    callbacks[:2] = callbacks[1::-1]
    with pytest.raises(ConfigurationError, match="no PriorityWriter before AgentCallback"):
        start(tmp_path, callbacks, sampler=PrioritizedSampler())


def test_with_all_of_them_it_learns(tmp_path: Path) -> None:
    start(tmp_path, run_callbacks(AgentCallback(warmup_env_steps=8), progress_bar=False), sampler=PrioritizedSampler())
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()
