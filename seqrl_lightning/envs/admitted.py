"""A single environment at the border: whatever Gymnasium allows it to return becomes the package's own types."""

import copy
import warnings
from collections.abc import Sequence
from decimal import Decimal
from numbers import Real
from typing import Any, Protocol, SupportsFloat, runtime_checkable

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike

from seqrl_lightning.envs.state import arrays, env_state, plain, set_env_state
from seqrl_lightning.signals import Terminated
from seqrl_lightning.types import Array, BoolArray, IntArray, stated

# The keys of an info that mean something to the package.
ACTION_MASK, BLOCK, CORRECT_ACTION, TASK_REWARD = "action_mask", "block", "correct_action", "task_reward"
_WIDER = {"bool": "uint8", "uint16": "int32", "uint32": "int64", "uint64": "int64"}


class EnvValueError(ValueError):
    """A value of an environment that Gymnasium's API doesn't allow. The message is one line.

    Args:
        message: The field, its value, and what would do.
        env: Number of the environment among several; None if it isn't known.
    """

    def __init__(self, message: str, env: int | None = None) -> None:
        super().__init__(message)
        self.env = env


@runtime_checkable
class FollowsBlocks(Protocol):
    """A task whose blocks last as many episodes as the learner sees, over all environments."""

    next_block: int | None  # of the episodes that start from now on; None: the task counts its own episodes

    def block_of(self, finished_episodes: int) -> IntArray | int:
        """Return the block of the episode that follows so many finished ones."""


class TaskReward(gym.Wrapper[Any, Any, Any, Any]):
    """Keep the task's own reward, from inside all wrappers that may change it.

    Wrappers get observations of their own: a task may write into its arrays again, and a stack keeps some.

    Args:
        env: The task, without wrappers that change rewards.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._sum = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self._sum = 0.0
        observation, info = self.env.reset(seed=seed, options=options)
        return _copied(observation), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step, and add its reward to those since the last :meth:`take`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._sum += as_reward(reward)
        return _copied(observation), reward, terminated, truncated, info

    def take(self) -> float:
        """Return the sum of the rewards since the last call: a wrapper may take several steps in one of its own."""
        reward, self._sum = self._sum, 0.0
        return reward

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: between two steps of the outermost wrapper there is no reward to keep."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Forget the reward of another episode."""
        self._sum = 0.0


def _copied(observation: Any) -> Any:
    is_array = type(observation) is np.ndarray and observation.dtype != object
    return observation.copy() if is_array else copy.deepcopy(observation)  # several times as slow


class AdmittedEnv(gym.Wrapper[Array, Any, Any, Any]):
    """Turn what an environment returns into arrays and numbers that the package owns, or refuse it in one line.

    - Observations, of any type that NumPy takes, become arrays of the space's dtype and shape, in memory of their own.
    - Rewards become floats, flags bools; each may be a number, an array of one element or of none.
    - Of the infos, ``action_mask``, ``block`` and ``correct_action`` are kept where they have the package's meaning.

    Args:
        env: The environment with all its wrappers, with a Box observation space and Discrete actions.
        task_reward: Knows the task's own reward, if wrappers may change it.
        keeps_infos: Whether the other keys of infos are kept, too.

    Attributes:
        space: The observation space: the environment's own, of a dtype that the package stores.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        task_reward: TaskReward | None = None,
        keeps_infos: bool = False,
    ) -> None:
        super().__init__(env)
        self.space = self.observation_space = stored_space(env.observation_space)
        assert isinstance(env.action_space, gym.spaces.Discrete)
        self._shape = self.space.shape
        self._n_actions = int(env.action_space.n)
        self._num_blocks = num_blocks_of(env.unwrapped)
        self._task_reward = task_reward
        self._keeps_infos = keeps_infos

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode.

        Raises:
            EnvValueError: If the environment returns what Gymnasium's API doesn't allow.
        """
        try:
            result = self.env.reset(seed=seed, options=copy.deepcopy(options))  # a task may change what it is given
        except SystemExit as error:
            raise exit_refused(error) from error
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise EnvValueError(f"reset() returned {short(result)}; it must return (observation, info)")
        if self._task_reward is not None:
            self._task_reward.take()  # of steps that a wrapper took to start the episode
        return own_observation(result[0], self.space, self._shape), self._own_info(result[1])

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Take a step.

        Raises:
            EnvValueError: If the environment returns what Gymnasium's API doesn't allow.
        """
        try:
            result = self.env.step(action)
        except SystemExit as error:
            raise exit_refused(error) from error
        try:
            observation, reward, terminated, truncated, info = result
        except (TypeError, ValueError) as error:
            must_be = "(observation, reward, terminated, truncated, info)"
            raise EnvValueError(f"step() returned {short(result)}; it must return {must_be}") from error
        own_terminated, own_truncated = as_flag(terminated, "terminated"), as_flag(truncated, "truncated")
        own_info = self._own_info(info, is_over=own_terminated)
        if self._task_reward is not None:
            own_info[TASK_REWARD] = self._task_reward.take()
        own_reward = as_reward(reward)
        return (
            own_observation(observation, self.space, self._shape),
            own_reward,
            own_terminated,
            own_truncated,
            own_info,
        )

    def render(self) -> Any:
        """Return the environment's picture. Raises what the environment raises."""
        try:
            return self.env.render()
        except SystemExit as error:
            raise exit_refused(error) from error

    def close(self) -> None:
        """Close the environment. Raises what the environment raises."""
        try:
            self.env.close()
        except SystemExit as error:
            raise exit_refused(error) from error

    def _own_info(self, info: dict[str, Any], is_over: bool = False) -> dict[str, Any]:
        if not isinstance(info, dict):
            raise EnvValueError(f"the info is {short(info)}; it must be a dict")
        own: dict[str, Any] = dict(info) if self._keeps_infos else {}
        if info.get(ACTION_MASK) is not None and not is_over:  # in a terminal state there is nothing to choose
            own[ACTION_MASK] = as_mask(info[ACTION_MASK], (self._n_actions,))
        if BLOCK in info and (block := as_int(info[BLOCK], 0, self._num_blocks)) is not None:
            own[BLOCK] = block
        if CORRECT_ACTION in info and (action := as_int(info[CORRECT_ACTION], -1, self._n_actions)) is not None:
            own[CORRECT_ACTION] = action
        return own


class VectorizedEnv(AdmittedEnv):
    """One environment of several: it resets in the step after an episode's end, and its state can be read and restored.

    Attributes:
        failed: Whether its last reset or step raised.
    """

    def __init__(self, env: gym.Env[Any, Any], task_reward: TaskReward | None = None) -> None:
        super().__init__(env, task_reward)
        self._ended = False
        self.failed = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode. Raise as :meth:`AdmittedEnv.reset` does."""
        self._ended = False
        self.failed = True  # unless it returns
        result = super().reset(seed=seed, options=options)
        self.failed = False
        return result

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Take a step, or start the next episode if the last step ended one. Raise as :meth:`AdmittedEnv.step` does."""
        if self._ended:
            observation, info = self.reset()
            return observation, 0.0, False, False, info
        self.failed = True
        result = super().step(action)
        self.failed = False
        self._ended = result[2] or result[3]
        return result

    @property
    def tracked_state(self) -> dict[str, Any] | None:
        """The environment's state, without tensors; None if it is unknown. Setting it restores the environment."""
        state = env_state(self.env)
        return None if state is None else {"ended": self._ended, **arrays(state)}

    @tracked_state.setter
    def tracked_state(self, state: dict[str, Any]) -> None:
        self._ended = state["ended"]
        set_env_state(self.env, plain(state))

    @property
    def next_block(self) -> int | None:
        """The block of the episodes that start from now on; None if the task counts by itself."""
        task = self.unwrapped
        return task.next_block if isinstance(task, FollowsBlocks) else None

    @next_block.setter
    def next_block(self, block: int) -> None:
        task = self.unwrapped
        assert isinstance(task, FollowsBlocks)
        task.next_block = block


class Closable(Protocol):
    """An environment, or several."""

    def close(self) -> None:
        """Close it."""


def close_quietly(envs: Closable) -> None:
    """Close environments, however they take it: a training that is done stays as it is."""
    try:
        envs.close()
    except Terminated:
        raise
    except (Exception, SystemExit) as error:
        warnings.warn(f"closing an environment failed: {error!r}", stacklevel=2)


def num_blocks_of(task: Any) -> int:
    """Return the number of blocks that a task states by its attribute ``num_blocks``; 0 if it states none.

    Raises:
        ConfigurationError: If the attribute raises.
    """
    return as_int(stated(task, "num_blocks"), 0, 1_000_000) or 0  # an attribute with any meaning


def block_after(task: FollowsBlocks, finished_episodes: int, num_blocks: int) -> int:
    """Return the block of the episode that follows so many finished ones.

    Raises:
        EnvValueError: If the task's ``block_of`` raises, or returns something else than one of its blocks.
    """
    call = f"block_of({finished_episodes})"
    must_be = f"a block, 0 to {num_blocks - 1}"
    try:
        returned = task.block_of(finished_episodes)
    except Terminated:
        raise
    except (Exception, SystemExit) as error:  # a task may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise EnvValueError(f"{call} raises {reason}; it must return {must_be}") from error
    block = as_int(returned, 0, num_blocks)
    if block is None:
        raise EnvValueError(f"{call} returns {short(returned)}; it must return {must_be}")
    return block


def stored_space(space: gym.Space[Any]) -> Box:
    """Return a Box space of a dtype that the package stores and networks read: float32 for other floats, and so on."""
    assert isinstance(space, Box)
    dtype = np.dtype(space.dtype)
    stored = np.dtype("float32" if dtype.kind == "f" else _WIDER.get(dtype.name, dtype.name))
    if stored == dtype:
        return space
    low, high = space.low, space.high
    if dtype == np.uint64:
        low, high = (np.minimum(bound, np.uint64(np.iinfo(stored).max)) for bound in (low, high))
    with np.errstate(over="ignore"):
        return Box(low.astype(stored), high.astype(stored), dtype=stored.type)


def limits_of(space: Box) -> tuple[Any, Any]:
    """Return the smallest and the largest finite value of a space's dtype."""
    dtype: Any = np.dtype(space.dtype)
    if dtype.kind == "b":
        return False, True
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return limits.min, limits.max


def own_observation(value: ArrayLike, space: Box, shape: tuple[int, ...], name: str = "observation") -> Array:
    """Copy an observation into an array of its space's dtype.

    Args:
        value: The observation, or several in a row.
        space: The space of one observation.
        shape: The shape that the array must have.
        name: Its name in an error.

    Raises:
        EnvValueError: If the shape is another, or the kind of dtype is (floats under a space of integers).
    """
    dtype = space.dtype
    if type(value) is np.ndarray and value.dtype == dtype and value.shape == shape:
        return value.copy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise EnvValueError(f"{name} is {short(value)}, which is no array") from error
    if array.shape != shape:
        raise EnvValueError(f"{name}.shape is {array.shape}; it must be {shape}, as its space says")
    kind, own_kind = array.dtype.kind, np.dtype(dtype).kind
    if kind not in "biuf" or (kind == "f" and own_kind != "f"):
        raise EnvValueError(f"{name}.dtype is {array.dtype}; it must be {dtype}, as its space says")
    if own_kind != "f" and kind != "b" and array.dtype != dtype:
        lowest, highest = limits_of(space)
        require_inside(array, (array >= lowest) & (array <= highest), space.low, space.high, name)
    with np.errstate(over="ignore"):  # to infinity, which is refused as such
        return array.astype(dtype)


def require_inside(
    array: Array, is_inside: BoolArray, low: Any, high: Any, name: str = "observation", hint: str = ""
) -> None:
    """Refuse an array with values outside their space, by the first of them.

    Args:
        array: One array of a space, or several in a row.
        is_inside: Which values are inside, of the array's shape.
        low: The least values that the space allows, of the space's shape.
        high: The largest ones.
        name: The array's name in an error.
        hint: What else would do, where the value is finite.

    Raises:
        EnvValueError: If there is one.
    """
    if is_inside.all():
        return
    index = np.unravel_index(int(is_inside.argmin()), array.shape)
    value, num_before = array[index], array.ndim - np.ndim(low)
    inner = index[num_before:]
    place = f"{name}[{', '.join(map(str, inner))}]" if inner else name
    must_be = f"the space allows [{low[inner]!s}, {high[inner]!s}]{hint}" if np.isfinite(value) else "it must be finite"
    raise EnvValueError(f"{place} is {value!s}; {must_be}", env=int(index[0]) if num_before else None)


def as_reward(value: Any) -> float:
    """Return a reward as a float.

    Raises:
        EnvValueError: If it isn't one number.
    """
    if type(value) is float:
        return value
    if isinstance(value, Real | Decimal):  # fractions and integers of any size, too
        try:
            return float(value)
        except OverflowError:
            return float("inf")  # which is refused as such
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biufO":
        raise EnvValueError(f"the reward is {short(value)}; it must be a number")
    if array.dtype.kind == "O":
        if not isinstance(array.item(), Real | Decimal):
            raise EnvValueError(f"the reward is {short(value)}; it must be a number")
        return as_reward(array.item())
    return float(array.reshape(()))


def as_flag(value: Any, name: str) -> bool:
    """Return ``terminated`` or ``truncated`` as a bool.

    Raises:
        EnvValueError: If it isn't true or false, 1 or 0.
    """
    if type(value) is bool:
        return value
    array = np.asarray(value)
    is_object = array.dtype.kind == "O" and array.size == 1 and isinstance(array.item(), Real | np.bool_)
    if array.size != 1 or not (is_object or array.dtype.kind in "biuf") or array.item() not in (0, 1):
        raise EnvValueError(f"{name} is {short(value)}; it must be True or False")
    return bool(array.item())


def as_mask(value: ArrayLike, shape: tuple[int, ...]) -> BoolArray:
    """Return an action mask, [..., A], as an array of its own.

    Raises:
        EnvValueError: If it hasn't one number for each action.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise EnvValueError(f"info['action_mask'] is {short(value)}, which is no array") from error
    if array.shape != shape or array.dtype.kind not in "biuf":
        raise EnvValueError(
            f"info['action_mask'] is {short(value)}; it must be {shape[-1]} numbers, one for each action"
        )
    mask: BoolArray = array != 0
    return mask


def as_int(value: Any, first: int, end: int) -> int | None:
    """Return a label of the package, a whole number in [first, end); None for what must mean something else."""
    if type(value) is not int:
        if isinstance(value, list | tuple):
            return None
        array = np.asarray(value)  # of a tensor, too
        if array.size == 1 and array.dtype == object and array.item() is not value:
            return as_int(array.item(), first, end)
        if array.size != 1 or array.dtype.kind not in "iu":
            return None
        value = int(array.item())
    return value if first <= value < end else None


def told_by_each(infos: dict[str, Any], key: str, num_envs: int) -> tuple[Sequence[Any] | Array, BoolArray] | None:
    """Return what each of several environments tells under a key of their infos, and which of them tell something.

    Args:
        infos: The infos of a vector environment: a list, tuple, array or tensor of one value for each environment under
            a key, and which of them have one under ``_key``. An environment whose value is None tells nothing either.
        key: The key.
        num_envs: Number of environments, N.

    Returns:
        The N values, and ``[N] bool``; None if there is no value for each environment under the key.
    """
    if key not in infos:
        return None
    values, has_told = infos[key], infos.get(f"_{key}", True)
    if not isinstance(values, list | tuple):
        values = np.asarray(values)
    if (values.shape[:1] if isinstance(values, np.ndarray) else (len(values),)) != (num_envs,):
        return None
    if not (type(has_told) is np.ndarray and has_told.dtype == np.bool_):  # as Gymnasium's have
        has_told = np.broadcast_to(np.asarray(has_told, np.bool_), (num_envs,))
    if not isinstance(values, np.ndarray) or values.dtype == object:
        has_told = has_told & np.array([value is not None for value in values])
    return values, has_told


def told_masks(infos: dict[str, Any], num_envs: int) -> tuple[Sequence[Any] | Array, BoolArray] | None:
    """Return the action masks of several environments as :func:`told_by_each` does; None if there are none.

    Raises:
        EnvValueError: If there isn't one for each environment.
    """
    if infos.get(ACTION_MASK) is None:
        return None
    told = told_by_each(infos, ACTION_MASK, num_envs)
    if told is None:
        must_be = f"have {num_envs} rows, one for each environment"
        raise EnvValueError(f"info['action_mask'] is {short(infos[ACTION_MASK])}; it must {must_be}")
    return told


def own_infos(infos: Any) -> dict[str, Any]:
    """Return the infos of a vector environment.

    Raises:
        EnvValueError: If they aren't a dict.
    """
    if isinstance(infos, dict):
        return infos
    raise EnvValueError(f"the infos are {short(infos)}; they must be a dict")


def exit_refused(error: SystemExit) -> EnvValueError:
    """Return the error for an attempt to end the program: an environment's ``sys.exit()`` isn't the end of a run.

    Raises:
        Terminated: If it isn't the environment's attempt, but a signal.
    """
    if isinstance(error, Terminated):
        raise error
    return EnvValueError(f"it called sys.exit({error.code!r})")


def short(value: object) -> str:
    """Return a value as an error shows it."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
