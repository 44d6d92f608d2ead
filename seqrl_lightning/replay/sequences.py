"""Windows of consecutive steps, for networks that read them in order."""

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqrl_lightning.batches import Windows
from seqrl_lightning.replay.ring import RingBuffer
from seqrl_lightning.replay.samplers import (
    Sampler,
    as_weights,
    importance_weights,
    saved_max_weight,
    saved_rows,
    saved_states,
    saved_tree,
    stratified_mass,
)
from seqrl_lightning.replay.sum_tree import SumTree
from seqrl_lightning.saved_state import require_saved, saved, saved_tensor
from seqrl_lightning.types import Array, FloatArray, IntArray, State, require


class SequenceSampler(Sampler):
    """Overlapping windows of episodes, uniform or prioritized (R2D2; Kapturowski et al., ICLR 2019).

    Windows start where episodes do, and then every ``length - overlap`` steps within an episode. All are as long as
    the longest episode so far, but at most ``length``. Short episodes are thus learned from whole and without padding,
    together with the steps that followed them (the network resets its state where an episode starts). A batch has
    ``data.batch_size`` windows.

    Args:
        length: The largest number of steps in a window (m = 80 in the paper).
        overlap: Number of steps that two neighboring windows of an episode share; None for half of ``length``.
        burn_in: Number of steps before a window that bring the network's state up to date, without learning from
            them (l = 40 in the paper).
        stored_state: Whether the network starts (at the burn-in, if there is one) from the state that the agent's
            network had there; otherwise it starts from none (DRQN, arXiv:1507.06527).
        n_step: The largest number of steps that a transition leads ahead within its episode and window.
        prioritized: Whether windows are drawn by their errors; otherwise all are equally likely, and the settings below
            change nothing (so that one key turns priorities off).
        alpha: Strength of prioritization (0.9 in the paper).
        beta: Strength of the correction of its bias (0.6 in the paper).
        eta: A window's priority is ``eta * max + (1 - eta) * mean`` of its errors (section 2.3).
        min_priority: Added to every error, so that every window can be drawn again.

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
        must_be = f"0 or more, and less than length - overlap = {self.stride}"
        require(0 <= burn_in < self.stride, "data.sampler.burn_in", burn_in, must_be)
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
        self._incomplete: list[list[int]] = []  # the first slots of each environment's windows that aren't complete yet
        self._states: dict[int, Array] = {}  # slot -> [S, ...]: what the network carried into a window's first row

    def __call__(
        self,
        ring: RingBuffer,
        batch_size: int,
        rng: np.random.Generator,
        *,
        env_steps: int = 0,
        next_actions: bool = False,
    ) -> Windows:
        """Draw windows, with ``slot_batch`` [1, B] if they are prioritized."""
        self._index_new_rows(ring)
        slots = self._draw(ring, batch_size, rng)
        batch = ring.windows(slots, min(self.length, self._longest), self.n_step, self.burn_in, next_actions)
        batch = batch._replace(network_state=self._states_at(ring, slots))
        if not self.prioritized:
            return batch
        weight = importance_weights(self._tree, slots, self.beta)
        return batch._replace(
            weight_batch=batch.weight_batch * torch.from_numpy(weight), slot_batch=torch.from_numpy(slots[None])
        )

    def _draw(self, ring: RingBuffer, batch_size: int, rng: np.random.Generator) -> IntArray:
        """Return the first slots of windows, [B] int64."""
        self._ensure_windows(ring)
        slots = self._tree.find(stratified_mass(self._tree, batch_size, rng))
        while True:
            is_gone = ~ring.is_transition(slots)  # the episode broke, and its rows are marked as final
            if count := np.count_nonzero(is_gone):
                self._tree.update(slots[is_gone], np.zeros(count))
            redraw = np.flatnonzero(self._tree.weights[slots] == 0.0)  # gone, or found by rounding
            if not redraw.size:
                return slots
            self._ensure_windows(ring)
            slots[redraw] = self._tree.find(rng.random(redraw.size) * self._tree.total)

    def _ensure_windows(self, ring: RingBuffer) -> None:
        """Admit incomplete windows while there is no complete one.

        Raises:
            ConfigurationError: If there are none either, because an episode is longer than the replay memory.
        """
        if self._tree.total > 0.0:
            return
        incomplete = np.array([slot for slots in self._incomplete for slot in slots], np.int64)
        incomplete = incomplete[ring.is_transition(incomplete)]
        rows = self.stride + self.burn_in + 1 + ring.frame_stack
        must_be = f"at least {rows * ring.num_envs}, so that no window is overwritten before it is complete"
        require(incomplete.size > 0, "data.capacity", ring.capacity, must_be)
        self._tree.update(incomplete, np.full(len(incomplete), self._max_weight))

    # The windows in the ring

    def _index_new_rows(self, ring: RingBuffer) -> None:
        """Find the windows in the rows added since the last call, and drop windows that are being overwritten."""
        size = ring.num_rows * ring.num_envs
        if self._tree.size != size:
            self._tree = SumTree(size)
            self._step = np.zeros(ring.num_envs, np.int64)
            self._incomplete = [[] for _ in range(ring.num_envs)]
        new_rows = min(ring.num_added - self._rows_seen, ring.num_full_rows)
        if not new_rows:
            return
        # The oldest windows have lost their burn-in, or the row before it, which says whether an episode starts there.
        margin = self.burn_in + 1 if ring.is_full else 0
        self._forget_incomplete_windows(ring, ring.num_added - ring.num_full_rows + margin)
        self._rows_seen = ring.num_added
        complete = self._complete_windows(ring, (ring.head + np.arange(-new_rows, 0)) % ring.num_rows)
        new_slots, lost = ring.slots(np.arange(1, new_rows * ring.num_envs + 1)), ring.lost_slots(margin)
        slots = [new_slots, np.array(complete, np.int64), lost]  # where two are equal, the later weight holds
        weights = np.repeat([0.0, self._max_weight, 0.0], [len(part) for part in slots])
        self._tree.update(np.concatenate(slots), weights)

    def _forget_incomplete_windows(self, ring: RingBuffer, oldest_row: int) -> None:
        """Drop incomplete windows that start before ``oldest_row``, counted from the first row ever stored."""
        if oldest_row <= 0:
            return
        for env, slots in enumerate(self._incomplete):
            ages = [(self._rows_seen - slot // ring.num_envs) % ring.num_rows for slot in slots]  # when last seen
            is_kept = [self._rows_seen - age >= oldest_row for age in ages]
            self._incomplete[env] = list(itertools.compress(slots, is_kept))

    def _complete_windows(self, ring: RingBuffer, rows: IntArray) -> list[int]:
        """Return the first slots of windows that new rows complete, by their length or by their episode's end."""
        is_final = ring.is_final[rows]
        row = np.arange(len(rows))[:, None]
        ended = np.maximum.accumulate(np.where(is_final, row + 1, 0))
        # The first row of each row's episode, or 0 if it started before these rows.
        first_row = np.concatenate([np.zeros((1, ring.num_envs), np.int64), ended[:-1]])
        step = row - first_row + np.where(first_row == 0, self._step, 0)
        self._step = np.where(is_final[-1], 0, step[-1] + 1)
        self._longest = max(self._longest, int(step.max()))
        is_start = (step % self.stride == 0) & ~is_final
        is_complete = is_final | ((step >= self.length) & ((step - self.length) % self.stride == 0))
        complete: list[int] = []
        for i, env in zip(*(is_start | is_complete).nonzero(), strict=True):  # few, in the order of their rows
            incomplete = self._incomplete[env]
            if is_final[i, env]:
                complete += incomplete
                incomplete.clear()
            elif is_complete[i, env]:
                slot = int((rows[i] - self.length) % ring.num_rows * ring.num_envs + env)
                if slot in incomplete:  # else it was overwritten
                    complete.append(slot)
                    incomplete.remove(slot)
            if is_start[i, env]:
                incomplete.append(int(rows[i] * ring.num_envs + env))
        return complete

    @property
    def draws_by_priority(self) -> bool:
        """Whether the errors of updates have to be written back by :meth:`update_priorities`."""
        return self.prioritized

    def update_priorities(self, slots: IntArray, errors: FloatArray) -> None:
        """Write the priorities of the windows that start at ``slots`` ([B] int64) from their errors ([T, B]).

        Errors are not negative, and NaN where nothing was learned from.
        """
        errors = errors.astype(np.float64)
        error = self.eta * np.nanmax(errors, axis=0) + (1.0 - self.eta) * np.nanmean(errors, axis=0)
        weights = as_weights(error + self.min_priority, self.alpha)
        self._max_weight = max(self._max_weight, float(weights.max()))
        self._tree.update(slots, weights)

    # The network's state where windows start

    def keep_state(self, ring: RingBuffer, state: State, step: IntArray) -> None:
        """Keep the network's state where a window, or its burn-in, is going to start (see :class:`Sampler`)."""
        if not self.stored_state or state is None:
            return
        is_start = ((step + self.burn_in) % self.stride == 0) & (step > 0)
        first_slot = ring.head * ring.num_envs
        for env, starts in enumerate(is_start.tolist()):
            if starts:
                self._states[first_slot + env] = state[:, env].cpu().numpy().copy()
            else:
                self._states.pop(first_slot + env, None)  # which belongs to the row that is being overwritten

    def _states_at(self, ring: RingBuffer, slots: IntArray) -> Tensor | None:
        """Return what the network carries into the first row of each window or of its burn-in, [S, B, ...].

        Where nothing was kept, an episode starts before the first row to learn from, and the network resets its state.
        """
        if not self._states:
            return None
        nothing = np.zeros_like(next(iter(self._states.values())))
        first_slots = (slots - self.burn_in * ring.num_envs) % self._tree.size
        return torch.from_numpy(np.stack([self._states.get(slot, nothing) for slot in first_slots.tolist()], axis=1))

    def state_dict(self) -> dict[str, Any]:
        """Return the windows, their priorities, and the kept states."""
        tensors = {"weights": self._tree.weights, "step": self._step}
        counters = {"max_weight": self._max_weight, "rows_seen": self._rows_seen, "longest": self._longest}
        return {
            **{name: torch.from_numpy(array.copy()) for name, array in tensors.items()},
            "state_slots": torch.tensor(list(self._states), dtype=torch.int64),
            "states": torch.from_numpy(np.stack(list(self._states.values()))) if self._states else None,
            **counters,
            "waiting": [list(slots) for slots in self._incomplete],
        }

    def load_state_dict(self, state_dict: dict[str, Any], ring: RingBuffer) -> None:
        """Restore what ``state_dict`` returned; see :class:`Sampler`."""
        self._rows_seen = saved_rows(state_dict.get("rows_seen"), ring, "the sampler's rows_seen")
        self._max_weight = saved_max_weight(state_dict.get("max_weight"))
        self._tree = saved_tree(state_dict.get("weights"), self._rows_seen, ring, self._max_weight)
        num_envs = ring.num_envs if self._rows_seen else 0
        self._step = saved_tensor(state_dict.get("step"), (num_envs,), torch.int64, "the sampler's step").numpy().copy()
        self._incomplete = saved(state_dict.get("waiting"), list[list[int]], "the sampler's waiting")
        require_saved(len(self._incomplete) == num_envs, "the sampler's waiting", self._incomplete, f"{num_envs} lists")
        slots = state_dict.get("state_slots")
        if isinstance(slots, list):  # the form of earlier versions
            slots = torch.tensor(saved(slots, list[int], "the sampler's state_slots"), dtype=torch.int64)
        slots = saved_tensor(slots, (None,), torch.int64, "the sampler's state_slots").tolist()
        for slot in (*slots, *itertools.chain.from_iterable(self._incomplete)):
            require_saved(0 <= slot < self._tree.size, "a slot of the sampler", slot, f"in [0, {self._tree.size})")
        has_all = bool(slots) or state_dict.get("states") is None
        require_saved(has_all, "the sampler's state_slots", slots, "those of its states")
        states = saved_states(state_dict.get("states"), (len(slots),)).numpy() if slots else ()
        self._states = {slot: state.copy() for slot, state in zip(slots, states, strict=True)}
        self._longest = saved(state_dict.get("longest"), int, "the sampler's longest")
        require_saved(self._longest > 0, "the sampler's longest", self._longest, "positive")
