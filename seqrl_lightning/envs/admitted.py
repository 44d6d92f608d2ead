"""A single environment at the border: whatever Gymnasium allows it to return becomes the package's own types."""

import copy
from typing import Any

import gymnasium as gym
from gymnasium.core import RenderFrame

from seqrl_lightning.envs.faults import EnvValueError, close_quietly, exit_refused, short
from seqrl_lightning.envs.followed_blocks import FollowsBlocks, num_blocks_of
from seqrl_lightning.envs.infos import ACTION_MASK, BLOCK, CORRECT_ACTION, TASK_REWARD, as_int, as_mask
from seqrl_lightning.envs.state import arrays, env_state, plain, set_env_state
from seqrl_lightning.envs.task_reward import TaskReward
from seqrl_lightning.envs.values import as_flag, as_reward, own_observation, stored_space
from seqrl_lightning.saved_state import saved
from seqrl_lightning.types import Array


class AdmittedEnv(gym.Wrapper[Array, Any, Any, Any]):
    """Turn what an environment returns into arrays and numbers that the package owns, or refuse it in one line.

    - Observations, of any type that NumPy takes, become arrays of the space's dtype and shape, in separate memory.
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
            result = self.env.reset(seed=seed, options=copy.deepcopy(options))  # a task may change its arguments
        except SystemExit as error:
            raise exit_refused(error) from error
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise EnvValueError(f"reset() returned {short(result)}; it must return (observation, info)")
        if self._task_reward is not None:
            self._task_reward.take()  # of steps that a wrapper took to start the episode
        return own_observation(result[0], self.space, self._shape), self._own_info(result[1])

    def step(self, action: object) -> tuple[Array, float, bool, bool, dict[str, Any]]:
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

    def render(self) -> RenderFrame | list[RenderFrame] | None:
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

    def step(self, action: object) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Take a step, or start the next episode if the last step ended one. Raise as :meth:`AdmittedEnv.step` does."""
        if self._ended:
            observation, info = self.reset()
            return observation, 0.0, False, False, info
        self.failed = True
        result = super().step(action)
        self.failed = False
        self._ended = result[2] or result[3]
        return result

    def close(self) -> None:
        """Close the environment, and turn its errors into warnings, so that the others are closed too."""
        close_quietly(self.env)

    @property
    def tracked_state(self) -> dict[str, Any] | None:
        """The environment's state, without tensors; None if it is unknown. Setting it restores the environment."""
        state = env_state(self.env)
        return None if state is None else {"ended": self._ended, **arrays(state)}

    @tracked_state.setter
    def tracked_state(self, state: dict[str, Any]) -> None:
        self._ended = saved(state.get("ended"), bool, "whether the episode has ended")
        set_env_state(self.env, plain(state))

    @property
    def next_block(self) -> int | None:
        """The block of the episodes that start from now on; None if the task counts its own episodes."""
        task = self.unwrapped
        return task.next_block if isinstance(task, FollowsBlocks) else None

    @next_block.setter
    def next_block(self, block: int) -> None:
        task = self.unwrapped
        assert isinstance(task, FollowsBlocks)
        task.next_block = block
