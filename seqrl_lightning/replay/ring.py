"""The replay memory: batches gathered from a time-major ring in which every observation is stored once."""

import numpy as np
import torch
from torch import Tensor

from seqrl_lightning.batches import Transitions, Windows
from seqrl_lightning.replay.rows import Rows
from seqrl_lightning.types import BoolArray, FloatArray, IntArray


class RingBuffer(Rows):
    """The newest transitions of several environments, and the batches that are gathered from them; see :class:`Rows`.

    A next observation is read from a row below, so batches are index arithmetic.
    """

    def observations(self, slots: IntArray) -> Tensor:
        """Copy the observations of ``slots`` ([...] int64, modulo the ring's size): [..., *obs].

        A stack of frames is gathered from the slots before, as far back as the episode goes. At an episode's start its
        first frame is repeated, as in Gymnasium's ``FrameStackObservation``.
        """
        if self.frame_stack > 1:
            stack = [slots]
            for _ in range(self.frame_stack - 1):
                before = (stack[-1] - self.num_envs) % len(self._frames)
                stack.append(np.where(self._by_slot.is_final[before], stack[-1], before))
            slots = np.stack(stack[::-1], axis=slots.ndim)
        if not isinstance(self._frames, Tensor):
            return torch.from_numpy(self._frames.take(slots, 0, mode="wrap"))
        index = torch.from_numpy(slots.reshape(-1) % len(self._frames)).to(self._frames.device, non_blocking=True)
        return self._frames.index_select(0, index).view(*slots.shape, *self._frames.shape[1:])

    def transitions(self, slots: IntArray, n_step: int = 1, next_actions: bool = False) -> Transitions:
        """Copy the transitions of ``slots`` ([B] int64).

        With ``n_step`` n > 1 a transition leads n steps ahead, or to the end of its episode, or to the newest
        observation, whichever comes first (Sutton and Barto, section 7.1).

        Args:
            slots: [B] int64.
            n_step: The largest number of steps that a transition leads ahead.
            next_actions: Whether the batch holds the actions taken in the next states.
        """
        action, reward, terminated, _, action_mask = self._by_slot
        if n_step == 1:
            rewards, num_steps, last_slots = reward.take(slots)[:, None], None, slots
        else:
            rewards, steps, last_slots = self._look_ahead(slots, n_step, next_actions)
            num_steps = torch.from_numpy(steps[None])
        next_slots = (last_slots + self.num_envs) % (self.num_rows * self.num_envs)
        batch = Transitions(
            state_batch=self.observations(slots)[None],
            action_batch=torch.from_numpy(action.take(slots)[None]),
            reward_batch=torch.from_numpy(rewards[None]),
            next_state_batch=self.observations(next_slots)[None],
            terminated_batch=torch.from_numpy(terminated.take(last_slots)[None]),
            num_steps_batch=num_steps,
        )
        if next_actions:
            next_action = np.where(self._by_slot.is_final[next_slots], -1, action.take(next_slots))
            batch = batch._replace(next_action_batch=torch.from_numpy(next_action[None]))
        if action_mask.shape[1]:
            masks = (torch.from_numpy(action_mask.take(which, 0)[None]) for which in (slots, next_slots))
            batch = batch._replace(action_mask_batch=next(masks), next_action_mask_batch=next(masks))
        return batch

    def _look_ahead(self, slots: IntArray, n_step: int, next_actions: bool) -> tuple[FloatArray, IntArray, IntArray]:
        """Return the rewards [B, n] from each slot on, the number that count [B], and the last slot that counts [B]."""
        path = (slots + self.num_envs * np.arange(n_step)[:, None]) % (self.num_rows * self.num_envs)
        stops = self._by_slot.is_final[path] | (path == self._open_slots(next_actions)[slots % self.num_envs])
        counts = np.logical_and.accumulate(~stops, axis=0)
        num_steps = np.count_nonzero(counts, axis=0)
        rewards = self._by_slot.reward.take(path) * counts
        return np.ascontiguousarray(rewards.T), num_steps, path[num_steps - 1, np.arange(len(slots))]

    def latest_rows(self, num_rows: int, next_actions: bool = False) -> Windows:
        """Copy the newest ``num_rows`` rows of all environments, as :meth:`windows` does."""
        oldest, second_oldest = num_rows * self.num_envs, (num_rows - 1) * self.num_envs
        first_slots = self.slots(np.arange(oldest, second_oldest, -1))
        return self.windows(first_slots, num_rows, next_actions=next_actions)

    def windows(
        self, first_slots: IntArray, length: int, n_step: int = 1, burn_in: int = 0, next_actions: bool = False
    ) -> Windows:
        """Copy windows of consecutive rows, each of one environment.

        Rows with an episode's final observation have no weight, and neither do the head and the rows after it. Returns
        over several steps end with their window at the latest.

        Args:
            first_slots: [B] int64, the first rows to learn from.
            length: T, the number of rows to learn from.
            n_step: The largest number of steps that a transition leads ahead.
            burn_in: P, the number of rows before the window that bring the network's state up to date.
            next_actions: Whether the batch holds the actions taken in the next states.
        """
        # Row i of what follows is row i - P - 1 of the window: from the one before the burn-in to the one after the
        # window. Slots may run past the ring's end.
        path = first_slots + self.num_envs * np.arange(-burn_in - 1, length + 1)[:, None]
        action = self._by_slot.action.take(path, mode="wrap")
        reward = self._by_slot.reward.take(path, mode="wrap")
        terminated = self._by_slot.terminated.take(path, mode="wrap")
        is_final = self._by_slot.is_final.take(path, mode="wrap")
        is_first, learned = is_final[:-1], slice(burn_in + 1, -1)
        num_complete = (self._open_slots(next_actions)[first_slots % self.num_envs] - first_slots) // self.num_envs
        is_complete = np.arange(length)[:, None] < num_complete % self.num_rows
        is_transition = is_complete & ~is_final[learned]
        rewards, num_steps, terminated = _look_ahead_in_window(
            reward[learned], terminated[learned], is_transition, n_step
        )
        batch = Windows(
            observation=self.observations(path[1:]),
            is_first=torch.from_numpy(is_first),
            previous_action=torch.from_numpy(np.where(is_first, -1, action[:-1])),
            previous_reward=torch.from_numpy(np.where(is_first, np.float32(0.0), reward[:-1])),
            action_batch=torch.from_numpy(action[learned]),
            reward_batch=torch.from_numpy(rewards),
            terminated_batch=torch.from_numpy(terminated),
            weight_batch=torch.from_numpy(is_transition.astype(np.float32)),
            num_steps_batch=None if num_steps is None else torch.from_numpy(num_steps),
        )
        if next_actions:
            next_row = np.arange(burn_in + 1, burn_in + 1 + length)[:, None] + (1 if num_steps is None else num_steps)
            next_row = np.broadcast_to(next_row, is_transition.shape)
            ended, taken = (np.take_along_axis(column, next_row, 0) for column in (is_final, action))
            batch = batch._replace(next_action_batch=torch.from_numpy(np.where(ended, -1, taken)))
        if self.action_mask.shape[2]:
            mask = self._by_slot.action_mask.take(path[burn_in + 1 :], 0, mode="wrap")
            batch = batch._replace(action_mask=torch.from_numpy(mask))
        return batch


def _look_ahead_in_window(
    reward: FloatArray, terminated: BoolArray, is_transition: BoolArray, n_step: int
) -> tuple[FloatArray, IntArray | None, BoolArray]:
    """Extend the one-step transitions of a window to up to ``n_step`` steps, within their episode and window.

    Args:
        reward: [T, B] float32.
        terminated: [T, B] bool.
        is_transition: [T, B] bool, false where no transition starts.
        n_step: The largest number of steps that a transition leads ahead.

    Returns:
        The rewards [T, B, n], how many of them count [T, B] (None: one), and whether the last one's step terminated
        the episode [T, B].
    """
    if n_step == 1:
        return reward[..., None], None, terminated
    length = len(reward)
    rewards = np.zeros((*reward.shape, n_step), np.float32)
    num_steps = np.zeros(reward.shape, np.int64)
    goes_on = is_transition.copy()
    for k in range(min(n_step, length)):
        goes_on[: length - k] &= is_transition[k:]
        goes_on[length - k :] = False
        rewards[: length - k, :, k] = reward[k:] * goes_on[: length - k]
        num_steps += goes_on
    num_steps = np.maximum(num_steps, 1)  # of a row that holds no transition
    last_row = np.arange(length)[:, None] + num_steps - 1
    return rewards, num_steps, np.take_along_axis(terminated, last_row, 0)
