"""The border of several environments side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.spaces import Discrete
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from seqrl_lightning.envs.admitted import VectorizedEnv
from seqrl_lightning.envs.border import Border, Outcome, Shown, first_faulty
from seqrl_lightning.envs.cartpole_no_vel import CartPoleNoVelVectorEnv
from seqrl_lightning.envs.faults import EnvFault
from seqrl_lightning.envs.followed_blocks import FollowsBlocks, num_blocks_of
from seqrl_lightning.envs.infos import (
    BLOCK,
    CORRECT_ACTION,
    TASK_REWARD,
    as_int,
    as_mask,
    masks_per_env,
    own_infos,
    values_per_env,
)
from seqrl_lightning.envs.reward_wrappers import RewardFunction
from seqrl_lightning.envs.state import arrays, env_state, plain, set_env_state
from seqrl_lightning.envs.values import as_array, as_flag, as_reward, own_observation, stored_space
from seqrl_lightning.envs.vector import TaskVectorEnv
from seqrl_lightning.saved_state import require_saved, saved
from seqrl_lightning.types import Array, BoolArray, IntArray

_ANY_NUMBER = np.iinfo(np.int64).max
# Vectorized implementations that return new arrays of the right types in each step, so that nothing has to be checked.
_KNOWN = (TaskVectorEnv, CartPoleNoVelVectorEnv, CartPoleVectorEnv)


class VectorBorder(Border):
    """Several environments side by side, or a task that exists vectorized only.

    Args:
        envs: Single environments, each a :class:`VectorizedEnv`, or a task's own vectorized implementation.
        is_native: Whether they are a task's own: its infos and its state are what the task makes of them, even where it
            is made of Gymnasium's vector environments.
        reward_functions: Change the task's own rewards, [N], to those that are learned from, the innermost first.

    Attributes:
        envs: The environments.
    """

    def __init__(
        self, envs: VectorEnv[Any, Any, Any], is_native: bool, reward_functions: Sequence[RewardFunction] = ()
    ) -> None:
        assert isinstance(envs.single_action_space, Discrete)
        super().__init__(stored_space(envs.single_observation_space), int(envs.single_action_space.n), envs.num_envs)
        self.envs = envs
        self._task = envs.unwrapped
        self._ended = np.zeros(envs.num_envs, np.bool_)
        self._singles = envs if isinstance(envs, SyncVectorEnv | AsyncVectorEnv) and not is_native else None
        self._is_known = type(envs) in _KNOWN and not reward_functions
        self._reward_functions = reward_functions
        # Single environments know their number of blocks.
        self._num_blocks = num_blocks_of(self._task) if self._singles is None else _ANY_NUMBER

    @property
    def steps_in_processes(self) -> bool:
        """Whether each environment has its own process."""
        return isinstance(self._singles, AsyncVectorEnv)

    def remember(self, shown: Shown, has_ended: BoolArray) -> None:
        """Continue from a step that showed ``shown``; see :meth:`Border.remember`."""
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
        self, observation: object, reward: object, terminated: object, truncated: object, infos: dict[str, Any]
    ) -> Outcome:
        own_terminated = self._own_column(terminated, np.bool_, "terminated")
        own_truncated = self._own_column(truncated, np.bool_, "truncated")
        ended, restarting = own_terminated | own_truncated, self._ended
        self._require_episodes(ended)
        shown = self._shown(observation, infos, ended, own_terminated)
        own_reward = task_reward = self._own_column(reward, np.float64, "the reward")
        is_reset = restarting if self._singles is None and np.count_nonzero(restarting) else None
        if is_reset is not None:
            task_reward[is_reset] = 0.0  # a reset earns nothing
        self._require_rewards(task_reward)
        if self._reward_functions:
            for change in self._reward_functions:
                own_reward = change(own_reward)
            own_reward = own_reward if is_reset is None else np.where(is_reset, 0.0, own_reward)
            self._require_rewards(own_reward)
        if self._singles is not None and TASK_REWARD in infos:  # a native environment's key means something else
            task_reward = infos[TASK_REWARD]
            self._require_rewards(task_reward)
        return Outcome(shown, own_reward, task_reward, own_terminated, own_truncated)

    def _own_column(self, values: object, dtype: type, name: str) -> Array:
        if type(values) is np.ndarray and values.dtype == dtype and values.shape == (self.num_envs,):
            return values.copy()
        column = as_array(values, name)
        if column.dtype == object and column.shape == (self.num_envs,):
            column = np.array([as_flag(value, name) if dtype is np.bool_ else as_reward(value) for value in column])
        if column.shape != (self.num_envs,) or column.dtype.kind not in "biuf":
            must_be = f"{self.num_envs} numbers, one for each environment"
            raise EnvFault(None, f"{name} is {column.dtype}{column.shape}; it must be {must_be}")
        own: Array = column.astype(dtype)
        if dtype is np.bool_ and np.count_nonzero(own != column):
            raise EnvFault(first_faulty(own == column), f"{name} is {column}; it must be True or False")
        return own

    def _require_episodes(self, ended: BoolArray) -> None:
        """Refuse an environment that ends an episode in the step that only starts it: it would never take a step."""
        is_wrong = ended & self._ended
        if np.count_nonzero(is_wrong):
            reason = "an episode ends in the step after the end of another, which is to start it (autoreset_mode)"
            raise EnvFault(first_faulty(~is_wrong), reason)
        self._ended = ended

    def _shown(
        self,
        observation: object,
        infos: dict[str, Any],
        ended: BoolArray | None = None,
        terminated: BoolArray | None = None,
    ) -> Shown:
        own = own_observation(observation, self.observation_space, self._shape)
        self._require_in_space(own)
        infos, mask = own_infos(infos), self._all_allowed()
        if (masks := masks_per_env(infos, self.num_envs)) is not None:
            mask = self._completed(self._own_masks(*masks, terminated), ended)
        block = self._labels(infos, BLOCK, self._num_blocks)
        if block is not None and np.count_nonzero(block < 0):
            block = np.where(block < 0, 0 if self._block is None else self._block, block)
        self._block = self._block if block is None else block
        correct_action = self._labels(infos, CORRECT_ACTION, self.n_actions)
        if correct_action is None and self.tells_correct_action:
            correct_action = np.full(self.num_envs, -1)
        self.tells_correct_action = correct_action is not None
        return Shown(own, mask, self._block, correct_action)

    def _own_masks(self, masks: Sequence[Any] | Array, has_mask: BoolArray, terminated: BoolArray | None) -> BoolArray:
        """Return what each environment allows, [N, A]; everything, where it states no mask or its state is terminal."""
        has_mask = has_mask if terminated is None else has_mask & ~terminated
        if isinstance(masks, np.ndarray) and masks.dtype != object and np.count_nonzero(has_mask) == self.num_envs:
            return as_mask(masks, (self.num_envs, self.n_actions))
        mask = np.ones((self.num_envs, self.n_actions), np.bool_)
        for env in np.flatnonzero(has_mask).tolist():
            mask[env] = as_mask(masks[env], (self.n_actions,))
        return mask

    def _labels(self, infos: dict[str, Any], key: str, end: int) -> IntArray | None:
        """Return a label of each environment, [N] in [-1, end); -1 where there is none; None if the key isn't ours."""
        stated = values_per_env(infos, key, self.num_envs)
        if stated is None:
            return None
        labels, is_stated = stated
        if not (isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu"):
            own = [as_int(label, -1, end) for label in labels]
            if all(label is None for label in own):
                return None
            labels = np.array([-1 if label is None else label for label in own])
        is_label = is_stated & (labels >= -1) & (labels < end)
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
            states = saved(state.get("envs"), list[dict], "the environments' states")  # type: ignore[type-arg]  # it checks the dicts' type alone
            require_saved(len(states) == self.num_envs, "the environments' states", len(states), f"{self.num_envs}")
            self._singles.set_attr("tracked_state", [arrays(env_state) for env_state in states])
        else:
            set_env_state(self.envs, state)

    def fault_of(self, error: BaseException) -> EnvFault:
        """Return the fault that an error describes: which environment raised it, or which one's process is dead."""
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
