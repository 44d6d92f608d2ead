"""Environments from an id and settings, without a datamodule."""

import functools
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from seqrl_lightning.envs import EnvFactory, EnvFacts, PreviousActionReward
from seqrl_lightning.envs.solo_border import SoloBorder
from seqrl_lightning.envs.vector_border import VectorBorder
from seqrl_lightning.types import ConfigurationError

BLOCKS = [{"sequence": "ABC", "episodes": 3}, {"sequence": "reversed"}]


@pytest.mark.parametrize(
    ("factory", "facts"),
    [
        (EnvFactory("CartPole-v1"), EnvFacts((4,), "float32", False, 2, 0, False, None, None, None)),
        (EnvFactory("FrozenLake-v1"), EnvFacts((16,), "int64", True, 4, 0, False, None, "Discrete(16)", None)),
        (EnvFactory("tests/Doors-v0"), EnvFacts((3,), "float32", True, 3, 0, False, None, None, None)),
        (
            EnvFactory("seqrl/Sequence-v0", {"objects": "ABC", "blocks": BLOCKS}),
            EnvFacts((3,), "float32", True, 3, 2, True, None, None, None),
        ),
        (EnvFactory("CartPole-v1", frame_stack=4), EnvFacts((4, 4), "float32", False, 2, 0, False, None, None, None)),
    ],
    ids=lambda value: value.env_id if isinstance(value, EnvFactory) else "",
)
def test_facts(factory: EnvFactory, facts: EnvFacts) -> None:
    assert factory.read_facts() == facts


@pytest.mark.parametrize(
    ("num_envs", "mode", "kind"),
    [(1, None, None), (1, "sync", SyncVectorEnv), (2, "sync", SyncVectorEnv), (2, "async", AsyncVectorEnv)],
)
def test_how_environments_are_stepped(num_envs: int, mode: str | None, kind: type | None) -> None:
    envs = EnvFactory("CartPole-v1", vectorization_mode=mode).make_envs(num_envs)
    if kind is None:
        assert isinstance(envs, SoloBorder)
    else:
        assert isinstance(envs, VectorBorder)
        assert type(envs.envs) is kind
    assert envs.num_envs == num_envs
    envs.close()


def test_single_and_vector_environments_show_the_same() -> None:
    factory = EnvFactory(
        "seqrl/SequenceDistractor-v0", {"objects": "ABC", "max_errors": 9}, [PreviousActionReward], frame_stack=2
    )
    env, envs = factory.make_env(), factory.make_envs(2)
    np.testing.assert_array_equal(env.reset(seed=3)[0], envs.reset(seed=3).observation[0])
    for action in (3, 0, 0, 1):  # before the episode ends
        np.testing.assert_array_equal(env.step(np.int64(action))[0], envs.step(np.full(2, action)).shown.observation[0])


def test_arguments_of_one_environment_add_to_the_tasks() -> None:
    factory = EnvFactory("seqrl/Sequence-v0", {"objects": "ABC"})
    env = factory.make_env(render_mode="ansi")
    assert env.render_mode == "ansi"
    assert env.observation_space.shape == (3,)
    assert factory.make_env().render_mode is None


def test_the_task_is_without_wrappers_and_made_once() -> None:
    factory = EnvFactory("seqrl/Sequence-v0", {"objects": "ABC"}, [PreviousActionReward])
    assert type(factory.task).__name__ == "SequenceEnv"
    assert factory.task is factory.task


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vectorization_mode": "threads"}, "data.vectorization_mode is 'threads'; it must be one of"),
        (
            {"vectorization_mode": "vector_entry_point", "wrappers": [PreviousActionReward]},
            r"data.wrappers\[0\] is .*PreviousActionReward.*; it must be ClipReward or ScaleReward with data.vectoriz",
        ),
    ],
)
def test_bad_settings_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        EnvFactory("CartPole-v1", **settings)


@pytest.mark.parametrize("error", ["TypeError", "ValueError", "ImportError"])
def test_an_error_of_the_tasks_module_is_not_its_arguments(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"module_with_{error.lower()}"
    (tmp_path / f"{name}.py").write_text(f"raise {error}('in the module')")
    monkeypatch.syspath_prepend(tmp_path)
    line = f"data.env_id is '{name}:Mine-v0', which can't be made: {error}('in the module')"
    factory = EnvFactory(f"{name}:Mine-v0")
    for make in (factory.make_env, factory.read_facts, lambda: factory.task, lambda: factory.make_envs(2)):
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert str(caught.value) == line


def test_arguments_that_a_task_refuses_are_named() -> None:
    line = r"^data.env_kwargs is \{'sizze': 3\}, which seqrl/Recall-v0 refuses: .*sizze"
    with pytest.raises(ConfigurationError, match=line):
        EnvFactory("seqrl/Recall-v0", {"sizze": 3}).make_env()


class Closing(gym.Wrapper[Any, Any, Any, Any]):
    """Can't be closed."""

    def __init__(self, env: gym.Env[Any, Any], error: BaseException) -> None:
        super().__init__(env)
        self.error = error

    def close(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [ZeroDivisionError(), SystemExit(0)])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_environments_can_be_made_and_discarded_however_they_close(mode: str, error: BaseException) -> None:
    wrapper = functools.partial(Closing, error=error)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        envs = EnvFactory("CartPole-v1", wrappers=[wrapper], vectorization_mode=mode).make_envs(2)
        envs.reset(0)
        envs.discard()
    lines = [str(one.message) for one in told if "closing" in str(one.message)]
    # Gymnasium closes one that it makes to read the spaces; the others are closed in their processes, or not at all.
    assert lines == [f"closing an environment failed: {error!r}"] * (2 if mode == "sync" else 1)
    assert isinstance(envs, VectorBorder)
    assert envs.envs.closed


class TakesFromItsArguments(gym.Wrapper[Any, Any, Any, Any]):
    """Takes a number out of a list that it is given, and the block out of reset's options."""

    def __init__(self, env: gym.Env[Any, Any], scales: list[float]) -> None:
        super().__init__(env)
        self.scale = scales.pop(0) if scales else 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        _, info = self.env.reset(seed=seed)
        return np.full(4, self.scale * (options or {}).pop("size", 0.0), np.float32), info


@pytest.mark.parametrize("num_envs", [1, 3])
def test_what_an_environment_is_given_is_its_own(num_envs: int) -> None:
    factory = EnvFactory("CartPole-v1", wrappers=[functools.partial(TakesFromItsArguments, scales=[2.0])])
    factory.read_facts()
    for _ in range(2):
        envs = factory.make_envs(num_envs)
        assert envs.reset(0, {"size": 0.125}).observation.tolist() == [[0.25] * 4] * num_envs


def test_a_module_of_the_current_folder_is_known_to_the_module_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"can't be made: No module named 'my_own_env'$"):
        EnvFactory("my_own_env:MyEnv").read_facts()
    (tmp_path / "my_own_env.py").touch()
    with pytest.raises(ConfigurationError, match=r"`python -m seqrl_lightning` finds my_own_env.py in this folder"):
        EnvFactory("my_own_env:MyEnv").read_facts()
