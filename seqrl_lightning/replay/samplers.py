"""Which transitions make a batch. Samplers hold no transitions: they pick slots of the ring."""

from abc import ABC, abstractmethod
from collections import deque
from typing import Any

import numpy as np
import torch

from seqrl_lightning.replay.ring import RingBuffer
from seqrl_lightning.replay.sum_tree import SumTree
from seqrl_lightning.types import FloatArray, IntArray, TransitionBatch, require


class Sampler(ABC):
    """Makes batches from the ring."""

    gives_windows = False  # whether batches are windows of consecutive steps

    @abstractmethod
    def __call__(self, ring: RingBuffer, batch_size: int, rng: np.random.Generator) -> TransitionBatch:
        """Returns a batch of ``batch_size`` transitions of ``ring``, which isn't empty."""

    def keep_state(self, ring: RingBuffer, state: torch.Tensor | None, step: IntArray) -> None:  # noqa: B027
        """Told by the agent what its network carries into the ring's head (see :class:`SequenceSampler`)."""

    def state_dict(self) -> dict[str, Any]:
        """What the sampler remembers, as tensors and primitives."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: B027  (nothing to remember is the rule)
        """Goes on where ``state_dict`` was taken."""


class TransitionSampler(Sampler):
    """Picks the slots of single transitions.

    Args:
        n_step: Steps that a transition leads ahead, if its episode goes on for as long (Sutton and Barto, section 7.1).

    Raises:
        ConfigurationError: If ``n_step`` isn't positive.
    """

    def __init__(self, n_step: int = 1) -> None:
        require(n_step > 0, "data.sampler.n_step", n_step, "at least 1")
        self.n_step = n_step

    def __call__(self, ring: RingBuffer, batch_size: int, rng: np.random.Generator) -> TransitionBatch:
        """Returns a batch with T = 1."""
        return ring.transitions(self.slots(ring, batch_size, rng), self.n_step)

    @abstractmethod
    def slots(self, ring: RingBuffer, batch_size: int, rng: np.random.Generator) -> IntArray:
        """Returns [batch_size] int64: indices of slots that hold transitions."""


class UniformSampler(TransitionSampler):
    """Every stored transition is equally likely, with replacement (Mnih et al., arXiv:1312.5602, algorithm 1)."""

    def slots(self, ring: RingBuffer, batch_size: int, rng: np.random.Generator) -> IntArray:
        """Returns [batch_size] int64 indices of slots."""
        slots = _random_slots(ring, batch_size, rng)
        # Final observations are drawn like any slot, then drawn again: the cost does not grow with the ring.
        while (redraw := np.flatnonzero(~ring.is_transition(slots))).size:
            slots[redraw] = _random_slots(ring, redraw.size, rng)
        return slots


def _random_slots(ring: RingBuffer, size: int, rng: np.random.Generator) -> IntArray:
    age = rng.random(size)  # `integers` costs several times as much
    age *= ring.num_slots
    return ring.slots(age.astype(np.int64) + 1)


class LatestSampler(TransitionSampler):
    """The newest transitions, the oldest of them first: learning online, without replay."""

    def slots(self, ring: RingBuffer, batch_size: int, rng: np.random.Generator) -> IntArray:
        """Returns [batch_size] int64 indices of slots."""
        # A final observation is followed by a transition, so twice as many slots suffice, but for a broken episode's.
        num_looked_at = 2 * (batch_size + ring.num_envs)
        while True:
            newest_first = ring.slots(np.arange(1, min(num_looked_at, ring.num_slots) + 1))
            found = newest_first[ring.is_transition(newest_first)]
            if len(found) >= batch_size or num_looked_at >= ring.num_slots:
                return found[:batch_size][::-1].copy()
            num_looked_at *= 2


class PrioritizedSampler(TransitionSampler):
    """Transitions in proportion to ``priority ** alpha`` (Schaul et al., arXiv:1511.05952, proportional variant).

    A transition's priority is the size of its last error, written by ``PriorityWriter``; new ones get the largest
    priority seen so far. The bias is undone by the importance weights ``(N * P(i)) ** -beta``, divided by the batch's
    largest (section 3.4). Where several batches make a training step, all are drawn before any priority is written.

    Args:
        n_step: See :class:`TransitionSampler`.
        alpha: How much priorities count: 0 not at all, 1 in full.
        beta: How much of the bias is undone at first, in [0, 1].
        beta_env_steps: Env steps over which beta goes on to 1 in a straight line; None keeps it as it is.
        min_priority: Added to every error, so that none is never drawn again.

    Raises:
        ConfigurationError: If a setting is out of its range.
    """

    def __init__(
        self,
        n_step: int = 1,
        alpha: float = 0.6,
        beta: float = 0.4,
        beta_env_steps: int | None = 100_000,
        min_priority: float = 1e-6,
    ) -> None:
        super().__init__(n_step)
        require(alpha >= 0, "data.sampler.alpha", alpha, "0 or more")
        require(0 <= beta <= 1, "data.sampler.beta", beta, "in [0, 1]")
        would_do = "at least 1, or null for none"
        require(beta_env_steps is None or beta_env_steps > 0, "data.sampler.beta_env_steps", beta_env_steps, would_do)
        require(min_priority > 0, "data.sampler.min_priority", min_priority, "positive")
        self.alpha = alpha
        self.beta = beta
        self.beta_env_steps = beta_env_steps
        self.min_priority = min_priority
        self._tree = SumTree(1)
        self._max_weight = 1.0  # of all that were ever written
        self._rows_seen = 0  # of those that the ring has added

    def __call__(self, ring: RingBuffer, batch_size: int, rng: np.random.Generator) -> TransitionBatch:
        """Returns a batch with ``weight_batch`` and ``slot_batch``."""
        slots = self.slots(ring, batch_size, rng)
        beta = self._beta_after(ring.num_added * ring.num_envs * ring.num_processes)
        weight = importance_weights(self._tree, slots, beta)
        return ring.transitions(slots, self.n_step)._replace(
            weight_batch=torch.from_numpy(weight[None]), slot_batch=torch.from_numpy(slots[None])
        )

    def slots(self, ring: RingBuffer, batch_size: int, rng: np.random.Generator) -> IntArray:
        """Returns [batch_size] int64 indices of slots, one from each of ``batch_size`` equal parts of the mass."""
        self._take_in_new_rows(ring)
        slots = self._tree.find(allotted_mass(self._tree, batch_size, rng))
        # Rounding may lead to a neighbour without a priority; SARSA's newest transition isn't one yet.
        while (redraw := np.flatnonzero((self._tree.weights[slots] == 0.0) | ~ring.is_transition(slots))).size:
            slots[redraw] = self._tree.find(rng.random(redraw.size) * self._tree.total)
        return slots

    def update_priorities(self, slots: IntArray, errors: FloatArray) -> None:
        """Writes the priorities of the transitions in ``slots`` ([B] int64) from their errors ([1, B], not < 0)."""
        weights = (errors.reshape(-1).astype(np.float64) + self.min_priority) ** self.alpha
        self._max_weight = max(self._max_weight, float(weights.max()))
        self._tree.update(slots, weights)

    def _beta_after(self, env_steps: int) -> float:
        if self.beta_env_steps is None:
            return self.beta
        return self.beta + (1.0 - self.beta) * min(1.0, env_steps / self.beta_env_steps)

    def _take_in_new_rows(self, ring: RingBuffer) -> None:
        """Gives the largest weight to what was stored since the last time, and none to what is no transition."""
        size = ring.num_rows * ring.num_envs
        if self._tree.size != size:
            self._tree = SumTree(size)
        new_slots = min(ring.num_added - self._rows_seen, ring.num_full_rows) * ring.num_envs
        self._rows_seen = ring.num_added
        if new_slots:
            slots = ring.slots(np.arange(1, new_slots + 1))
            self._tree.update(slots, np.where(ring.is_final_at(slots), 0.0, self._max_weight))
            lost = ring.lost_slots()
            self._tree.update(lost, np.zeros(lost.size))

    def state_dict(self) -> dict[str, Any]:
        """The priorities, and what is known of them."""
        weights = torch.from_numpy(self._tree.weights.copy())
        return {"weights": weights, "max_weight": self._max_weight, "rows_seen": self._rows_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        weights = state_dict["weights"].numpy()
        self._tree = SumTree(len(weights))
        self._tree.update(np.arange(len(weights)), weights)
        self._max_weight = state_dict["max_weight"]
        self._rows_seen = state_dict["rows_seen"]


def allotted_mass(tree: SumTree, batch_size: int, rng: np.random.Generator) -> FloatArray:
    """A random point in each of ``batch_size`` equal parts of the tree's mass (arXiv:1511.05952, appendix B.2.1)."""
    mass: FloatArray = (np.arange(batch_size) + rng.random(batch_size)) * (tree.total / batch_size)
    return mass


def importance_weights(tree: SumTree, slots: IntArray, beta: float) -> FloatArray:
    """``(N * P(i)) ** -beta``, divided by the largest in the batch (arXiv:1511.05952, section 3.4). [B] float32.

    What all have in common, N and the sum of the weights, the division cancels.
    """
    weight = tree.weights[slots]
    return np.asarray((weight / weight.min()) ** -beta, np.float32)


class RolloutSampler(Sampler):
    """The newest steps of all environments as they came, [length, num_envs]: for learning on-policy, without replay.

    With them comes what the agent's network carried into the first of them, if it remembers.

    Args:
        length: T, how many steps of each environment make a batch.

    Raises:
        ConfigurationError: If ``length`` isn't positive.
    """

    gives_windows = True

    def __init__(self, length: int = 32) -> None:
        require(length > 0, "data.sampler.length", length, "at least 1")
        self.length = length
        # What was carried into each of the newest rows, and its number: who knows where the next rollout starts?
        self._states: deque[tuple[int, torch.Tensor]] = deque(maxlen=length)

    def __call__(self, ring: RingBuffer, batch_size: int, rng: np.random.Generator) -> TransitionBatch:
        """Returns the newest rows; ``batch_size`` and ``rng`` are of no account."""
        first_row = ring.num_added - self.length
        states = (state.clone() for row, state in self._states if row == first_row)  # a clone can be learned from
        return ring.latest_rows(self.length)._replace(network_state=next(states, None))

    def keep_state(self, ring: RingBuffer, state: torch.Tensor | None, step: IntArray) -> None:
        """Keeps what the agent's network carries into the ring's head, [S, num_envs, ...]."""
        if state is not None:
            self._states.append((ring.num_added, state))

    def state_dict(self) -> dict[str, Any]:
        """The kept states and the rows that they belong to."""
        rows, states = [row for row, _ in self._states], [state for _, state in self._states]
        return {"rows": rows, "states": torch.stack(states).cpu() if states else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        if state_dict["rows"]:
            self._states.extend(zip(state_dict["rows"], state_dict["states"], strict=True))
