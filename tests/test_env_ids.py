"""Ids of environments that are a class or a function."""

import re
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

from seqrl_lightning import load_policy
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.env_ids import id_of, makeable, spec_of
from seqrl_lightning.types import ConfigurationError
from tests.running import seqrl

Popen = subprocess.Popen  # a name of this module, and not its own


class Short(CartPoleEnv):
    """CartPole that ends after ``length`` steps."""

    def __init__(self, length: int = 5, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.length = length

    def reset(self, **kwargs: Any) -> Any:
        self.steps = 0
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        self.steps += 1
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or self.steps == self.length, truncated, info


def make_short(**settings: Any) -> gym.Env:
    return Short(**settings)


def test_what_can_be_imported_is_named_by_where() -> None:
    assert id_of(Short) == f"{__name__}:Short"
    assert id_of(make_short) == f"{__name__}:make_short"
    assert id_of("CartPole-v1") == "CartPole-v1"
    of_partial, of_lambda = id_of(partial(Short, length=3)), id_of(lambda: Short(3))
    assert of_partial != of_lambda
    for env_id in (of_partial, of_lambda):
        assert re.fullmatch(r"python/Env-v\d+", env_id)


def test_an_id_is_a_registered_one_first() -> None:
    assert spec_of("CartPole").id == "CartPole-v1"
    assert makeable("CartPole") == "CartPole"
    assert spec_of(f"{__name__}:CartPole-v1").id == "CartPole-v1"
    assert spec_of(f"{__name__}:Short").entry_point is Short
    assert spec_of("gymnasium.envs.classic_control.cartpole:CartPoleVectorEnv").vector_entry_point is CartPoleVectorEnv


def test_an_own_class_has_the_name_of_a_registered_task(monkeypatch: pytest.MonkeyPatch) -> None:
    own = type("CartPole", (Short,), {"__module__": __name__})
    monkeypatch.setattr(sys.modules[__name__], "CartPole", own, raising=False)
    assert spec_of(id_of(own)).entry_point is own
    data = ReplayDataModule(own, env_kwargs={"length": 3})
    assert type(data.task) is own


def test_an_environment_is_copied() -> None:
    env = gym.wrappers.TimeLimit(Short(length=3), 50)
    data = ReplayDataModule(id_of(env), num_envs=2, eval_episodes=2)
    assert data.env_id == data.hparams["env_id"]
    assert (type(data.task), data.task.length) == (Short, 3)
    assert data.task is not env.unwrapped
    assert not hasattr(env.unwrapped, "steps")  # nobody has reset it
    env.unwrapped.length = 4  # type: ignore[attr-defined]
    assert data.task.length == 3


def test_a_copied_environment_draws_itself() -> None:
    data = ReplayDataModule(id_of(gym.make("seqrl/Recall-v0", length=2)))
    drawn = data.factory.make_env(render_mode="rgb_array")
    drawn.reset(seed=0)
    assert np.asarray(drawn.render()).ndim == 3


def test_what_makes_no_environment_is_refused() -> None:
    must_be = "it must be an id, a class of environments, a function that makes one, or a single environment"
    with pytest.raises(ConfigurationError, match=f"env_id is 'an object of CartPoleVectorEnv'; {must_be}"):
        id_of(CartPoleVectorEnv(2))  # type: ignore[arg-type]
    env = Short()
    env.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match=r"env_id is an object of Short, which can't be copied .*; give its"):
        id_of(env)


@pytest.mark.parametrize("name", ["Popen", "subprocess", "Missing", "__name__"])
def test_only_what_a_module_defines_is_a_task(name: str) -> None:
    with pytest.raises(gym.error.Error):
        spec_of(f"{__name__}:{name}")


@pytest.mark.parametrize(("num_envs", "mode"), [(1, None), (3, None), (2, "async")])
def test_a_datamodule_takes_the_class(num_envs: int, mode: str | None) -> None:
    data = ReplayDataModule(Short, num_envs, env_kwargs={"length": 3}, vectorization_mode=mode, eval_episodes=2)
    assert data.hparams["env_id"] == data.env_id == f"{__name__}:Short"
    assert (data.obs_shape, data.n_actions) == ((4,), 2)


@pytest.mark.slow
def test_every_command_takes_an_import_path(tmp_path: Path) -> None:
    task = f"{__name__}:Short"
    small = [
        "--data.batch_size=8",
        "--agent.warmup_env_steps=8",
        "--data.batches_per_epoch=10",
        f"--trainer.default_root_dir={tmp_path}",
    ]
    status, out, err = seqrl("fit", f"--data.env_id={task}", "--agent.max_env_steps=60", *small)
    assert status == 0, err
    assert "mean return 5, after 60 env steps" in out
    run = tmp_path / "lightning_logs" / "version_0"
    checkpoint = run / "checkpoints" / "last.ckpt"
    config = [f"--config={run}/config.yaml", f"--ckpt_path={checkpoint}"]
    for command in ("test", "validate", "predict"):
        assert seqrl(command, *config)[0] == 0
    assert seqrl("analyse", str(run), f"--output={tmp_path}/report", f"--allow={__name__}")[0] == 0
    assert load_policy(checkpoint, allow=[__name__]).make_env().reset()[0].shape == (4,)
    with pytest.raises(ConfigurationError, match=f"names 'tests'|allow {__name__}"):
        load_policy(checkpoint).make_env()
