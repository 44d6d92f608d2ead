"""The border: the one door through which every environment enters, single or vectorized.

A task is written for Gymnasium, not for this package. What it shows becomes arrays that the package owns, of one type
each, and what can't become such an array is refused in a line. Behind the border there are no infos and no spaces.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from seqrl_lightning.envs.admitted import (
    ACTION_MASK,
    BLOCK,
    CORRECT_ACTION,
    TASK_REWARD,
    EnvValueError,
    FollowsBlocks,
    VectorizedEnv,
    as_flag,
    as_int,
    as_mask,
    as_reward,
    close_quietly,
    exit_refused,
    limits_of,
    num_blocks_of,
    own_infos,
    own_observation,
    require_inside,
    stored_space,
    told_by_each,
    told_masks,
)
from seqrl_lightning.envs.cartpole_no_vel import CartPoleNoVelVectorEnv
from seqrl_lightning.envs.packing import PackedSpace
from seqrl_lightning.envs.state import arrays, env_state, plain, set_env_state
from seqrl_lightning.envs.vector import TaskVectorEnv
from seqrl_lightning.types import Array, BoolArray, FloatArray, IntArray

T = TypeVar("T")

_ANY_NUMBER = np.iinfo(np.int64).max
# Vectorized implementations that return new arrays of the right types in each step, so that nothing has to be checked.
_KNOWN = (TaskVectorEnv, CartPoleNoVelVectorEnv, CartPoleVectorEnv)
_MAX_REWARD = float(np.finfo(np.float32).max)  # the replay memory keeps rewards in float32


class EnvFault(Exception):
    """A fault of an environment.

    Args:
        env: Number of the environment; None if it isn't known.
        reason: What happened, in one line.
    """

    def __init__(self, env: int | None, reason: str) -> None:
        super().__init__(reason)
        self.env = env
        self.reason = reason


class Shown(NamedTuple):
    """The observations of N environments after a reset or a step, and what the task states about them."""

    observation: Array  # [N, *obs], of the stored dtype
    action_mask: BoolArray | None  # [N, A], true where an action is allowed; None while the task has forbidden nothing
    block: IntArray | None  # [N], whose rule holds; None while the task has told none
    correct_action: IntArray | None  # [N], -1 where none is known; None while the task has told none


class Outcome(NamedTuple):
    """The outcome of a step of N environments."""

    shown: Shown
    reward: FloatArray  # [N], to learn from
    task_reward: FloatArray  # [N], the task's own, before any wrapper
    terminated: BoolArray  # [N]
    truncated: BoolArray  # [N]


class Bounds:
    """The bounds of an array of N environments.

    Args:
        space: The space of the array of one of them.
        shape: The array's shape, [N, ...].
    """

    def __init__(self, space: Box, shape: tuple[int, ...]) -> None:
        lowest, highest = limits_of(space)
        low, high = np.maximum(space.low, lowest), np.minimum(space.high, highest)
        self._can_be_infinite = np.issubdtype(space.dtype, np.floating)
        fills_dtype = bool((low == lowest).all() and (high == highest).all())
        self._can_be_outside = self._can_be_infinite or not fills_dtype
        # Inside finite bounds there is neither NaN nor infinity: two comparisons find everything, and take half the
        # time with bounds for each environment.
        if self._can_be_outside:
            self._low, self._high = (np.broadcast_to(bound, shape).copy() for bound in (low, high))
            self._dtype_low, self._dtype_high = np.full_like(self._low, lowest), np.full_like(self._high, highest)
            self._space = space

    def require(self, array: Array, check_bounds: bool, name: str) -> None:
        """Refuse an array with NaN or infinity in it, or, with ``check_bounds``, with a value outside its space.

        Raises:
            EnvValueError: If there is such a value; ``name`` is the array's name in it.
        """
        if not (self._can_be_outside if check_bounds else self._can_be_infinite):
            return
        low, high = (self._low, self._high) if check_bounds else (self._dtype_low, self._dtype_high)
        is_above, is_below = array >= low, array <= high
        # count_nonzero() is several times as fast as all().
        if np.count_nonzero(is_above) + np.count_nonzero(is_below) < 2 * array.size:
            low, high, hint = self._space.low, self._space.high, " (agent.check_bounds: false accepts it)"
            require_inside(array, is_above & is_below, low, high, name, hint)


class Border(ABC):
    """N environments that reset in the step after an episode's end (Gymnasium's next-step autoreset).

    Args:
        space: The space of one observation, of the stored dtype.
        n_actions: Number of actions, A.
        num_envs: N.

    Attributes:
        observation_space: The space of one observation.
        check_bounds: Whether finite values outside the observation space's bounds are faults.
        seed: The seed of the last reset.
        num_steps: Steps since then.
    """

    def __init__(self, space: Box, n_actions: int, num_envs: int) -> None:
        self.observation_space = space
        self.n_actions = n_actions
        self.num_envs = num_envs
        self.check_bounds = True
        self.seed = self.num_steps = 0
        self._shape = (num_envs, *space.shape)
        self._layout = space.layout if isinstance(space, PackedSpace) else None
        parts = space.parts if isinstance(space, PackedSpace) else {"": space}
        lead = self._shape[:-1] if self._layout else (num_envs,)
        self._bounds = {name: Bounds(part, (*lead, *part.shape)) for name, part in parts.items()}
        self._has_told_mask = self._has_told_action = False
        self._block: IntArray | None = None  # told last

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Shown:
        """Start an episode in every environment.

        Args:
            seed: Environment i is seeded with ``seed + i``; None goes on with its random stream.
            options: The environments' options.

        Raises:
            EnvFault: If one of them raises, or shows what it may not show.
        """
        self.seed, self.num_steps = seed or 0, 0
        return self._guarded(self._reset, seed, options)

    def step(self, action: IntArray) -> Outcome:
        """Act in every environment ([N] int64). One whose episode has ended starts the next episode instead.

        Raises:
            EnvFault: If one of them raises, or shows what it may not show.
        """
        self.num_steps += 1
        return self._guarded(self._step, action)

    def _guarded(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function of the environments, and turn whatever it raises into an ``EnvFault``."""
        try:
            return function(*arguments)
        except EnvFault:
            raise
        except (Exception, SystemExit) as error:  # an environment may raise anything
            raise self.fault_of(error) from error

    @abstractmethod
    def _reset(self, seed: int | None, options: dict[str, Any] | None) -> Shown:
        """Start an episode in every environment, and raise whatever one of them raises."""

    @abstractmethod
    def _step(self, action: IntArray) -> Outcome:
        """Act in every environment, and raise whatever one of them raises."""

    @abstractmethod
    def follow_block(self, block: int) -> None:
        """Set the block of the episodes that start from now on, if the task leaves it to the learner."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any] | None:
        """Return the environments' state as tensors, numbers, texts and collections; None if it is unknown."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the environments to what ``state_dict`` returned."""

    def remember(self, shown: Shown, has_ended: BoolArray) -> None:
        """Go on from a step that showed ``shown``: what was told once counts as told, and the block is that one's.

        Args:
            shown: What the environments show.
            has_ended: [N] bool, whose episode that step ended.
        """
        self._has_told_mask = shown.action_mask is not None
        self._has_told_action = shown.correct_action is not None
        self._block = shown.block

    @abstractmethod
    def close(self) -> None:
        """Close the environments. Raises whatever one of them raises."""

    @property
    def steps_in_processes(self) -> bool:
        """Whether each environment has a process of its own, so that a step can go on while something else is done."""
        return False

    def start_step(self, action: IntArray) -> None:
        """Start a step of environments in processes of their own. Raise as :meth:`step` does."""
        raise NotImplementedError("only environments in processes of their own step while something else is done")

    def finish_step(self) -> Outcome:
        """Wait for the step that ``start_step`` started. Raise as :meth:`step` does."""
        raise NotImplementedError("no step was started")

    def fault_of(self, error: BaseException) -> EnvFault:
        """Return the fault that an error tells of: which environment raised it, or which one's process is dead."""
        if isinstance(error, SystemExit):
            error = exit_refused(error)
        reason, env = " ".join(str(error).split()), None
        if isinstance(error, EnvValueError):
            env = error.env
        else:
            reason = f"{type(error).__name__}: {reason}"
        return EnvFault(0 if self.num_envs == 1 else env, reason)

    def discard(self) -> None:
        """Close environments, one of which may be broken."""
        close_quietly(self)

    # Checks

    def _require_in_space(self, observation: Array) -> None:
        if self._layout is None:
            self._bounds[""].require(observation, self.check_bounds, "observation")
            return
        for name, part in self._layout.unpack(observation).items():
            self._bounds[name].require(part, self.check_bounds, f"observation[{name!r}]")

    def _require_rewards(self, reward: FloatArray) -> None:
        is_good = np.abs(reward) <= _MAX_REWARD  # neither NaN nor infinite
        if np.count_nonzero(is_good) < self.num_envs:  # several times as fast as all()
            env = _first_faulty(is_good)
            raise EnvFault(env, f"the reward is {reward[env]}; it must be a number that float32 can hold")

    def _completed(self, mask: BoolArray, ended: BoolArray | None) -> BoolArray:
        """Return a mask [N, A] that allows everything where an episode has ended, if it allowed nothing there."""
        self._has_told_mask = True
        is_stuck = ~mask.any(1)
        if np.count_nonzero(is_stuck):
            goes_on = is_stuck if ended is None else is_stuck & ~ended
            if np.count_nonzero(goes_on):
                env = int(np.flatnonzero(goes_on)[0])
                raise EnvFault(env, "info['action_mask'] allows no action, and the episode goes on")
            mask[is_stuck] = True
        return mask

    def _all_allowed(self) -> BoolArray | None:
        """Return the mask of a step in which none was told: None as long as the task has told none at all."""
        return np.ones((self.num_envs, self.n_actions), np.bool_) if self._has_told_mask else None


class SoloBorder(Border):
    """A single environment, without the cost of a vector environment.

    Args:
        env: The environment.
    """

    def __init__(self, env: VectorizedEnv) -> None:
        assert isinstance(env.action_space, Discrete)
        super().__init__(env.space, int(env.action_space.n), 1)
        self.env = env

    def _reset(self, seed: int | None, options: dict[str, Any] | None) -> Shown:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._shown(observation, info, has_ended=False)

    def _step(self, action: IntArray) -> Outcome:
        observation, reward, terminated, truncated, info = self.env.step(action[0])
        shown = self._shown(observation, info, terminated or truncated)
        rewards = task_rewards = np.array([reward])
        if not -_MAX_REWARD <= reward <= _MAX_REWARD:
            self._require_rewards(rewards)
        if TASK_REWARD in info:
            task_rewards = np.array([info[TASK_REWARD]])
            self._require_rewards(task_rewards)
        return Outcome(shown, rewards, task_rewards, np.array([terminated]), np.array([truncated]))

    def _shown(self, observation: Array, info: dict[str, Any], has_ended: bool) -> Shown:
        observations = observation[None]
        self._require_in_space(observations)
        mask, correct_action = self._all_allowed(), None
        if ACTION_MASK in info:
            mask = self._completed(info[ACTION_MASK][None], np.array([has_ended]))
        if BLOCK in info:
            self._block = np.array([info[BLOCK]])
        if CORRECT_ACTION in info or self._has_told_action:
            self._has_told_action = True
            correct_action = np.array([info.get(CORRECT_ACTION, -1)])
        return Shown(observations, mask, self._block, correct_action)

    def follow_block(self, block: int) -> None:
        """Set the block of the episodes that start from now on, if the task leaves it to the learner."""
        self.env.next_block = block

    def state_dict(self) -> dict[str, Any] | None:
        """Return the environment's state; None if it is unknown."""
        state = self.env.tracked_state
        return None if state is None else plain(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the environment."""
        self.env.reset()
        self.env.tracked_state = arrays(state)

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


class VectorBorder(Border):
    """Several environments side by side, or a task that exists vectorized only.

    Args:
        envs: Single environments, each a :class:`VectorizedEnv`, or a task's own vectorized implementation.
        is_native: Whether they are a task's own: its infos and its state are what the task makes of them, even where it
            is made of Gymnasium's vector environments.

    Attributes:
        envs: The environments.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any], is_native: bool) -> None:
        assert isinstance(envs.single_action_space, Discrete)
        super().__init__(stored_space(envs.single_observation_space), int(envs.single_action_space.n), envs.num_envs)
        self.envs = envs
        self._task = envs.unwrapped
        self._ended = np.zeros(envs.num_envs, np.bool_)
        self._singles = envs if isinstance(envs, SyncVectorEnv | AsyncVectorEnv) and not is_native else None
        self._is_known = type(envs) in _KNOWN
        # Single environments know their number of blocks.
        self._num_blocks = num_blocks_of(self._task) if self._singles is None else _ANY_NUMBER

    @property
    def steps_in_processes(self) -> bool:
        """Whether each environment has a process of its own."""
        return isinstance(self._singles, AsyncVectorEnv)

    def remember(self, shown: Shown, has_ended: BoolArray) -> None:
        """Go on from a step that showed ``shown``; see :meth:`Border.remember`."""
        super().remember(shown, has_ended)
        self._ended = has_ended.copy()

    def _reset(self, seed: int | None, options: dict[str, Any] | None) -> Shown:
        self._ended = np.zeros(self.num_envs, np.bool_)
        observation, infos = self.envs.reset(seed=seed, options=options)
        return self._shown(observation, infos)

    def _step(self, action: IntArray) -> Outcome:
        if self._is_known:
            observation, reward, terminated, truncated, infos = self.envs.step(action)
            shown = Shown(observation, None, infos.get(BLOCK), infos.get(CORRECT_ACTION))
            return Outcome(shown, reward, reward, terminated, truncated)
        if self._singles is None:
            action = action.copy()  # they may write into it
        return self._outcome(*self.envs.step(action))

    def start_step(self, action: IntArray) -> None:
        """Start a step of environments in processes of their own; see :meth:`Border.start_step`."""
        assert isinstance(self._singles, AsyncVectorEnv)
        self.num_steps += 1
        self._guarded(self._singles.step_async, action)

    def finish_step(self) -> Outcome:
        """Wait for the step that ``start_step`` started; see :meth:`Border.finish_step`."""
        return self._guarded(self._wait)

    def _wait(self) -> Outcome:
        assert isinstance(self._singles, AsyncVectorEnv)
        return self._outcome(*self._singles.step_wait())

    def _outcome(
        self, observation: Any, reward: Any, terminated: Any, truncated: Any, infos: dict[str, Any]
    ) -> Outcome:
        own_terminated = self._own_column(terminated, np.bool_, "terminated")
        own_truncated = self._own_column(truncated, np.bool_, "truncated")
        ended, restarting = own_terminated | own_truncated, self._ended
        self._require_episodes(ended)
        shown = self._shown(observation, infos, ended, own_terminated)
        own_reward = task_reward = self._own_column(reward, np.float64, "the reward")
        if self._singles is None and np.count_nonzero(restarting):
            own_reward[restarting] = 0.0  # a reset earns nothing
        self._require_rewards(own_reward)
        if self._singles is not None and TASK_REWARD in infos:  # a native environment's key means something else
            task_reward = infos[TASK_REWARD]
            self._require_rewards(task_reward)
        return Outcome(shown, own_reward, task_reward, own_terminated, own_truncated)

    def _own_column(self, values: Any, dtype: type, name: str) -> Array:
        if type(values) is np.ndarray and values.dtype == dtype and values.shape == (self.num_envs,):
            return values.copy()
        column: Array = np.array(values)
        if column.dtype == object and column.shape == (self.num_envs,):
            column = np.array([as_flag(value, name) if dtype is np.bool_ else as_reward(value) for value in column])
        if column.shape != (self.num_envs,) or column.dtype.kind not in "biuf":
            must_be = f"{self.num_envs} numbers, one for each environment"
            raise EnvFault(None, f"{name} is {column.dtype}{column.shape}; it must be {must_be}")
        own: Array = column.astype(dtype)
        if dtype is np.bool_ and np.count_nonzero(own != column):
            raise EnvFault(_first_faulty(own == column), f"{name} is {column}; it must be True or False")
        return own

    def _require_episodes(self, ended: BoolArray) -> None:
        """Refuse an environment that ends an episode in the step that only starts it: it would never take a step."""
        is_wrong = ended & self._ended
        if np.count_nonzero(is_wrong):
            reason = "an episode ends in the step after the end of another, which is to start it (autoreset_mode)"
            raise EnvFault(_first_faulty(~is_wrong), reason)
        self._ended = ended

    def _shown(
        self,
        observation: Any,
        infos: dict[str, Any],
        ended: BoolArray | None = None,
        terminated: BoolArray | None = None,
    ) -> Shown:
        own = own_observation(observation, self.observation_space, self._shape)
        self._require_in_space(own)
        infos, mask = own_infos(infos), self._all_allowed()
        if (told := told_masks(infos, self.num_envs)) is not None:
            mask = self._completed(self._own_masks(*told, terminated), ended)
        block = self._told_labels(infos, BLOCK, self._num_blocks)
        if block is not None and np.count_nonzero(block < 0):
            block = np.where(block < 0, 0 if self._block is None else self._block, block)
        self._block = self._block if block is None else block
        correct_action = self._told_labels(infos, CORRECT_ACTION, self.n_actions)
        if correct_action is None and self._has_told_action:
            correct_action = np.full(self.num_envs, -1)
        self._has_told_action = correct_action is not None
        return Shown(own, mask, self._block, correct_action)

    def _own_masks(self, masks: Sequence[Any] | Array, has_told: BoolArray, terminated: BoolArray | None) -> BoolArray:
        """Return what each environment allows, [N, A]; all, where one has told nothing or its state is terminal."""
        has_told = has_told if terminated is None else has_told & ~terminated
        if isinstance(masks, np.ndarray) and masks.dtype != object and np.count_nonzero(has_told) == self.num_envs:
            return as_mask(masks, (self.num_envs, self.n_actions))
        mask = np.ones((self.num_envs, self.n_actions), np.bool_)
        for env in np.flatnonzero(has_told).tolist():
            mask[env] = as_mask(masks[env], (self.n_actions,))
        return mask

    def _told_labels(self, infos: dict[str, Any], key: str, end: int) -> IntArray | None:
        """Return a label of each environment, [N] in [-1, end); -1 where there is none; None if the key isn't ours."""
        told = told_by_each(infos, key, self.num_envs)
        if told is None:
            return None
        labels, is_told = told
        if not (isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu"):
            own = [as_int(label, -1, end) for label in labels]
            if all(label is None for label in own):
                return None
            labels = np.array([-1 if label is None else label for label in own])
        is_label = is_told & (labels >= -1) & (labels < end)
        return np.where(is_label, labels.astype(np.int64, copy=False), -1)

    def follow_block(self, block: int) -> None:
        """Set the block of the episodes that start from now on, if the task leaves it to the learner."""
        if self._singles is not None:
            self._singles.set_attr("next_block", block)
        elif isinstance(self._task, FollowsBlocks):
            self._task.next_block = block

    def state_dict(self) -> dict[str, Any] | None:
        """Return the environments' state; None if it is unknown."""
        if self._singles is not None:
            states = self._singles.get_attr("tracked_state")
            return None if None in states else {"envs": [plain(state) for state in states]}
        return env_state(self.envs)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the environments."""
        self.envs.reset()
        self._ended = np.zeros(self.num_envs, np.bool_)
        if self._singles is not None:
            self._singles.set_attr("tracked_state", [arrays(env_state) for env_state in state["envs"]])
        else:
            set_env_state(self.envs, state)

    def fault_of(self, error: BaseException) -> EnvFault:
        """Return the fault that an error tells of: which environment raised it, or which one's process is dead."""
        fault = super().fault_of(error)
        if isinstance(self._task, SyncVectorEnv) and fault.env is None:
            failed = (i for i, env in enumerate(self._task.envs) if isinstance(env, VectorizedEnv) and env.failed)
            return EnvFault(next(failed, None), fault.reason)
        if isinstance(self._task, AsyncVectorEnv):
            for env, (pipe, process) in enumerate(zip(self._task.parent_pipes, self._task.processes, strict=True)):
                if pipe is None:  # closed when the error came through it
                    return EnvFault(env, fault.reason)
                # Its pipe breaks before the process has ended.
                process.join(0.2 if isinstance(error, EOFError | OSError) else 0.0)
                if not process.is_alive():
                    return EnvFault(env, f"its process ended with status {process.exitcode}")
        return fault

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()

    def discard(self) -> None:
        """Close environments, one of which is broken, however they take it."""
        if isinstance(self._task, AsyncVectorEnv):  # its own close() waits for the answers of all processes
            for process in self._task.processes:
                process.kill()
                process.join()
            for pipe in self._task.parent_pipes:
                if pipe is not None:
                    pipe.close()
        else:
            super().discard()
        self._task.closed = True


def _first_faulty(is_good: BoolArray) -> int:
    return int(np.flatnonzero(~is_good.reshape(len(is_good), -1).all(1))[0])
