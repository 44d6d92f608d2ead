"""The border: the one door through which every environment enters, single or vectorized.

A task is written for Gymnasium, not for this package. Its observations, rewards and flags become arrays that the
package owns, of one type each; any other value is refused in one line. Behind the border there are no infos
and no spaces.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from gymnasium.spaces import Box

from seqrl_lightning.envs.bounds import Bounds
from seqrl_lightning.envs.faults import EnvFault, EnvValueError, close_quietly, exit_refused
from seqrl_lightning.envs.packing import PackedSpace
from seqrl_lightning.types import Array, BoolArray, FloatArray, IntArray, one_line

P = ParamSpec("P")
T = TypeVar("T")

MAX_REWARD = float(np.finfo(np.float32).max)
"""The largest reward: the replay memory keeps rewards in float32."""


class Shown(NamedTuple):
    """The observations of N environments after a reset or a step, and what the task states about them."""

    observation: Array  # [N, *obs], of the stored dtype
    action_mask: BoolArray | None  # [N, A], true where an action is allowed; None while the task has forbidden nothing
    block: IntArray | None  # [N], the block whose rule holds; None while the task has stated none
    correct_action: IntArray | None  # [N], -1 where none is known; None while the task has stated none


class Outcome(NamedTuple):
    """The outcome of a step of N environments."""

    shown: Shown
    reward: FloatArray  # [N], to learn from
    task_reward: FloatArray  # [N], the task's own, before any wrapper
    terminated: BoolArray  # [N]
    truncated: BoolArray  # [N]


class Border(ABC):
    """N environments that reset in the step after an episode's end (Gymnasium's next-step autoreset).

    Args:
        space: The space of one observation, of the stored dtype.
        n_actions: Number of actions, A.
        num_envs: N.

    Attributes:
        observation_space: The space of one observation.
        check_bounds: Whether finite values outside the observation space's bounds are faults.
        tells_correct_action: Whether the task states a right action, so that -1 marks steps in which it states
            none. The datamodule may set it before the task's first statement.
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
        self._has_masks = self.tells_correct_action = False
        self._block: IntArray | None = None  # stated last

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Shown:
        """Start an episode in every environment.

        Args:
            seed: Environment i is seeded with ``seed + i``; None continues its random stream.
            options: The environments' options.

        Raises:
            EnvFault: If one of them raises, or shows a value that isn't allowed.
        """
        self.seed, self.num_steps = seed or 0, 0
        return self._guarded(self._reset, seed, options)

    def step(self, action: IntArray) -> Outcome:
        """Act in every environment ([N] int64). One whose episode has ended starts the next episode instead.

        Raises:
            EnvFault: If one of them raises, or shows a value that isn't allowed.
        """
        self.num_steps += 1
        return self._guarded(self._step, action)

    def _guarded(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function of the environments, and turn whatever it raises into an ``EnvFault``."""
        try:
            return function(*args, **kwargs)
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
        """Continue from a step that showed ``shown``: note the block, and whether masks and right actions are stated.

        Args:
            shown: What the environments show.
            has_ended: [N] bool, whether that step ended the episode.
        """
        self._has_masks = shown.action_mask is not None
        self.tells_correct_action |= shown.correct_action is not None
        self._block = shown.block

    @abstractmethod
    def close(self) -> None:
        """Close the environments. Raises the error that one of them raises."""

    @property
    def steps_in_processes(self) -> bool:
        """Whether each environment has its own process, so that it can step while this process does other work."""
        return False

    def start_step(self, action: IntArray) -> None:
        """Start a step of environments in processes of their own. Raise as :meth:`step` does."""
        raise NotImplementedError("only environments in their own processes step while this one does other work")

    def finish_step(self) -> Outcome:
        """Wait for the step that ``start_step`` started. Raise as :meth:`step` does."""
        raise NotImplementedError("no step was started")

    def fault_of(self, error: BaseException) -> EnvFault:
        """Return the fault that an error describes: which environment raised it, or which one's process is dead."""
        if isinstance(error, SystemExit):
            error = exit_refused(error)
        reason, env = one_line(error), None
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
        is_good = np.abs(reward) <= MAX_REWARD  # neither NaN nor infinite
        if np.count_nonzero(is_good) < self.num_envs:  # several times as fast as all()
            env = first_faulty(is_good)
            raise EnvFault(env, f"the reward is {reward[env]}; it must be a number that float32 can hold")

    def _completed(self, mask: BoolArray, ended: BoolArray | None) -> BoolArray:
        """Return a mask [N, A] that allows everything where an episode has ended, if it allowed nothing there."""
        self._has_masks = True
        is_stuck = ~mask.any(1)
        if np.count_nonzero(is_stuck):
            is_faulty = is_stuck if ended is None else is_stuck & ~ended
            if np.count_nonzero(is_faulty):
                env = int(np.flatnonzero(is_faulty)[0])
                raise EnvFault(env, "info['action_mask'] allows no action, and the episode continues")
            mask[is_stuck] = True
        return mask

    def _all_allowed(self) -> BoolArray | None:
        """Return the mask of a step without one, which allows everything; None while the task has stated no mask."""
        return np.ones((self.num_envs, self.n_actions), np.bool_) if self._has_masks else None


def first_faulty(is_good: BoolArray) -> int:
    """Return the first environment with a bad value, from flags [N, ...] of good ones."""
    return int(np.flatnonzero(~is_good.reshape(len(is_good), -1).all(1))[0])
