"""Rollouts: the newest rows of all environments, for learning on-policy without replay."""

from collections import deque
from typing import Any

import numpy as np
import torch

from seqrl_lightning.batches import Windows
from seqrl_lightning.replay.ring import RingBuffer
from seqrl_lightning.replay.samplers import Sampler, saved_rows, saved_states
from seqrl_lightning.saved_state import saved
from seqrl_lightning.types import IntArray, State, require


class RolloutSampler(Sampler):
    """The newest rows of all environments as one batch [T, num_envs], for learning on-policy without replay.

    A batch begins where the last one ended, so that every step is learned from. It has ``length`` rows at least and
    ``max_rows`` at most: the reset of an environment takes a row, but is no step. If the agent's network has a memory,
    the batch also holds its state before the first of these rows. ``data.batch_size`` doesn't matter here;
    ``PQN`` divides a batch into minibatches of this size.

    Args:
        length: The smallest number of rows in a batch.

    Attributes:
        max_rows: The largest number of rows in a batch, which ``length`` steps of each environment take where every
            episode ends with its first step.
        num_new: The number of rows of the last batch that no earlier one held: fewer than ``length`` where fewer were
            added.

    Raises:
        ConfigurationError: If ``length`` isn't positive.
    """

    gives_windows = True

    def __init__(self, length: int = 32) -> None:
        require(length > 0, "data.sampler.length", length, "at least 1")
        self.length = length
        self.max_rows = 2 * (length + 2)  # environments step side by side, so that a few steps more may be taken
        self.num_new = 0
        self._num_drawn = 0  # rows that batches have held, of all that the ring has added
        # The number of each row that may start the next batch, and the state carried into it.
        self._states: deque[tuple[int, torch.Tensor]] = deque()

    def __call__(
        self,
        ring: RingBuffer,
        batch_size: int,
        rng: np.random.Generator,
        *,
        env_steps: int = 0,
        next_actions: bool = False,
    ) -> Windows:
        """Return the newest rows; nothing is drawn, and their number doesn't depend on ``batch_size``."""
        first_row = self._first_row(ring)
        self.num_new = ring.num_added - max(first_row, self._num_drawn)
        self._num_drawn = ring.num_added
        states = (state.clone() for row, state in self._states if row == first_row)  # autograd can't save the original
        num_rows = ring.num_added - first_row
        return ring.latest_rows(num_rows, next_actions)._replace(network_state=next(states, None))

    def require_room(self, capacity: int, num_envs: int) -> None:
        """Refuse a replay memory that is too small for a batch.

        Args:
            capacity: Slots of the replay memory.
            num_envs: Number of environments.

        Raises:
            ConfigurationError: If it is too small.
        """
        slots = (self.max_rows + 1) * num_envs
        rollout = f"a rollout of {self.length * num_envs} env steps"
        must_be = f"at least {slots}: where episodes are short, {rollout} takes up to as many slots"
        require(capacity >= slots, "data.capacity", capacity, must_be)

    def _first_row(self, ring: RingBuffer) -> int:
        """Return the number of the row that a batch drawn now begins with, counted from the first row ever added."""
        newest = min(self._num_drawn, ring.num_added - self.length)
        return max(newest, ring.num_added - min(self.max_rows, ring.num_full_rows))

    def keep_state(self, ring: RingBuffer, state: State, step: IntArray) -> None:
        """Keep the state that the agent's network carries into the ring's head, [S, num_envs, ...]."""
        if state is not None:
            self._states.append((ring.num_added, state))
            while self._states[0][0] < self._first_row(ring):
                self._states.popleft()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of rows that were drawn, and the kept states with the numbers of their rows."""
        rows, states = [row for row, _ in self._states], [state for _, state in self._states]
        return {"num_drawn": self._num_drawn, "rows": rows, "states": torch.stack(states).cpu() if states else None}

    def load_state_dict(self, state_dict: dict[str, Any], ring: RingBuffer) -> None:
        """Restore what ``state_dict`` returned; see :class:`Sampler`."""
        self._num_drawn = saved_rows(state_dict.get("num_drawn"), ring, "the sampler's num_drawn")
        rows = saved(state_dict.get("rows"), list[int], "the sampler's rows")
        if rows:
            states = saved_states(state_dict.get("states"), (len(rows), None, ring.num_envs))
            self._states.extend(zip(rows, states, strict=True))
