"""The replay memory: a time-major ring in which every observation is stored once."""

import os
import uuid
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqrl_lightning.types import Array, BoolArray, FloatArray, IntArray, TransitionBatch, require

_COLUMNS = ("observation", "action", "reward", "terminated", "truncated", "is_final", "action_mask")
_COUNTERS = ("head", "num_full_rows", "num_added")


class RingBuffer:
    """The newest transitions of ``num_envs`` environments, as preallocated columns ``[num_rows, num_envs, ...]``.

    Row t holds each environment's observation, the action taken in it and what came of that: so the next
    observation of row t is the observation of row t + 1, and nothing is stored twice. This is the order in which
    Gymnasium's vector environments speak under ``AutoresetMode.NEXT_STEP``:

    - the row after an episode's end holds its final observation (``is_final``), from which a truncated episode
      bootstraps. The action of that row was ignored, its "transition" leads into the next episode: it is no
      transition and is never sampled.
    - the head is the row that is being filled: it holds the current observation, and its action is still to come.

    A slot is one environment's entry in one row, and its index is ``row * num_envs + env``.

    Args:
        capacity: How many slots are kept, over all environments (final observations take up slots too).
        num_envs: Number of environments that are stored side by side.
        obs_shape: Shape of one observation.
        obs_dtype: NumPy dtype of the observations.
        mmap_dir: A folder for the observations, as a memory-mapped file that can be larger than memory; None keeps
            them in memory.
        frame_stack: k > 1 if observations are stacks [k, ...] of the last k frames: each frame is then stored once.
        num_masked_actions: For tasks that allow some actions only: how many actions there are. 0: no masks are kept.

    Attributes:
        num_added: Rows that were ever completed.
        num_processes: How many processes fill rings side by side; what follows all env steps counts with it.
        awaits_next_action: Whether a transition is one only when the action in its next state is known too (SARSA).

    Raises:
        ConfigurationError: If there is room for fewer than two rows.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        obs_shape: tuple[int, ...],
        obs_dtype: str,
        mmap_dir: str | None = None,
        num_masked_actions: int = 0,
        frame_stack: int = 1,
    ) -> None:
        require(
            capacity >= 2 * num_envs,
            "data.capacity",
            capacity,
            f"at least 2 * data.num_envs = {2 * num_envs}",
        )
        self.num_envs = num_envs
        self.frame_stack = frame_stack
        self._max_full_rows = capacity // num_envs
        # The head is no stored transition; a stack's older frames are needed for as long as the stack.
        self.num_rows = self._max_full_rows + frame_stack
        rows = (self.num_rows, num_envs)
        frame_shape = obs_shape if frame_stack == 1 else obs_shape[1:]
        self.observation: Array | Tensor = _zeros((*rows, *frame_shape), obs_dtype, mmap_dir)
        self.action: IntArray = np.zeros(rows, np.int64)
        self.reward: FloatArray = np.zeros(rows, np.float32)
        self.terminated: BoolArray = np.zeros(rows, np.bool_)
        self.truncated: BoolArray = np.zeros(rows, np.bool_)
        self.is_final: BoolArray = np.zeros(rows, np.bool_)
        self.is_final[-1] = True  # no episode goes on from what is before the first row
        self.action_mask: BoolArray = np.ones((*rows, num_masked_actions), np.bool_)
        self.num_processes = 1
        self.awaits_next_action = False
        self.head = 0
        self.num_added = 0
        self.num_full_rows = 0  # rows behind the head
        # The same memory with one index: what a batch is taken from.
        columns = (self.action, self.reward, self.terminated, self.is_final, self.action_mask)
        self._flat: list[Array] = [column.reshape(rows[0] * rows[1], *column.shape[2:]) for column in columns]
        self._is_final_flat: BoolArray = self._flat[3]
        self._frames: Array | Tensor = self.observation.reshape(rows[0] * rows[1], *frame_shape)

    @property
    def num_slots(self) -> int:
        """How many slots hold something that can be looked at: transitions and final observations."""
        return self.num_full_rows * self.num_envs

    @property
    def is_full(self) -> bool:
        """Whether the oldest row is overwritten by the next one."""
        return self.num_added >= self.num_rows - 1

    @property
    def fill(self) -> float:
        """The part of the capacity that is in use, in [0, 1]."""
        return self.num_full_rows / self._max_full_rows

    def restart(self, observation: Array, action_mask: BoolArray | None = None) -> None:
        """Begins new episodes in all environments, whatever came before.

        Args:
            observation: [num_envs, *obs] the first observations.
            action_mask: [num_envs, A] the actions that they allow, where masks are kept.
        """
        if self.num_full_rows:  # the old episodes end here, unfinished: their last observation stays behind as final
            self.is_final[self.head] = True
            self._advance()
        self._store(observation)
        self.is_final[self.head] = False
        if action_mask is not None:
            self.action_mask[self.head] = action_mask

    def drop(self, env: int, length: int) -> int:
        """Forgets an environment's newest steps, whose episode broke: none of them is a transition any more.

        Args:
            env: The environment.
            length: Steps; no more are forgotten than there are.

        Returns:
            How many were forgotten.
        """
        length = min(length, self.num_full_rows)
        self.is_final[(self.head - np.arange(length + 1)) % self.num_rows, env] = True
        return length

    def add(
        self,
        action: IntArray,
        reward: FloatArray,
        terminated: BoolArray,
        truncated: BoolArray,
        next_observation: Array,
        next_action_mask: BoolArray | None = None,
    ) -> None:
        """Completes the head with one step of all environments and moves on to the next row.

        Args:
            action: [num_envs] int64, taken in the head's observations.
            reward: [num_envs] float.
            terminated: [num_envs] bool.
            truncated: [num_envs] bool.
            next_observation: [num_envs, *obs] what the environments showed next.
            next_action_mask: [num_envs, A] the actions that it allows, where masks are kept.
        """
        row = self.head
        self.action[row] = action
        self.reward[row] = reward
        self.terminated[row] = terminated
        self.truncated[row] = truncated
        self._advance()
        self._store(next_observation)
        np.logical_or(terminated, truncated, out=self.is_final[self.head])
        if next_action_mask is not None:
            self.action_mask[self.head] = next_action_mask

    def _advance(self) -> None:
        self.head = (self.head + 1) % self.num_rows
        self.num_full_rows = min(self.num_full_rows + 1, self._max_full_rows)
        self.num_added += 1

    def _store(self, observation: Array) -> None:
        newest_frame = observation if self.frame_stack == 1 else observation[:, -1]
        if isinstance(self.observation, Tensor):
            self.observation[self.head].copy_(torch.from_numpy(newest_frame))
        else:
            self.observation[self.head] = newest_frame

    def move_observations(self, device: torch.device) -> None:
        """Keeps the observations, by far the largest column, on a device from here on, where batches are taken from.

        What is small stays where the agent and the samplers look at it.
        """
        self.observation = torch.as_tensor(self.observation).to(device)
        self._frames = self.observation.view(-1, *self.observation.shape[2:])

    def observations(self, slots: IntArray) -> Tensor:
        """Copies out the observations of ``slots`` ([...] int64, modulo the ring's size): [..., *obs].

        A stack of frames is put together from the slots before, as far as the episode goes; where it begins, its first
        frame is repeated (as Gymnasium's ``FrameStackObservation`` does).
        """
        if self.frame_stack > 1:
            stack = [slots]
            for _ in range(self.frame_stack - 1):
                before = (stack[-1] - self.num_envs) % len(self._frames)
                stack.append(np.where(self._is_final_flat[before], stack[-1], before))
            slots = np.stack(stack[::-1], axis=slots.ndim)
        if not isinstance(self._frames, Tensor):
            return torch.from_numpy(self._frames.take(slots, 0, mode="wrap"))
        index = torch.from_numpy(slots.reshape(-1) % len(self._frames)).to(self._frames.device, non_blocking=True)
        return self._frames.index_select(0, index).view(*slots.shape, *self._frames.shape[1:])

    def slots(self, age: IntArray) -> IntArray:
        """The indices of the slots that were stored ``age`` slots before the head's, 1 being the newest."""
        return (self.head * self.num_envs - age) % (self.num_rows * self.num_envs)

    def is_transition(self, slots: IntArray) -> BoolArray:
        """Which of the slots hold a transition, rather than an episode's final observation."""
        is_transition: BoolArray = ~self._is_final_flat[slots]
        if self.awaits_next_action:
            is_transition &= slots != self._open_slots()[slots % self.num_envs]
        return is_transition

    def is_final_at(self, slots: IntArray) -> BoolArray:
        """Which of the slots hold an episode's final observation."""
        return self._is_final_flat[slots]

    def lost_slots(self, margin: int = 0) -> IntArray:
        """The slots that hold nothing any more: the head's, those of stacks whose frames are being overwritten.

        Args:
            margin: So many rows after them too.
        """
        rows = (self.head + np.arange(self.frame_stack + margin)) % self.num_rows
        return (rows[:, None] * self.num_envs + np.arange(self.num_envs)).reshape(-1)

    def _open_slots(self) -> IntArray:
        """The slot of each environment at which looking ahead has to stop: [num_envs] int64.

        It is the head's. While actions are awaited, it is the one before, unless an episode ended with that one: the
        head's action isn't known yet.
        """
        env = np.arange(self.num_envs)
        if not self.awaits_next_action:
            return self.head * self.num_envs + env
        row = np.where(self.is_final[self.head], self.head, (self.head - 1) % self.num_rows)
        return row * self.num_envs + env

    def transitions(self, slots: IntArray, n_step: int = 1) -> TransitionBatch:
        """Copies out the transitions of ``slots`` ([B] int64) as a batch with T = 1.

        With ``n_step`` n > 1 a transition leads n steps ahead, or to the end of its episode, or to the newest
        observation, whichever comes first (Sutton and Barto, section 7.1).
        """
        action, reward, terminated, _, action_mask = self._flat
        if n_step == 1:
            rewards, num_steps, last_slots = reward.take(slots)[:, None], None, slots
        else:
            rewards, steps, last_slots = self._look_ahead(slots, n_step)
            num_steps = torch.from_numpy(steps[None])
        next_slots = (last_slots + self.num_envs) % (self.num_rows * self.num_envs)
        batch = TransitionBatch(
            state_batch=self.observations(slots)[None],
            action_batch=torch.from_numpy(action.take(slots)[None]),
            reward_batch=torch.from_numpy(rewards[None]),
            next_state_batch=self.observations(next_slots)[None],
            terminated_batch=torch.from_numpy(terminated.take(last_slots)[None]),
            num_steps_batch=num_steps,
        )
        if self.awaits_next_action:
            next_action = np.where(self._is_final_flat[next_slots], -1, action.take(next_slots))
            batch = batch._replace(next_action_batch=torch.from_numpy(next_action[None]))
        if action_mask.shape[1]:
            masks = (torch.from_numpy(action_mask.take(which, 0)[None]) for which in (slots, next_slots))
            batch = batch._replace(action_mask_batch=next(masks), next_action_mask_batch=next(masks))
        return batch

    def _look_ahead(self, slots: IntArray, n_step: int) -> tuple[FloatArray, IntArray, IntArray]:
        """The rewards [B, n] from each slot on, how many count [B], and the slot of the last that does [B]."""
        path = (slots + self.num_envs * np.arange(n_step)[:, None]) % (self.num_rows * self.num_envs)
        stops = self._is_final_flat[path] | (path == self._open_slots()[slots % self.num_envs])
        counts = np.logical_and.accumulate(~stops, axis=0)
        num_steps = np.count_nonzero(counts, axis=0)
        rewards = self._flat[1].take(path) * counts
        return np.ascontiguousarray(rewards.T), num_steps, path[num_steps - 1, np.arange(len(slots))]

    def latest_rows(self, num_rows: int) -> TransitionBatch:
        """Copies out the newest ``num_rows`` rows of all environments, as windows."""
        oldest, second_oldest = num_rows * self.num_envs, (num_rows - 1) * self.num_envs
        return self.windows(self.slots(np.arange(oldest, second_oldest, -1)), num_rows)

    def windows(self, first_slots: IntArray, length: int, n_step: int = 1, burn_in: int = 0) -> TransitionBatch:
        """Copies out windows of consecutive rows, each of one environment, as a batch with T = ``length``.

        ``weight_batch`` is 0 where there is nothing to learn from: in rows that hold an episode's final observation,
        and from the head on. Returns over several steps end with their window at the latest.

        Args:
            first_slots: [B] int64, where the windows start.
            length: T, how many rows to learn from.
            n_step: Steps that a transition leads ahead.
            burn_in: Rows before the window, for the network's state.
        """
        path = first_slots + self.num_envs * np.arange(-burn_in - 1, length + 1)[:, None]  # runs on past the ring's end
        is_final = self._is_final_flat.take(path, mode="wrap")
        is_first = torch.from_numpy(is_final[:-1])
        observation = self.observations(path[1:])
        path, is_final = path[burn_in + 1 :], is_final[burn_in + 1 :]
        num_written = (self.head - first_slots // self.num_envs) % self.num_rows  # rows, from the window's first on
        is_written = np.arange(length)[:, None] < num_written
        is_transition = torch.from_numpy(is_written & ~is_final[:-1])
        action, reward, terminated, _, action_mask = self._flat
        action, reward, terminated = (column.take(path[:-1], mode="wrap") for column in (action, reward, terminated))
        batch = TransitionBatch(
            state_batch=observation[burn_in:-1],
            action_batch=torch.from_numpy(action),
            reward_batch=torch.from_numpy(reward).unsqueeze(-1),
            next_state_batch=observation[burn_in + 1 :],
            terminated_batch=torch.from_numpy(terminated),
            weight_batch=is_transition.float(),
            is_first_batch=is_first[burn_in:],
        )
        if burn_in:
            prefix = observation[:burn_in], is_first[:burn_in]
            batch = batch._replace(burn_in_state_batch=prefix[0], burn_in_is_first_batch=prefix[1])
        if action_mask.shape[1]:
            masks = torch.from_numpy(action_mask.take(path, 0, mode="wrap"))
            batch = batch._replace(action_mask_batch=masks[:-1], next_action_mask_batch=masks[1:])
        return batch if n_step == 1 else _with_n_steps(batch, is_transition, n_step)

    def state_dict(self) -> dict[str, Any]:
        """Copies of the rows in use, as tensors, and where the head is."""
        used = min(self.num_added + 1, self.num_rows)  # until the ring is full the head is behind all that was added
        columns = {name: torch.as_tensor(getattr(self, name)[:used]).to("cpu", copy=True) for name in _COLUMNS}
        counters = {name: getattr(self, name) for name in _COUNTERS}
        return {**columns, **counters, "num_rows": self.num_rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the state of a ring of the same size.

        Raises:
            ConfigurationError: If that ring had another size.
        """
        used, num_envs = state_dict["action"].shape
        stack = self.frame_stack
        capacity, saved_capacity = ((rows - stack) * num_envs for rows in (self.num_rows, state_dict["num_rows"]))
        require(num_envs == self.num_envs, "data.num_envs", self.num_envs, f"the checkpoint's {num_envs}")
        require(capacity == saved_capacity, "data.capacity", capacity, f"the checkpoint's {saved_capacity}")
        for name in _COLUMNS:
            torch.as_tensor(getattr(self, name))[:used].copy_(state_dict[name])
        for name in _COUNTERS:
            setattr(self, name, state_dict[name])


def _with_n_steps(batch: TransitionBatch, is_transition: Tensor, n_step: int) -> TransitionBatch:
    """The same windows with transitions that lead up to ``n_step`` rows ahead, within their episode and window."""
    length, batch_size = is_transition.shape
    row = torch.arange(length)[:, None]
    rewards = batch.reward_batch.new_zeros(length, batch_size, n_step)
    num_steps = torch.zeros(length, batch_size, dtype=torch.int64)
    goes_on = torch.ones(length, batch_size, dtype=torch.bool)
    for k in range(n_step):
        there = (row + k).clamp(max=length - 1).expand(length, batch_size)
        goes_on = goes_on & (row + k < length) & is_transition.gather(0, there)
        rewards[..., k] = batch.reward_batch.squeeze(-1).gather(0, there) * goes_on
        num_steps += goes_on
    num_steps.clamp_(min=1)  # of what is no transition
    last = row + num_steps - 1
    return batch._replace(
        reward_batch=rewards, num_steps_batch=num_steps, terminated_batch=batch.terminated_batch.gather(0, last)
    )


def _zeros(shape: tuple[int, ...], dtype: str, mmap_dir: str | None) -> Array:
    if mmap_dir is None:
        return np.zeros(shape, dtype)
    Path(mmap_dir).mkdir(parents=True, exist_ok=True)
    # A name of its own for each process; the system gives the space back when the file is deleted.
    path = Path(mmap_dir) / f"observation_{os.getpid()}_{uuid.uuid4().hex[:8]}.npy"
    mapped: Array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    weakref.finalize(mapped.base, path.unlink, missing_ok=True)
    return mapped
