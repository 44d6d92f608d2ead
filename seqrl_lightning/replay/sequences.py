"""Windows of consecutive steps, for networks that read them in order."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqrl_lightning.replay.ring import RingBuffer
from seqrl_lightning.replay.samplers import Sampler, allotted_mass, importance_weights
from seqrl_lightning.replay.sum_tree import SumTree
from seqrl_lightning.types import Array, FloatArray, IntArray, TransitionBatch, require


class SequenceSampler(Sampler):
    """Overlapping windows of episodes, uniform or prioritized (R2D2; Kapturowski et al., ICLR 2019).

    Windows start where episodes do, and then every ``length - overlap`` steps within one. They are all as long as the
    longest episode so far, but at most ``length``: short episodes are learned from whole, without padding, together
    with what came after them (the network forgets where an episode starts). A batch is ``data.batch_size`` windows.

    Args:
        length: Steps in a window at most (the paper's m = 80).
        overlap: Steps that two windows of an episode share; None for half of ``length``.
        burn_in: Steps before a window from which the network's state is brought up to date, without learning from
            them (the paper's l = 40).
        stored_state: Whether the network starts (its burn-in, if there is one) from the state that the agent's network
            had there; else from none (DRQN, arXiv:1507.06527).
        n_step: Steps that a transition leads ahead within its episode and window.
        prioritized: Whether windows are drawn by their errors; else they are all equally likely.
        alpha: How much priorities count (the paper's 0.9).
        beta: How much of the bias that they bring is undone (the paper's 0.6).
        eta: A window's priority is ``eta * max + (1 - eta) * mean`` of its errors (section 2.3).
        min_priority: Added to every error, so that no window is never drawn again.

    Raises:
        ConfigurationError: If a setting can't work.
    """

    gives_windows = True

    def __init__(
        self,
        length: int = 128,
        overlap: int | None = None,
        burn_in: int = 0,
        stored_state: bool = True,
        n_step: int = 1,
        prioritized: bool = False,
        alpha: float = 0.9,
        beta: float = 0.6,
        eta: float = 0.9,
        min_priority: float = 1e-6,
    ) -> None:
        require(length > 0, "data.sampler.length", length, "at least 1")
        overlap = length // 2 if overlap is None else overlap
        require(0 <= overlap < length, "data.sampler.overlap", overlap, f"0 or more, and less than length = {length}")
        self.stride = length - overlap
        would_do = f"0 or more, and less than length - overlap = {self.stride}"
        require(0 <= burn_in < self.stride, "data.sampler.burn_in", burn_in, would_do)
        require(n_step > 0, "data.sampler.n_step", n_step, "at least 1")
        require(alpha >= 0, "data.sampler.alpha", alpha, "0 or more")
        require(0 <= beta <= 1, "data.sampler.beta", beta, "in [0, 1]")
        require(0 <= eta <= 1, "data.sampler.eta", eta, "in [0, 1]")
        require(min_priority > 0, "data.sampler.min_priority", min_priority, "positive")
        self.length = length
        self.burn_in = burn_in
        self.stored_state = stored_state
        self.n_step = n_step
        self.prioritized = prioritized
        self.alpha = alpha
        self.beta = beta
        self.eta = eta
        self.min_priority = min_priority
        self._tree = SumTree(1)
        self._max_weight = 1.0
        self._rows_seen = 0
        self._longest = 1  # episode so far, in steps
        self._step: IntArray = np.zeros(0, np.int64)  # of each environment's episode, at the first row not yet seen
        self._waiting: list[list[int]] = []  # each environment's windows that aren't complete yet
        self._states: dict[int, Array] = {}  # slot -> [S, ...]: what the network carried where a window starts

    def __call__(self, ring: RingBuffer, batch_size: int, rng: np.random.Generator) -> TransitionBatch:
        """Returns windows, with ``slot_batch`` [1, B] if they are prioritized."""
        self._take_in_new_rows(ring)
        slots = self._draw(ring, batch_size, rng)
        batch = ring.windows(slots, min(self.length, self._longest), self.n_step, self.burn_in)
        batch = batch._replace(network_state=self._states_at(ring, slots))
        if not self.prioritized:
            return batch
        assert batch.weight_batch is not None
        weight = importance_weights(self._tree, slots, self.beta)
        return batch._replace(
            weight_batch=batch.weight_batch * torch.from_numpy(weight), slot_batch=torch.from_numpy(slots[None])
        )

    def _draw(self, ring: RingBuffer, batch_size: int, rng: np.random.Generator) -> IntArray:
        """[B] int64: where the windows start."""
        self._see_that_there_are_windows(ring)
        slots = self._tree.find(allotted_mass(self._tree, batch_size, rng))
        while True:
            is_gone = ~ring.is_transition(slots)  # a broken episode's
            if count := np.count_nonzero(is_gone):
                self._tree.update(slots[is_gone], np.zeros(count))
            redraw = np.flatnonzero(self._tree.weights[slots] == 0.0)  # or by rounding
            if not redraw.size:
                return slots
            self._see_that_there_are_windows(ring)
            slots[redraw] = self._tree.find(rng.random(redraw.size) * self._tree.total)

    def _see_that_there_are_windows(self, ring: RingBuffer) -> None:
        """As long as no window is complete, those that are under way have to do."""
        if self._tree.total == 0.0:
            waiting = np.array([slot for slots in self._waiting for slot in slots])
            waiting = waiting[ring.is_transition(waiting)]
            self._tree.update(waiting, np.full(len(waiting), self._max_weight))

    # What windows there are

    def _take_in_new_rows(self, ring: RingBuffer) -> None:
        """Finds the windows in the rows added since the last time, and drops those that are overwritten."""
        size = ring.num_rows * ring.num_envs
        if self._tree.size != size:
            self._tree = SumTree(size)
            self._step = np.zeros(ring.num_envs, np.int64)
            self._waiting = [[] for _ in range(ring.num_envs)]
        new_rows = min(ring.num_added - self._rows_seen, ring.num_full_rows)
        if not new_rows:
            return
        self._rows_seen = ring.num_added
        complete = self._complete_windows(ring, (ring.head + np.arange(-new_rows, 0)) % ring.num_rows)
        new_slots = ring.slots(np.arange(1, new_rows * ring.num_envs + 1))
        # Of the oldest windows, the burn-in is overwritten, or the row that tells whether an episode starts with it.
        lost = ring.lost_slots(margin=self.burn_in + 1 if ring.is_full else 0)
        slots = [new_slots, np.array(complete, np.int64), lost]  # of equal ones the last holds
        weights = np.repeat([0.0, self._max_weight, 0.0], [len(part) for part in slots])
        self._tree.update(np.concatenate(slots), weights)

    def _complete_windows(self, ring: RingBuffer, rows: IntArray) -> list[int]:
        """Returns the windows that more rows complete: `length` steps are there, or their episode has ended."""
        is_final = ring.is_final[rows]
        row = np.arange(len(rows))[:, None]
        ended = np.maximum.accumulate(np.where(is_final, row + 1, 0))
        first_row = np.concatenate([np.zeros((1, ring.num_envs), np.int64), ended[:-1]])  # of the episode; 0: or before
        step = row - first_row + np.where(first_row == 0, self._step, 0)
        self._step = np.where(is_final[-1], 0, step[-1] + 1)
        self._longest = max(self._longest, int(step.max()))
        is_start = (step % self.stride == 0) & ~is_final
        is_complete = is_final | ((step >= self.length) & ((step - self.length) % self.stride == 0))
        complete: list[int] = []
        for i, env in zip(*(is_start | is_complete).nonzero(), strict=True):  # few, and in their order
            waiting = self._waiting[env]
            if is_complete[i, env]:
                number = len(waiting) if is_final[i, env] else 1
                complete += waiting[:number]
                del waiting[:number]
            if is_start[i, env]:
                waiting.append(int(rows[i] * ring.num_envs + env))
        return complete

    def update_priorities(self, slots: IntArray, errors: FloatArray) -> None:
        """Writes the priorities of the windows that start at ``slots`` ([B]) from their errors ([T, B]).

        Errors are not negative, and NaN where there was nothing to learn from.
        """
        errors = errors.astype(np.float64)
        error = self.eta * np.nanmax(errors, axis=0) + (1.0 - self.eta) * np.nanmean(errors, axis=0)
        weights = (error + self.min_priority) ** self.alpha
        self._max_weight = max(self._max_weight, float(weights.max()))
        self._tree.update(slots, weights)

    # What the network carried where windows start

    def keep_state(self, ring: RingBuffer, state: Tensor | None, step: IntArray) -> None:
        """Keeps the network's state where a window (or its burn-in) is going to start.

        Args:
            ring: The replay memory; its head is the row that the network is about to read.
            state: [S, num_envs, ...] float32, before it reads it.
            step: [num_envs] int64, of the environment's episode.
        """
        if not self.stored_state or state is None:
            return
        is_start = ((step + self.burn_in) % self.stride == 0) & (step > 0)
        first_slot = ring.head * ring.num_envs
        for env, starts in enumerate(is_start.tolist()):
            if starts:
                self._states[first_slot + env] = state[:, env].cpu().numpy().copy()
            else:
                self._states.pop(first_slot + env, None)  # of the row that is being overwritten

    def _states_at(self, ring: RingBuffer, slots: IntArray) -> Tensor | None:
        """[S, B, ...]: what the network carries into the first row of each window, or of its burn-in.

        Where nothing was kept an episode starts before anything is learned from, so that the network forgets it.
        """
        if not self._states:
            return None
        nothing = np.zeros_like(next(iter(self._states.values())))
        first_slots = (slots - self.burn_in * ring.num_envs) % self._tree.size
        return torch.from_numpy(np.stack([self._states.get(slot, nothing) for slot in first_slots.tolist()], axis=1))

    def state_dict(self) -> dict[str, Any]:
        """The windows, their priorities and the kept states."""
        tensors = {"weights": self._tree.weights, "step": self._step}
        counters = {"max_weight": self._max_weight, "rows_seen": self._rows_seen, "longest": self._longest}
        waiting = [list(slots) for slots in self._waiting]
        return {
            **{name: torch.from_numpy(array.copy()) for name, array in tensors.items()},
            "state_slots": list(self._states),
            "states": torch.from_numpy(np.stack(list(self._states.values()))) if self._states else None,
            **counters,
            "waiting": waiting,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        weights = state_dict["weights"].numpy()
        self._tree = SumTree(len(weights))
        self._tree.update(np.arange(len(weights)), weights)
        self._step = state_dict["step"].numpy().copy()
        states = [] if state_dict["states"] is None else state_dict["states"].numpy()
        self._states = {slot: state.copy() for slot, state in zip(state_dict["state_slots"], states, strict=True)}
        self._max_weight = state_dict["max_weight"]
        self._rows_seen = state_dict["rows_seen"]
        self._longest = state_dict["longest"]
        self._waiting = [list(slots) for slots in state_dict["waiting"]]
