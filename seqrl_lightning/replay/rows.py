"""The rows of the replay memory: its columns, and the order of the rows."""

import math
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqrl_lightning.replay.logged import LoggedRows
from seqrl_lightning.saved_state import require_saved, saved, saved_tensor
from seqrl_lightning.types import Array, BoolArray, ConfigurationError, FloatArray, IntArray, require


class SlotColumns(NamedTuple):
    """The small columns of the ring with one index, that of the slot."""

    action: IntArray  # [S] int64
    reward: FloatArray  # [S] float32
    terminated: BoolArray  # [S] bool
    is_final: BoolArray  # [S] bool
    action_mask: BoolArray  # [S, A] bool; A = 0 before the first mask


class Rows:
    """The newest transitions of ``num_envs`` environments, in preallocated columns ``[num_rows, num_envs, ...]``.

    Row t holds each environment's observation, the action taken in it, and the outcome of that action. The next
    observation of row t is therefore the observation of row t + 1, and nothing is stored twice. Rows follow the order
    in which Gymnasium's vector environments report steps under ``AutoresetMode.NEXT_STEP``:

    - The row after an episode's end holds its final observation (``is_final``), from which a truncated episode
      bootstraps. The environment ignored that row's action and reset itself. The row isn't a transition and is never
      sampled as one.
    - The head is the row that is being filled: it holds the current observation, and its action is still to come.

    A slot is one environment's entry in one row. Its index is ``row * num_envs + env``.

    Args:
        capacity: Number of slots to keep, over all environments (final observations take up slots too).
        num_envs: Number of environments stored side by side.
        obs_shape: Shape of one observation.
        obs_dtype: NumPy dtype of the observations.
        mmap_dir: Folder for a memory-mapped file of the observations, which can be larger than memory; None keeps
            them in memory.
        frame_stack: k > 1 if an observation is a stack [k, ...] of the last k frames; each frame is then stored once.

    Attributes:
        num_added: Number of rows completed since the ring was made.

    Raises:
        ConfigurationError: If there is room for fewer than two rows, or none in ``mmap_dir``.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        obs_shape: tuple[int, ...],
        obs_dtype: str,
        mmap_dir: str | None = None,
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
        # The head isn't a stored transition, and a stack's older frames are needed for as long as the stack is.
        self.num_rows = self._max_full_rows + frame_stack
        rows = (self.num_rows, num_envs)
        frame_shape = obs_shape if frame_stack == 1 else obs_shape[1:]
        self.observation: Array | Tensor = _zeros((*rows, *frame_shape), obs_dtype, mmap_dir)
        self.action: IntArray = np.zeros(rows, np.int64)
        self.reward: FloatArray = np.zeros(rows, np.float32)
        self.terminated: BoolArray = np.zeros(rows, np.bool_)
        self.truncated: BoolArray = np.zeros(rows, np.bool_)
        self.is_final: BoolArray = np.zeros(rows, np.bool_)
        self.is_final[-1] = True  # no episode reaches into the first row from before it
        self.action_mask: BoolArray = np.ones((*rows, 0), np.bool_)  # [..., A] from the first mask on
        self.head = 0
        self.num_added = 0
        self.num_full_rows = 0  # rows behind the head
        # Views of the same memory with one index, which batches are gathered from.
        columns = (self.action, self.reward, self.terminated, self.is_final, self.action_mask)
        self._by_slot = SlotColumns(*(self._with_one_index(column) for column in columns))
        self._frames: Array | Tensor = self.observation.reshape(rows[0] * rows[1], *frame_shape)

    @property
    def num_slots(self) -> int:
        """Number of slots in use, with transitions and with final observations."""
        return self.num_full_rows * self.num_envs

    @property
    def capacity(self) -> int:
        """Number of slots that are kept."""
        return self._max_full_rows * self.num_envs

    @property
    def is_full(self) -> bool:
        """Whether the next row overwrites the oldest one."""
        return self.num_added >= self.num_rows - 1

    @property
    def fill(self) -> float:
        """The part of the capacity that is in use, in [0, 1]."""
        return self.num_full_rows / self._max_full_rows

    # Writing

    def begin_with(self, logged: LoggedRows) -> None:
        """Store logged episodes in the empty ring, as if they had just been played.

        Args:
            logged: Columns ``[T, num_envs, ...]``.

        Raises:
            ConfigurationError: If there is no room for them.
        """
        num_rows = len(logged.action)
        must_be = f"at least {num_rows * self.num_envs}, the slots that data.trials takes"
        require(num_rows <= self._max_full_rows, "data.capacity", self.capacity, must_be)
        frames = logged.observation if self.frame_stack == 1 else logged.observation[:, :, -1]
        torch.as_tensor(self.observation)[:num_rows].copy_(torch.from_numpy(frames))
        self.action[:num_rows] = logged.action
        self.reward[:num_rows] = logged.reward
        self.terminated[:num_rows] = logged.terminated
        self.is_final[:num_rows] = logged.is_final
        if logged.action_mask is not None:
            self._make_room_for_masks(logged.action_mask.shape[2])
            self.action_mask[:num_rows] = logged.action_mask
        self.head = self.num_full_rows = self.num_added = num_rows
        self.is_final[self.head] = True  # nothing is shown there until an agent starts episodes

    def restart(self, observation: Array, action_mask: BoolArray | None = None) -> None:
        """Begin new episodes in all environments, even if the old ones haven't ended.

        Args:
            observation: [num_envs, *obs], the first observations.
            action_mask: [num_envs, A] bool, the actions that they allow; None allows all.
        """
        if self.num_full_rows:  # the old episodes end here, unfinished, with their last observations as final ones
            self.is_final[self.head] = True
            self._advance()
        self._store(observation)
        self.is_final[self.head] = False
        self._store_mask(action_mask)

    def drop(self, env: int, length: int) -> int:
        """Forget an environment's newest steps, because its episode broke: none of them is a transition any more.

        Args:
            env: The environment.
            length: Number of steps to forget.

        Returns:
            The number of steps forgotten, which is smaller where fewer are stored.
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
        """Complete the head with one step of all environments, and move on to the next row.

        Args:
            action: [num_envs] int64, taken in the head's observations.
            reward: [num_envs] float.
            terminated: [num_envs] bool.
            truncated: [num_envs] bool.
            next_observation: [num_envs, *obs], the observations after the step.
            next_action_mask: [num_envs, A] bool, the actions that they allow; None allows all.
        """
        row = self.head
        self.action[row] = action
        self.reward[row] = reward
        self.terminated[row] = terminated
        self.truncated[row] = truncated
        self._advance()
        self._store(next_observation)
        np.logical_or(terminated, truncated, out=self.is_final[self.head])
        self._store_mask(next_action_mask)

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

    def _store_mask(self, mask: BoolArray | None) -> None:
        if mask is not None:
            if not self.action_mask.shape[2]:
                self._make_room_for_masks(mask.shape[1])
            self.action_mask[self.head] = mask
        elif self.action_mask.shape[2]:
            self.action_mask[self.head] = True

    def _make_room_for_masks(self, n_actions: int) -> None:
        """Begin to store action masks; before the first one, everything was allowed."""
        self.action_mask = np.ones((self.num_rows, self.num_envs, n_actions), np.bool_)
        self._by_slot = self._by_slot._replace(action_mask=self._with_one_index(self.action_mask))

    def _with_one_index(self, column: Array) -> Array:
        return column.reshape(self.num_rows * self.num_envs, *column.shape[2:])

    def move_observations(self, device: torch.device) -> None:
        """Keep the observations, by far the largest column, on a device from now on, and gather batches there.

        The small columns stay in the CPU's memory, where the agent and the samplers work on them.
        """
        self.observation = torch.as_tensor(self.observation).to(device)
        self._frames = self.observation.view(-1, *self.observation.shape[2:])

    # Slots

    def slots(self, age: IntArray) -> IntArray:
        """Return the indices of the slots that were stored ``age`` slots before the head's; 1 is the newest."""
        return (self.head * self.num_envs - age) % (self.num_rows * self.num_envs)

    def is_transition(self, slots: IntArray, next_actions: bool = False) -> BoolArray:
        """Return which slots hold a transition, rather than an episode's final observation.

        Args:
            slots: [...] int64.
            next_actions: Whether a transition counts only once the action in its next state is known.

        Returns:
            [...] bool.
        """
        is_transition: BoolArray = ~self._by_slot.is_final[slots]
        if next_actions:
            is_transition &= slots != self._open_slots(next_actions)[slots % self.num_envs]
        return is_transition

    def is_final_at(self, slots: IntArray) -> BoolArray:
        """Return which slots ([...] int64) hold an episode's final observation."""
        return self._by_slot.is_final[slots]

    def lost_slots(self, margin: int = 0) -> IntArray:
        """Return the slots that can't be sampled: the head's, and stacks whose oldest frames are overwritten.

        Args:
            margin: Number of rows after them to return too.
        """
        rows = (self.head + np.arange(self.frame_stack + margin)) % self.num_rows
        return (rows[:, None] * self.num_envs + np.arange(self.num_envs)).reshape(-1)

    def _open_slots(self, next_actions: bool) -> IntArray:
        """Return the first slot of each environment that isn't complete yet, [num_envs] int64.

        It is the head's. Where next actions have to be known it is the one before the head's, unless an episode ended
        with that one: the action in the head is still to come.
        """
        env = np.arange(self.num_envs)
        if not next_actions:
            return self.head * self.num_envs + env
        row = np.where(self.is_final[self.head], self.head, (self.head - 1) % self.num_rows)
        return row * self.num_envs + env

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the rows in use, as tensors, and the position of the head."""
        used = min(self.num_added + 1, self.num_rows)  # until the ring is full, the head comes after all other rows
        columns = {name: torch.as_tensor(column[:used]).to("cpu", copy=True) for name, column in self._columns.items()}
        counters = {"head": self.head, "num_full_rows": self.num_full_rows, "num_added": self.num_added}
        return {**columns, **counters, "num_rows": self.num_rows}

    def load_state_dict(self, state_dict: dict[str, Any], n_actions: int) -> None:
        """Restore the state of a ring of the same size.

        Args:
            state_dict: What :meth:`state_dict` returned.
            n_actions: The task's, for each of which masks have a column.

        Raises:
            ConfigurationError: If the saved ring had another size.
            StateError: If no ring of this size has such a state.
        """
        counters = self._saved_counters(state_dict)
        used = min(counters["num_added"] + 1, self.num_rows)
        columns = self._saved_columns(state_dict, used, n_actions)
        if columns["action_mask"].shape[2]:
            self._make_room_for_masks(n_actions)
        for name, column in self._columns.items():
            torch.as_tensor(column)[:used].copy_(columns[name])
        self.head = counters["head"]
        self.num_full_rows = counters["num_full_rows"]
        self.num_added = counters["num_added"]
        has_any = bool(self.is_transition(self.slots(np.arange(1, self.num_slots + 1))).any())
        must_be = "false in some row, so that a transition can be drawn"
        require_saved(has_any or not self.num_slots, "the replay memory's is_final", True, must_be)

    def _saved_counters(self, state_dict: dict[str, Any]) -> dict[str, int]:
        """Return the saved counters, which all follow from the number of rows added."""
        num_rows = saved(state_dict.get("num_rows"), int, "the replay memory's num_rows")
        action = saved_tensor(state_dict.get("action"), (None, None), torch.int64, "the replay memory's action")
        num_envs = action.shape[1]
        capacity, saved_capacity = ((rows - self.frame_stack) * num_envs for rows in (self.num_rows, num_rows))
        require(num_envs == self.num_envs, "data.num_envs", self.num_envs, f"the checkpoint's {num_envs}")
        require(capacity == saved_capacity, "data.capacity", capacity, f"the checkpoint's {saved_capacity}")
        names = ("head", "num_full_rows", "num_added")
        counters = {name: saved(state_dict.get(name), int, f"the replay memory's {name}") for name in names}
        added = counters["num_added"]
        must_be = {"head": added % self.num_rows, "num_full_rows": min(added, self._max_full_rows), "num_added": added}
        require_saved(added >= 0 and counters == must_be, "the replay memory's position", counters, f"like {must_be}")
        return counters

    def _saved_columns(self, state_dict: dict[str, Any], used: int, n_actions: int) -> dict[str, Tensor]:
        columns: dict[str, Tensor] = {}
        for name, column in self._columns.items():
            own, what = torch.as_tensor(column), f"the replay memory's {name}"
            shape = (used, *own.shape[1:])
            if name == "action_mask":  # there is none until the task forbids an action
                mask = saved_tensor(state_dict.get(name), (used, self.num_envs, None), own.dtype, what)
                shape = (used, self.num_envs, n_actions if mask.shape[2] else 0)
            columns[name] = saved_tensor(state_dict.get(name), shape, own.dtype, what)
        return columns

    @property
    def _columns(self) -> dict[str, Array | Tensor]:
        return {
            "observation": self.observation,
            "action": self.action,
            "reward": self.reward,
            "terminated": self.terminated,
            "truncated": self.truncated,
            "is_final": self.is_final,
            "action_mask": self.action_mask,
        }


def _zeros(shape: tuple[int, ...], dtype: str, mmap_dir: str | None) -> Array:
    if mmap_dir is None:
        return np.zeros(shape, dtype)
    num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        Path(mmap_dir).mkdir(parents=True, exist_ok=True)
        # Each process has its own file, without a name: its space is freed whenever the process ends.
        with tempfile.TemporaryFile(dir=mmap_dir) as file:
            if hasattr(os, "posix_fallocate"):  # otherwise a full disk kills the process that writes to the array
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as error:
        must_be = f"a folder with room for {num_bytes / 2**30:.3g} GiB of observations ({error.strerror or error})"
        raise ConfigurationError(f"data.mmap_dir is {mmap_dir!r}; it must be {must_be}") from error
