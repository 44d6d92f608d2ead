"""The replay memory: a time-major ring in which every observation is stored once."""

import os
import uuid
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqrl_lightning.types import Array, BoolArray, FloatArray, IntArray, TransitionBatch, require

_COLUMNS = ("observation", "action", "reward", "terminated", "truncated", "is_final")


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
    ) -> None:
        require(
            capacity >= 2 * num_envs,
            "data.capacity",
            capacity,
            f"at least 2 * data.num_envs = {2 * num_envs}",
        )
        self.num_envs = num_envs
        self.num_rows = capacity // num_envs + 1  # the head is no stored transition
        rows = (self.num_rows, num_envs)
        self.observation: Array = _zeros((*rows, *obs_shape), obs_dtype, mmap_dir)
        self.action: IntArray = np.zeros(rows, np.int64)
        self.reward: FloatArray = np.zeros(rows, np.float32)
        self.terminated: BoolArray = np.zeros(rows, np.bool_)
        self.truncated: BoolArray = np.zeros(rows, np.bool_)
        self.is_final: BoolArray = np.zeros(rows, np.bool_)
        self.head = 0
        self.num_full_rows = 0  # rows behind the head
        # The same memory with one index: what a batch is taken from.
        columns = (self.observation, self.action, self.reward, self.terminated)
        self._flat = [column.reshape(-1, *column.shape[2:]) for column in columns]
        self._is_final_flat = self.is_final.reshape(-1)

    @property
    def num_slots(self) -> int:
        """How many slots hold something that can be looked at: transitions and final observations."""
        return self.num_full_rows * self.num_envs

    @property
    def fill(self) -> float:
        """The part of the capacity that is in use, in [0, 1]."""
        return self.num_full_rows / (self.num_rows - 1)

    def restart(self, observation: Array) -> None:
        """Begins new episodes in all environments, whatever came before.

        Args:
            observation: [num_envs, *obs] the first observations.
        """
        if self.num_full_rows:  # the old episodes end here, unfinished: their last observation stays behind as final
            self.is_final[self.head] = True
            self._advance()
        self.observation[self.head] = observation
        self.is_final[self.head] = False

    def add(
        self,
        action: IntArray,
        reward: FloatArray,
        terminated: BoolArray,
        truncated: BoolArray,
        next_observation: Array,
    ) -> None:
        """Completes the head with one step of all environments and moves on to the next row.

        Args:
            action: [num_envs] int64, taken in the head's observations.
            reward: [num_envs] float.
            terminated: [num_envs] bool.
            truncated: [num_envs] bool.
            next_observation: [num_envs, *obs] what the environments showed next.
        """
        row = self.head
        self.action[row] = action
        self.reward[row] = reward
        self.terminated[row] = terminated
        self.truncated[row] = truncated
        self._advance()
        self.observation[self.head] = next_observation
        np.logical_or(terminated, truncated, out=self.is_final[self.head])

    def _advance(self) -> None:
        self.head = (self.head + 1) % self.num_rows
        self.num_full_rows = min(self.num_full_rows + 1, self.num_rows - 1)

    def slots(self, age: IntArray) -> IntArray:
        """The indices of the slots that were stored ``age`` slots before the head's, 1 being the newest."""
        return (self.head * self.num_envs - age) % (self.num_rows * self.num_envs)

    def is_transition(self, slots: IntArray) -> BoolArray:
        """Which of the slots hold a transition, rather than an episode's final observation."""
        return ~self._is_final_flat[slots]

    def transitions(self, slots: IntArray) -> TransitionBatch:
        """Copies out the transitions of ``slots`` ([B] int64) as a batch with T = 1."""
        next_slots = (slots + self.num_envs) % (self.num_rows * self.num_envs)
        observation, action, reward, terminated = self._flat
        return TransitionBatch(
            state_batch=torch.from_numpy(observation.take(slots, 0)[None]),
            action_batch=torch.from_numpy(action.take(slots)[None]),
            reward_batch=torch.from_numpy(reward.take(slots)[None]),
            next_state_batch=torch.from_numpy(observation.take(next_slots, 0)[None]),
            terminated_batch=torch.from_numpy(terminated.take(slots)[None]),
        )

    def state_dict(self) -> dict[str, Any]:
        """Copies of the rows in use, as tensors, and where the head is."""
        used = self.num_full_rows + 1  # until the ring is full the head is right behind the full rows
        columns = {name: torch.from_numpy(getattr(self, name)[:used].copy()) for name in _COLUMNS}
        return {**columns, "num_rows": self.num_rows, "head": self.head, "num_full_rows": self.num_full_rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the state of a ring of the same size.

        Raises:
            ConfigurationError: If that ring had another size.
        """
        used, num_envs = state_dict["action"].shape
        capacity, saved_capacity = ((rows - 1) * num_envs for rows in (self.num_rows, state_dict["num_rows"]))
        require(num_envs == self.num_envs, "data.num_envs", self.num_envs, f"the checkpoint's {num_envs}")
        require(capacity == saved_capacity, "data.capacity", capacity, f"the checkpoint's {saved_capacity}")
        for name in _COLUMNS:
            getattr(self, name)[:used] = state_dict[name].numpy()
        self.head = state_dict["head"]
        self.num_full_rows = state_dict["num_full_rows"]


def _zeros(shape: tuple[int, ...], dtype: str, mmap_dir: str | None) -> Array:
    if mmap_dir is None:
        return np.zeros(shape, dtype)
    Path(mmap_dir).mkdir(parents=True, exist_ok=True)
    # A name of its own for each process; the system gives the space back when the file is deleted.
    path = Path(mmap_dir) / f"observation_{os.getpid()}_{uuid.uuid4().hex[:8]}.npy"
    mapped: Array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    weakref.finalize(mapped.base, path.unlink, missing_ok=True)
    return mapped
