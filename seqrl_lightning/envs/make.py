"""Environments from an id and settings, and the facts that their spaces state."""

import copy
import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec, find_highest_version, parse_env_id
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.wrappers.utils import RunningMeanStd

from seqrl_lightning.envs.admitted import (
    AdmittedEnv,
    EnvValueError,
    FollowsBlocks,
    TaskReward,
    VectorizedEnv,
    block_after,
    close_quietly,
    num_blocks_of,
)
from seqrl_lightning.envs.border import Border, EnvFault, Shown, SoloBorder, VectorBorder
from seqrl_lightning.envs.packing import PackedParts, PackedSpace, PackedVectorParts
from seqrl_lightning.envs.parts import CheckedBox, CheckedParts, FlatVectorEnv
from seqrl_lightning.envs.spaces import has_picture, is_composed
from seqrl_lightning.envs.state import Layered, layers
from seqrl_lightning.envs.unvectorized import UnvectorizedEnv
from seqrl_lightning.envs.workers import end_by_killing, killed_on_error, worker
from seqrl_lightning.envs.wrappers import (
    MAX_COMBINATIONS,
    FlattenMultiDiscreteAction,
    FlattenMultiDiscreteVectorAction,
    is_enumerable,
    num_combinations,
)
from seqrl_lightning.errors import extra_in
from seqrl_lightning.signals import Terminated
from seqrl_lightning.types import ConfigurationError, require, stated

_NUM_FIRST_STEPS = 3  # that are played to read the facts

_REWARD_SCALES = (gym.wrappers.NormalizeReward, gym.wrappers.vector.NormalizeReward, gym.RewardWrapper)
_OF_REWARDS = "the same reward would be stored with another scale each time", "TransformReward"
_OF_OBSERVATIONS = "evaluation would show other observations than training", "RescaleObservation"

Wrapper = Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]


class EnvFacts(NamedTuple):
    """Facts about a task, read from one of its environments."""

    obs_shape: tuple[int, ...]  # of one observation; a PackedShape if it has parts
    obs_dtype: str  # NumPy's name of the dtype that it is stored in
    n_actions: int
    num_blocks: int  # 0 for a task in which one rule holds throughout
    tells_correct_action: bool  # info["correct_action"] says which action is right
    unrepeated: str | None  # what shows other observations when it is reset with the same seed again
    flattened_space: str | None  # the task's own observation space, where it had to be flattened
    flattened_actions: str | None  # the task's own action space, where each combination became an action


class EnvFactory:
    """Make environments of one task, all with the same settings.

    Args:
        env_id: Gymnasium id of the task; ``package:Id`` imports a package first.
        env_kwargs: Arguments of the task.
        wrappers: Wrappers around each single environment, the innermost first.
        frame_stack: k > 1 shows the last k observations as one (Gymnasium's ``FrameStackObservation``, outside
            ``wrappers``).
        vectorization_mode: One of ``gym.VectorizeMode``; None steps a single environment directly, and several by the
            task's own vectorized implementation where it has one with next-step autoreset, else one after the other.
        autoreset_mode: When a vectorized implementation that doesn't say so resets an environment whose episode has
            ended: one of ``gym.vector.AutoresetMode``.
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
        require(vectorization_mode in modes, "data.vectorization_mode", vectorization_mode, f"one of {modes}")
        resets = (None, *(mode.value for mode in AutoresetMode))
        require(autoreset_mode in resets, "data.autoreset_mode", autoreset_mode, f"one of {resets}")
        is_native = vectorization_mode == gym.VectorizeMode.VECTOR_ENTRY_POINT.value
        require(
            not ((wrappers or frame_stack > 1) and is_native),
            "data.vectorization_mode",
            vectorization_mode,
            "sync or async with data.wrappers, which wrap single environments",
        )
        self.env_id = env_id
        self.env_kwargs = dict(env_kwargs or {})
        self.wrappers = list(wrappers)
        self.frame_stack = frame_stack
        self.vectorization_mode = vectorization_mode
        self.autoreset_mode = autoreset_mode
        self.flatten_observations = flatten_observations

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
            setting: The setting that says so.

        Raises:
            ConfigurationError: If there is no such task, it or a wrapper refuses its arguments, it makes another number
                of environments, or nobody knows when it resets.
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
        envs = self._make_envs(1, vectorization_mode=None)
        try:
            seen = self._first_steps(envs)
            repeats = _are_alike(seen, self._first_steps(envs))
            num_blocks = self._num_blocks(envs, seen[1])
        finally:
            envs.discard()
        space = envs.observation_space
        return EnvFacts(
            space.layout if isinstance(space, PackedSpace) else tuple(space.shape),
            np.dtype(space.dtype).name,
            envs.n_actions,
            num_blocks,
            tells_correct_action=seen[1].correct_action is not None,
            unrepeated=None if repeats else self._changing_part(),
            flattened_space=_space_before(envs, _FLATTENING),
            flattened_actions=_space_before(envs, _ENUMERATING),
        )

    def _first_steps(self, envs: Border) -> list[Shown]:
        """Return what an environment shows after a reset, from always the same seed, and in its first steps."""
        envs.check_bounds = False  # a setting of the agent
        method = "reset"
        try:
            seen = [envs.reset(seed=0)]
            method = "step"
            for _ in range(_NUM_FIRST_STEPS):
                mask = seen[-1].action_mask
                first = np.zeros(envs.num_envs, np.int64) if mask is None else mask.argmax(1)
                seen.append(envs.step(first).shown)
        except EnvFault as fault:
            named = f"data.env_id is {self.env_id!r}, whose {method}() fails"
            raise ConfigurationError(f"{named}: {fault.reason}") from fault
        return seen

    def _num_blocks(self, envs: Border, shown: Shown) -> int:
        """Return the number of blocks of a task that tells them; 0 for others."""
        task = _task_of(envs)
        num_blocks = num_blocks_of(task)
        if num_blocks < 2 or shown.block is None:
            return 0
        for name in ("next_block", "block_of"):  # it may raise, here and when it is looked for
            stated(task, name)
        if isinstance(task, FollowsBlocks):
            try:
                block_after(task, 0, num_blocks)
            except EnvValueError as error:
                raise ConfigurationError(f"data.env_id is {self.env_id!r}, whose {error}") from error
        return num_blocks

    def _changing_part(self) -> str:
        """Return what makes an environment show something else from the same seed: its wrappers, or the task."""
        if not self.wrappers:
            return self.env_id
        bare = EnvFactory(self.env_id, self.env_kwargs, autoreset_mode=self.autoreset_mode)
        envs = bare._make_envs(1, vectorization_mode=None)
        try:
            is_by_wrappers = _are_alike(bare._first_steps(envs), bare._first_steps(envs))
        except ConfigurationError:  # it can't be played without its wrappers
            is_by_wrappers = False
        finally:
            envs.discard()
        return "data.wrappers" if is_by_wrappers else self.env_id

    @functools.cached_property
    def task(self) -> Any:
        """The task itself: an environment without its wrappers, or a vector environment if there is no other."""
        return bare_task(self.env_id, self.env_kwargs)

    @functools.cached_property
    def _spec(self) -> EnvSpec:
        return _spec_of(self.env_id, self.env_kwargs)

    @property
    def _has_single_env(self) -> bool:
        """Whether there are environments besides vectorized ones."""
        return self._spec.entry_point is not None

    @functools.cached_property
    def _native_mode(self) -> AutoresetMode:
        """When the task's own vectorized implementation resets an environment whose episode has ended."""
        envs = _make_native(self.env_id, self.env_kwargs, num_envs=1)
        declared = (envs.metadata or {}).get("autoreset_mode")
        close_quietly(envs)
        modes = [mode.value for mode in AutoresetMode]
        if declared is None:
            must_be = f"one of {modes}, since {self.env_id} doesn't declare it in its metadata"
            require(self.autoreset_mode is not None, "data.autoreset_mode", None, must_be)
            declared = self.autoreset_mode
        must_be = f"one of {modes}"
        require(declared in (*AutoresetMode, *modes), f"metadata['autoreset_mode'] of {self.env_id}", declared, must_be)
        return AutoresetMode(declared)

    def _make_envs(self, num_envs: int, vectorization_mode: str | None) -> Border:
        """Make environments: vectorized by the task itself if it can and may, else as several single ones.

        A task's own implementation has to reset its environments in the step after an episode's end, as all others do;
        see :class:`UnvectorizedEnv` for others.
        """
        is_wrapped = bool(self.wrappers) or self.frame_stack > 1
        is_asked_for = vectorization_mode == gym.VectorizeMode.VECTOR_ENTRY_POINT.value
        may_be_native = is_asked_for or (vectorization_mode is None and not is_wrapped)
        if self._has_single_env:
            may_be_native &= self._spec.vector_entry_point is not None and (is_asked_for or num_envs > 1)
        if may_be_native and self._native_mode is AutoresetMode.NEXT_STEP:
            return VectorBorder(self._with_plain_spaces(_make_native(self.env_id, self.env_kwargs, num_envs)), True)
        single = self._single(is_asked_for and may_be_native)
        if num_envs == 1 and (vectorization_mode is None or is_asked_for):
            return SoloBorder(single())
        if vectorization_mode == gym.VectorizeMode.ASYNC.value:
            with killed_on_error():
                workers = AsyncVectorEnv([single] * num_envs, copy=False, worker=worker)
            end_by_killing(workers)
            return VectorBorder(workers, is_native=False)
        return VectorBorder(SyncVectorEnv([single] * num_envs, copy=False), is_native=False)

    def _with_plain_spaces(self, envs: VectorEnv[Any, Any, Any]) -> VectorEnv[Any, Any, Any]:
        """Give the task's own vectorized implementation a Box observation space and Discrete actions."""
        if is_enumerable(envs.single_action_space):
            envs = FlattenMultiDiscreteVectorAction(envs)
        _require_discrete(envs.single_action_space, self.env_id)
        if isinstance(envs.single_observation_space, Box):
            return envs
        _require_flat(envs.single_observation_space, self.env_id)
        is_flat = _is_flattened(envs.single_observation_space, self.flatten_observations)
        return FlatVectorEnv(envs) if is_flat else PackedVectorParts(envs)

    def _single(self, is_native: bool) -> Callable[[], VectorizedEnv]:
        """Return a function that makes one environment of several, which can be sent to another process.

        Args:
            is_native: Whether it is one of the task's own vectorized implementation, even if there are others.
        """
        mode = self._native_mode if is_native or not self._has_single_env else None
        settings = self.wrappers, self.frame_stack, mode, self.flatten_observations
        return functools.partial(_make_single, self.env_id, self.env_kwargs, *settings)


def bare_task(env_id: str, env_kwargs: dict[str, Any]) -> Any:
    """Return a task without wrappers, or as a vector environment if there is no other, to read what it states.

    Raises:
        ConfigurationError: If there is no such task, or it refuses its arguments.
    """
    if _spec_of(env_id, env_kwargs).entry_point is None:
        envs = _make_native(env_id, env_kwargs, num_envs=1)
        close_quietly(envs)
        return envs.unwrapped
    env = _make_task(env_id, env_kwargs, native_mode=None)
    close_quietly(env)
    return env.unwrapped


def _spec_of(env_id: str, env_kwargs: dict[str, Any]) -> EnvSpec:
    module, _, name = env_id.rpartition(":")
    with _refusing(env_id, env_kwargs):
        if module:
            importlib.import_module(module)
        namespace, title, version = parse_env_id(name)
        newest = find_highest_version(namespace, title) if version is None else None
        return gym.spec(name if newest is None else f"{name}-v{newest}")


def _make_native(env_id: str, env_kwargs: dict[str, Any], num_envs: int) -> VectorEnv[Any, Any, Any]:
    """Make a task's own vectorized implementation."""
    mode = gym.VectorizeMode.VECTOR_ENTRY_POINT
    with _refusing(env_id, env_kwargs):
        envs: VectorEnv[Any, Any, Any] = gym.make_vec(env_id, num_envs, mode, **copy.deepcopy(env_kwargs))
    _require_no_statistics(envs, env_id, "The vectorized implementation has")
    return envs


def _are_alike(seen: Sequence[Shown], again: Sequence[Shown]) -> bool:
    """Return whether an environment showed the same observations twice."""
    pairs = zip(seen, again, strict=True)
    return all(np.array_equal(one.observation, other.observation, equal_nan=True) for one, other in pairs)


def _task_of(envs: Border) -> Any:
    """Return a single environment, or a vectorized implementation, without its wrappers."""
    if isinstance(envs, SoloBorder):
        return envs.env.unwrapped
    assert isinstance(envs, VectorBorder)
    return envs.envs.unwrapped


_FLATTENING = (CheckedParts, FlatVectorEnv)
_ENUMERATING = (FlattenMultiDiscreteAction, FlattenMultiDiscreteVectorAction)


def _space_before(envs: Border, kinds: tuple[type, ...]) -> str | None:
    """Return the space that a layer of one of these kinds changed; None if there is no such layer."""
    assert isinstance(envs, SoloBorder | VectorBorder)
    for layer in layers(envs.env if isinstance(envs, SoloBorder) else envs.envs):
        if isinstance(layer, gym.Wrapper) and type(layer) in kinds:
            return str(layer.env.action_space if kinds is _ENUMERATING else layer.env.observation_space)
        if isinstance(layer, VectorWrapper) and type(layer) in kinds:
            inner = layer.env
            return str(inner.single_action_space if kinds is _ENUMERATING else inner.single_observation_space)
    return None


def _is_flattened(space: gym.Space[Any], flatten_observations: bool | None) -> bool:
    """Return whether a space that is no Box is flattened, rather than packed."""
    if not is_composed(space):
        return True
    return not has_picture(space) if flatten_observations is None else flatten_observations


def make_wrapped(
    env_id: str,
    env_kwargs: dict[str, Any],
    wrappers: Sequence[Wrapper],
    frame_stack: int = 1,
    native_mode: AutoresetMode | None = None,
    flatten_observations: bool | None = None,
) -> tuple[gym.Env[Any, Any], TaskReward | None]:
    """Make a single environment in its wrappers.

    Args:
        env_id: See :class:`EnvFactory`, like the arguments that follow it.
        env_kwargs: Arguments of the task.
        wrappers: Wrappers, the innermost first.
        frame_stack: Number of observations that are shown as one.
        native_mode: Makes it from the task's own vectorized implementation, which resets then; None from the task.
        flatten_observations: See :class:`EnvFactory`.

    Returns:
        The environment, with a Box observation space and Discrete actions; and the layer that keeps the task's own
        reward, None without wrappers and stacks, which alone could change or keep what it returns.

    Raises:
        ConfigurationError: If the environment can't be made, can't be wrapped, or has other spaces.
    """
    env = _make_task(env_id, env_kwargs, native_mode)
    task_reward = TaskReward(env) if wrappers or frame_stack > 1 else None
    env = env if task_reward is None else task_reward
    for k, wrapper in enumerate(wrappers):
        try:
            env = _with_own_arguments(wrapper)(env)
        except (ConfigurationError, Terminated):
            raise
        except (Exception, SystemExit) as error:
            known = isinstance(error, AssertionError | TypeError | ValueError | gym.error.Error)
            reason = _one_line(error if known else repr(error))
            raise ConfigurationError(f"data.wrappers[{k}] can't wrap {env_id}: {reason}") from error
    if is_enumerable(env.action_space):
        env = FlattenMultiDiscreteAction(env)
    _require_discrete(env.action_space, env_id)
    _require_no_statistics(env, env_id, "data.wrappers has")
    if not isinstance(env.observation_space, Box):
        _require_flat(env.observation_space, env_id)
        is_flat = _is_flattened(env.observation_space, flatten_observations)
        env = gym.wrappers.FlattenObservation(CheckedParts(env)) if is_flat else PackedParts(env)
    if frame_stack > 1:
        space = env.observation_space
        env = gym.wrappers.FrameStackObservation(CheckedBox(env), frame_stack)
        if isinstance(space, PackedSpace):
            env.observation_space = space.stacked(frame_stack)
    return env, task_reward


def _with_own_arguments(wrapper: Wrapper) -> Wrapper:
    """Return a wrapper whose collections aren't those of the next environment's: it may change what it is given."""
    if not isinstance(wrapper, functools.partial):
        return wrapper
    own = {
        name: copy.deepcopy(value) if isinstance(value, list | dict | set | np.ndarray) else value
        for name, value in wrapper.keywords.items()
    }
    return functools.partial(wrapper.func, *wrapper.args, **own)


def _make_task(env_id: str, env_kwargs: dict[str, Any], native_mode: AutoresetMode | None) -> gym.Env[Any, Any]:
    if native_mode is None:
        with _refusing(env_id, env_kwargs):
            env = gym.make(env_id, **copy.deepcopy(env_kwargs))  # a task may change its arguments
        _require_no_statistics(env, env_id, "The task's entry point has")
        return env
    envs = _make_native(env_id, env_kwargs, num_envs=1)
    must_be = f"1 where 1 is asked for: with autoreset_mode {native_mode.value} each is stepped by itself"
    require(envs.num_envs == 1, f"the number of environments that {env_id} makes", envs.num_envs, must_be)
    return UnvectorizedEnv(envs, native_mode)


def _make_single(
    env_id: str,
    env_kwargs: dict[str, Any],
    wrappers: Sequence[Wrapper],
    frame_stack: int,
    native_mode: AutoresetMode | None,
    flatten_observations: bool | None,
) -> VectorizedEnv:
    made = make_wrapped(env_id, env_kwargs, wrappers, frame_stack, native_mode, flatten_observations)
    return VectorizedEnv(*made)


@contextmanager
def _refusing(env_id: str, env_kwargs: dict[str, Any]) -> Iterator[None]:
    """Say in a line why an environment can't be made."""
    try:
        yield
    except (ConfigurationError, Terminated):
        raise
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"data.env_kwargs is {env_kwargs}, which {env_id} refuses: {_one_line(error)}"
        ) from error
    except (Exception, SystemExit) as error:  # an environment may raise anything
        tells_all = isinstance(error, gym.error.Error | ModuleNotFoundError | MemoryError)
        reason = extra_in(str(error)) or _one_line(error if tells_all else repr(error))
        raise ConfigurationError(f"data.env_id is {env_id!r}, which can't be made: {reason}") from error


def _require_discrete(space: gym.Space[Any], env_id: str) -> None:
    if isinstance(space, MultiDiscrete):
        raise ConfigurationError(
            f"data.env_id is {env_id!r}, whose actions are {space}, with {num_combinations(space):,} combinations; "
            f"there must be at most {MAX_COMBINATIONS:,}, so that each can be an action (data.wrappers "
            "[FlattenMultiDiscreteAction] makes actions of more)"
        )
    if not isinstance(space, Discrete):
        raise ConfigurationError(
            f"data.env_id is {env_id!r}, whose actions are {space}; value-based learning needs a Discrete action space"
        )
    must_be = "0; gymnasium.wrappers.TransformAction can move them"
    require(space.start == 0, f"the first action of {env_id}", int(space.start), must_be)


def _require_flat(space: gym.Space[Any], env_id: str) -> None:
    must_be = "of a fixed size; a wrapper in data.wrappers can make them so"
    require(space.is_np_flattenable, f"the observation space of {env_id}", str(space), must_be)


def _require_no_statistics(env: Layered, env_id: str, place: str) -> None:
    """Refuse wrappers that learn a scale while they are used, each in its own environment.

    Args:
        env: The environment.
        env_id: Its id.
        place: Where its outer wrappers come from, as an error begins.

    Raises:
        ConfigurationError: If there is such a wrapper.
    """
    for layer in layers(env)[:-1]:
        keeps_statistics = any(isinstance(value, RunningMeanStd) for value in vars(layer).values())
        if keeps_statistics or hasattr(type(layer), "update_running_mean"):
            scales_rewards = isinstance(layer, _REWARD_SCALES)
            reason, fixed = _OF_REWARDS if scales_rewards else _OF_OBSERVATIONS
            raise ConfigurationError(
                f"{place} {type(layer).__name__} around {env_id}, which learns its scale in each environment by "
                f"itself: {reason}. Use one with a fixed scale, like gymnasium.wrappers.{fixed}"
            )


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
