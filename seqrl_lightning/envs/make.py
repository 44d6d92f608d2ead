"""Environments from an id and settings, single and side by side."""

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.spaces import Box
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from seqrl_lightning.envs.admitted import AdmittedEnv, VectorizedEnv
from seqrl_lightning.envs.bare import BareTask, bare_task, make_native, make_task, task_spec
from seqrl_lightning.envs.border import Border
from seqrl_lightning.envs.facts import EnvFacts, read_facts
from seqrl_lightning.envs.faults import close_quietly
from seqrl_lightning.envs.packing import PackedVectorParts
from seqrl_lightning.envs.parts import FlatVectorEnv
from seqrl_lightning.envs.reward_wrappers import RewardFunction, reward_functions
from seqrl_lightning.envs.solo_border import SoloBorder
from seqrl_lightning.envs.stacking import StackedVectorEnv
from seqrl_lightning.envs.vector_border import VectorBorder
from seqrl_lightning.envs.workers import kill_when_closed, killed_on_error, worker
from seqrl_lightning.envs.wrappers import FlattenMultiDiscreteVectorAction, is_enumerable
from seqrl_lightning.envs.wrapping import (
    Wrapper,
    is_flattened,
    make_vectorized,
    make_wrapped,
    require_discrete,
    require_flat,
)
from seqrl_lightning.errors import require_known
from seqrl_lightning.types import ConfigurationError, one_line, require, without_marks


class EnvFactory:
    """Make environments of one task, all with the same settings.

    Args:
        env_id: Gymnasium id of the task; ``package:Id`` imports a package first.
        env_kwargs: Arguments of the task.
        wrappers: Wrappers around each single environment, the innermost first. A task's own vectorized implementation
            takes those that change nothing but rewards (see :func:`reward_functions`).
        frame_stack: k > 1 shows the last k observations as one (Gymnasium's ``FrameStackObservation``, outside
            ``wrappers``).
        vectorization_mode: One of ``gym.VectorizeMode``. ``vector_entry_point`` makes everything, single environments
            too, from the task's own vectorized implementation, which may have other arguments and spaces. None steps a
            single environment directly, and several by that implementation where it shows the same, with next-step
            autoreset, else one after the other.
        autoreset_mode: When a vectorized implementation resets an environment whose episode has ended, if it doesn't
            declare it: one of ``gym.vector.AutoresetMode``.
        flatten_observations: Whether observations with parts (Dict, Tuple) are flattened to one vector; otherwise they
            are packed. None flattens those without a picture.

    Raises:
        ConfigurationError: If there is no such mode, or the task's own vectorized implementation can't be wrapped.
    """

    def __init__(
        self,
        env_id: str,
        env_kwargs: dict[str, Any] | None = None,
        wrappers: Sequence[Wrapper] = (),
        frame_stack: int = 1,
        vectorization_mode: str | None = None,
        autoreset_mode: str | None = None,
        flatten_observations: bool | None = None,
    ) -> None:
        modes = (None, *(mode.value for mode in gym.VectorizeMode))
        require_known("data.vectorization_mode", vectorization_mode, modes)
        resets = (None, *(mode.value for mode in AutoresetMode))
        require_known("data.autoreset_mode", autoreset_mode, resets)
        self._is_native = vectorization_mode == gym.VectorizeMode.VECTOR_ENTRY_POINT.value
        if self._is_native:
            reward_functions(wrappers)  # refuses all others
        self.env_id = env_id
        self.env_kwargs = {name: without_marks(value) for name, value in (env_kwargs or {}).items()}
        self.wrappers = list(wrappers)
        self.frame_stack = frame_stack
        self.vectorization_mode = vectorization_mode
        self.autoreset_mode = autoreset_mode
        self.flatten_observations = flatten_observations

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings, which can be sent to another process: what was looked up by them can't."""
        looked_up = ("task", "_spec", "_native_mode", "_is_same_vectorized", "_reward_functions")
        return {name: value for name, value in vars(self).items() if name not in looked_up}

    def make_env(self, **env_kwargs: Any) -> AdmittedEnv:
        """Make one environment, wrapped, with observations as they are stored; ``env_kwargs`` add to the task's own.

        Raises:
            ConfigurationError: If there is no such task, or it or a wrapper refuses its arguments.
        """
        arguments = {**self.env_kwargs, **env_kwargs}
        mode = None if self._has_single_env else self._native_mode
        made = make_wrapped(self.env_id, arguments, self.wrappers, self.frame_stack, mode, self.flatten_observations)
        return AdmittedEnv(*made, keeps_infos=True)

    def make_envs(self, num_envs: int, setting: str = "data.num_envs") -> Border:
        """Make ``num_envs`` environments side by side.

        Args:
            num_envs: Number of environments.
            setting: The setting with this number.

        Raises:
            ConfigurationError: If there is no such task, it or a wrapper refuses its arguments, it makes another number
                of environments, or its autoreset mode is unknown.
        """
        envs = self._make_envs(num_envs, self.vectorization_mode)
        if envs.num_envs != num_envs:
            envs.discard()
            must_be = f"{envs.num_envs}, the number of environments that {self.env_id} makes, whatever is asked for"
            require(False, setting, num_envs, must_be)
        return envs

    def read_facts(self) -> EnvFacts:
        """Make an environment, play its first steps twice, and read what it states.

        Raises:
            ConfigurationError: If it can't be made, reset or stepped, its actions aren't Discrete from 0 on, or what it
                states about itself can't be read.
        """
        envs = self._make_envs(1, self.vectorization_mode if self._is_native else None)
        try:
            facts = read_facts(envs, self.env_id)
        finally:
            envs.discard()
        changes_by_wrappers = facts.unrepeated is not None and self.wrappers and self._repeats_without_wrappers()
        return facts._replace(unrepeated="data.wrappers") if changes_by_wrappers else facts

    def _repeats_without_wrappers(self) -> bool:
        """Return whether the task shows the same observations and rewards from the same seed."""
        modes = self.vectorization_mode, self.autoreset_mode
        bare = EnvFactory(self.env_id, self.env_kwargs, (), 1, *modes)
        try:
            return bare.read_facts().unrepeated is None
        except ConfigurationError:  # it can't be played without its wrappers
            return False

    def settings_of_returns(self) -> list[str]:
        """Return the settings by which the task's own vectorized implementation changes what a return is.

        ALE's clips rewards by default, and may end an episode with each life.
        """
        if self._has_single_env:
            return []
        entry_point = self._spec.vector_entry_point
        maker = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
        assert maker is not None
        parameters = inspect.signature(maker).parameters
        defaults = {name: parameter.default for name, parameter in parameters.items()}
        given = {**defaults, **self._spec.kwargs, **self.env_kwargs}
        return [name for name in ("reward_clipping", "episodic_life") if name in parameters and given[name] is True]

    @functools.cached_property
    def task(self) -> BareTask:
        """The task itself: an environment without its wrappers, or a vector environment if there is no other."""
        return bare_task(self.env_id, self.env_kwargs, self._is_native)

    @functools.cached_property
    def _spec(self) -> EnvSpec:
        return task_spec(self.env_id)

    @property
    def _has_single_env(self) -> bool:
        """Whether there are environments besides vectorized ones, and they may be used."""
        return self._spec.entry_point is not None and not self._is_native

    @functools.cached_property
    def _native_mode(self) -> AutoresetMode:
        """The autoreset mode of the task's own vectorized implementation."""
        envs = make_native(self.env_id, self.env_kwargs, num_envs=1)
        declared = (envs.metadata or {}).get("autoreset_mode")
        close_quietly(envs)
        modes = [mode.value for mode in AutoresetMode]
        if declared is None:
            must_be = f"one of {', '.join(modes)}, since {self.env_id} doesn't declare it in its metadata"
            require(self.autoreset_mode is not None, "data.autoreset_mode", None, must_be)
            declared = self.autoreset_mode
        must_be = f"one of {', '.join(modes)}"
        require(declared in (*AutoresetMode, *modes), f"metadata['autoreset_mode'] of {self.env_id}", declared, must_be)
        return AutoresetMode(declared)

    def _make_envs(self, num_envs: int, vectorization_mode: str | None) -> Border:
        """Make environments: vectorized by the task itself if it can and may, else as several single ones.

        A task's own implementation has to reset its environments in the step after an episode's end, as all others do;
        see :class:`UnvectorizedEnv` for others.
        """
        is_wrapped = bool(self.wrappers) or self.frame_stack > 1
        may_be_native = self._is_native or (vectorization_mode is None and not is_wrapped)
        if self._has_single_env:
            may_be_native &= num_envs > 1 and self._is_same_vectorized
        if may_be_native and self._native_mode is AutoresetMode.NEXT_STEP:
            return self._make_native(num_envs)
        single = self._single()
        if num_envs == 1 and (vectorization_mode is None or self._is_native):
            return SoloBorder(single())
        with _alike(self.env_id):
            if vectorization_mode != gym.VectorizeMode.ASYNC.value:
                return VectorBorder(SyncVectorEnv([single] * num_envs, copy=False), is_native=False)
            with killed_on_error():
                workers = AsyncVectorEnv([single] * num_envs, copy=False, worker=worker)
        kill_when_closed(workers)
        return VectorBorder(workers, is_native=False)

    @functools.cached_property
    def _is_same_vectorized(self) -> bool:
        """Whether the task has a vectorized implementation with the spaces of its single environments."""
        if self._spec.vector_entry_point is None:
            return False
        env = make_task(self.env_id, self.env_kwargs, native_mode=None)
        close_quietly(env)
        try:
            envs = make_native(self.env_id, self.env_kwargs, num_envs=1)
        except ConfigurationError:  # it takes other arguments
            return False
        close_quietly(envs)
        spaces = envs.single_observation_space, envs.single_action_space
        return spaces == (env.observation_space, env.action_space)

    @functools.cached_property
    def _reward_functions(self) -> list[RewardFunction]:
        """The changes that wrappers make to the rewards of the task's own vectorized implementation."""
        return reward_functions(self.wrappers) if self._is_native else []

    def _make_native(self, num_envs: int) -> VectorBorder:
        """Make the task's own vectorized implementation, which resets in the step after an episode's end."""
        envs = self._with_plain_spaces(make_native(self.env_id, self.env_kwargs, num_envs))
        if self.frame_stack > 1:
            envs = StackedVectorEnv(envs, self.frame_stack)
        return VectorBorder(envs, is_native=True, reward_functions=self._reward_functions)

    def _with_plain_spaces(self, envs: VectorEnv[Any, Any, Any]) -> VectorEnv[Any, Any, Any]:
        """Give the task's own vectorized implementation a Box observation space and Discrete actions."""
        if is_enumerable(envs.single_action_space):
            envs = FlattenMultiDiscreteVectorAction(envs)
        require_discrete(envs.single_action_space, self.env_id)
        if isinstance(envs.single_observation_space, Box):
            return envs
        require_flat(envs.single_observation_space, self.env_id)
        is_flat = is_flattened(envs.single_observation_space, self.flatten_observations)
        return FlatVectorEnv(envs) if is_flat else PackedVectorParts(envs)

    def _single(self) -> Callable[[], VectorizedEnv]:
        """Return a function that makes one environment of several, which can be sent to another process."""
        mode = None if self._has_single_env else self._native_mode
        settings = self.wrappers, self.frame_stack, mode, self.flatten_observations
        return functools.partial(make_vectorized, self.env_id, self.env_kwargs, *settings)


@contextmanager
def _alike(env_id: str) -> Iterator[None]:
    """Describe in one line why several environments of a task can't be stepped side by side.

    Raises:
        ConfigurationError: If their spaces differ.
    """
    try:
        yield
    except RuntimeError as error:
        if not re.search("(observation|action) space", str(error)):
            raise
        must_be = "one with the same spaces each time it is made"
        raise ConfigurationError(f"data.env_id is {env_id!r}; it must be {must_be}: {one_line(error)}") from error
