"""The border of a single environment, without the cost of a vector environment."""

from typing import Any

import numpy as np
from gymnasium.spaces import Discrete

from seqrl_lightning.envs.admitted import VectorizedEnv
from seqrl_lightning.envs.border import MAX_REWARD, Border, Outcome, Shown
from seqrl_lightning.envs.infos import ACTION_MASK, BLOCK, CORRECT_ACTION, TASK_REWARD
from seqrl_lightning.envs.state import arrays, plain
from seqrl_lightning.types import Array, IntArray


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
        if not -MAX_REWARD <= reward <= MAX_REWARD:
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
        if CORRECT_ACTION in info or self.tells_correct_action:
            self.tells_correct_action = True
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
