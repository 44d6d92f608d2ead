"""Samplers: index arithmetic that picks slots of the replay memory. A sampler holds no transitions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from seqrl_lightning.batches import Batch, Transitions
from seqrl_lightning.replay.ring import RingBuffer
from seqrl_lightning.replay.sum_tree import SumTree
from seqrl_lightning.saved_state import require_saved, saved, saved_tensor
from seqrl_lightning.types import FloatArray, IntArray, RunError, State, require

_MOST_ROUNDS = 100  # rounds in which slots are drawn again
_LARGEST_WEIGHT = 1e100  # of a priority


class Sampler(ABC):
    """A rule for drawing batches from the replay memory.

    Attributes:
        gives_windows: Whether batches are :class:`Windows` of consecutive rows, rather than :class:`Transitions`.
    """

    gives_windows: bool = False

    @abstractmethod
    def __call__(
        self,
        ring: RingBuffer,
        batch_size: int,
        rng: np.random.Generator,
        *,
        env_steps: int = 0,
        next_actions: bool = False,
    ) -> Batch:
        """Draw a batch.

        Args:
            ring: The replay memory, which isn't empty.
            batch_size: Number of transitions, or of windows.
            rng: The random stream to draw from.
            env_steps: Env steps taken so far, over all environments and processes.
            next_actions: Whether the batch has to hold the actions taken in the next states.
        """

    def keep_state(self, ring: RingBuffer, state: State, step: IntArray) -> None:  # noqa: B027  (only some need it)
        """Keep the state that the agent's network carries into the ring's head, if batches will need it.

        Args:
            ring: The replay memory; the network is about to read the row at its head.
            state: [S, num_envs, ...] float32, before the network reads that row; None if it carries nothing.
            step: [num_envs] int64, the number of steps taken so far in each environment's episode.
        """

    @property
    def draws_by_priority(self) -> bool:
        """Whether the errors of updates have to be written back by :meth:`update_priorities`."""
        return type(self).update_priorities is not Sampler.update_priorities

    def update_priorities(self, slots: IntArray, errors: FloatArray) -> None:  # noqa: B027  (only some have priorities)
        """Write new priorities, for samplers that draw by priority.

        Args:
            slots: [B] int64, the ``slot_batch`` of a batch.
            errors: [T, B] float, not negative; NaN where nothing was learned from.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the sampler's state, as tensors and primitives."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any], ring: RingBuffer) -> None:  # noqa: B027  (nothing by default)
        """Restore what ``state_dict`` returned.

        Args:
            state_dict: The state, which a stranger may have written.
            ring: The replay memory, restored as it was then.

        Raises:
            StateError: If no sampler of this ring has such a state.
        """


class TransitionSampler(Sampler):
    """A sampler of single transitions, by their slots.

    Args:
        n_step: The largest number of steps that a transition leads ahead within its episode (Sutton and Barto,
            section 7.1).

    Raises:
        ConfigurationError: If ``n_step`` isn't positive.
    """

    def __init__(self, n_step: int = 1) -> None:
        require(n_step > 0, "data.sampler.n_step", n_step, "at least 1")
        self.n_step = n_step

    def __call__(
        self,
        ring: RingBuffer,
        batch_size: int,
        rng: np.random.Generator,
        *,
        env_steps: int = 0,
        next_actions: bool = False,
    ) -> Transitions:
        """Draw a batch of transitions."""
        return ring.transitions(self.slots(ring, batch_size, rng, next_actions), self.n_step, next_actions)

    @abstractmethod
    def slots(
        self, ring: RingBuffer, batch_size: int, rng: np.random.Generator, next_actions: bool = False
    ) -> IntArray:
        """Return the indices of slots that hold transitions, [batch_size] int64."""


class UniformSampler(TransitionSampler):
    """A uniform sampler of all stored transitions, with replacement (Mnih et al., arXiv:1312.5602, algorithm 1)."""

    def slots(
        self, ring: RingBuffer, batch_size: int, rng: np.random.Generator, next_actions: bool = False
    ) -> IntArray:
        """Return the indices of slots that hold transitions, [batch_size] int64."""
        slots = _random_slots(ring, batch_size, rng)
        # Final observations are drawn like any slot, then drawn again: the cost doesn't grow with the ring.
        for _ in range(_MOST_ROUNDS):
            redraw = np.flatnonzero(~ring.is_transition(slots, next_actions))
            if not redraw.size:
                return slots
            slots[redraw] = _random_slots(ring, redraw.size, rng)
        return _listed_slots(ring, batch_size, rng, next_actions)


def _listed_slots(
    ring: RingBuffer, batch_size: int, rng: np.random.Generator, next_actions: bool, weights: FloatArray | None = None
) -> IntArray:
    """Draw from a list of all transitions by their weights: slow in a large ring, but it always ends."""
    slots = ring.slots(np.arange(1, ring.num_slots + 1))
    slots = slots[ring.is_transition(slots, next_actions)]
    weight = np.ones(len(slots)) if weights is None else weights[slots]
    if not 0.0 < weight.sum() < np.inf:
        raise RunError("the replay memory holds no transition that could be drawn: every episode in it broke")
    drawn: IntArray = rng.choice(slots, batch_size, p=weight / weight.sum())
    return drawn


def _random_slots(ring: RingBuffer, size: int, rng: np.random.Generator) -> IntArray:
    age = rng.random(size)  # `integers` costs several times as much
    age *= ring.num_slots
    return ring.slots(age.astype(np.int64) + 1)


class LatestSampler(TransitionSampler):
    """The newest transitions, oldest first, for learning online without replay."""

    def slots(
        self, ring: RingBuffer, batch_size: int, rng: np.random.Generator, next_actions: bool = False
    ) -> IntArray:
        """Return the indices of slots that hold transitions, [batch_size] int64; fewer if the ring holds fewer."""
        # A final observation is followed by a transition, so twice as many slots do, except after broken episodes.
        num_candidates = 2 * (batch_size + ring.num_envs)
        while True:
            newest_first = ring.slots(np.arange(1, min(num_candidates, ring.num_slots) + 1))
            found = newest_first[ring.is_transition(newest_first, next_actions)]
            if len(found) >= batch_size or num_candidates >= ring.num_slots:
                return found[:batch_size][::-1].copy()
            num_candidates *= 2


class PrioritizedSampler(TransitionSampler):
    """Transitions in proportion to ``priority ** alpha`` (Schaul et al., arXiv:1511.05952, proportional variant).

    A transition's priority is the size of its last error, as written by ``PriorityWriter``. A new transition gets the
    largest priority so far. Importance weights ``(N * P(i)) ** -beta``, divided by the largest in the batch, undo the
    bias (section 3.4). Where one training step takes several batches, all are drawn before any priority is written.

    Args:
        n_step: See :class:`TransitionSampler`.
        alpha: Strength of prioritization: 0 draws uniformly, 1 in proportion to the priority.
        beta: Initial strength of the correction, in [0, 1].
        beta_env_steps: Number of env steps over which beta grows linearly to 1; None keeps it constant.
        min_priority: Added to every error, so that every transition can be drawn again.

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
        must_be = "at least 1, or null for none"
        require(beta_env_steps is None or beta_env_steps > 0, "data.sampler.beta_env_steps", beta_env_steps, must_be)
        require(min_priority > 0, "data.sampler.min_priority", min_priority, "positive")
        self.alpha = alpha
        self.beta = beta
        self.beta_env_steps = beta_env_steps
        self.min_priority = min_priority
        self._tree = SumTree(1)
        self._max_weight = 1.0  # of all priorities ever written
        self._rows_seen = 0  # of the rows that the ring has added

    def __call__(
        self,
        ring: RingBuffer,
        batch_size: int,
        rng: np.random.Generator,
        *,
        env_steps: int = 0,
        next_actions: bool = False,
    ) -> Transitions:
        """Draw a batch with ``weight_batch`` and ``slot_batch``."""
        slots = self.slots(ring, batch_size, rng, next_actions)
        weight = importance_weights(self._tree, slots, self.beta_after(env_steps))
        return ring.transitions(slots, self.n_step, next_actions)._replace(
            weight_batch=torch.from_numpy(weight[None]), slot_batch=torch.from_numpy(slots[None])
        )

    def slots(
        self, ring: RingBuffer, batch_size: int, rng: np.random.Generator, next_actions: bool = False
    ) -> IntArray:
        """Return [batch_size] int64 indices of slots, one from each of ``batch_size`` equal parts of the mass."""
        self._index_new_rows(ring)
        slots = self._tree.find(stratified_mass(self._tree, batch_size, rng))
        # Rounding may lead to a neighbor without a priority, and a transition may still wait for its next action.
        for _ in range(_MOST_ROUNDS):
            is_drawn = (self._tree.weights[slots] > 0.0) & ring.is_transition(slots, next_actions)
            redraw = np.flatnonzero(~is_drawn)
            if not redraw.size:
                return slots
            slots[redraw] = self._tree.find(rng.random(redraw.size) * self._tree.total)
        return _listed_slots(ring, batch_size, rng, next_actions, self._tree.weights)

    def update_priorities(self, slots: IntArray, errors: FloatArray) -> None:
        """Write the priorities of the transitions in ``slots`` ([B] int64) from their errors ([1, B], not negative)."""
        weights = as_weights(errors.reshape(-1).astype(np.float64) + self.min_priority, self.alpha)
        self._max_weight = max(self._max_weight, float(weights.max()))
        self._tree.update(slots, weights)

    def beta_after(self, env_steps: int) -> float:
        """Return the strength of the correction after ``env_steps`` env steps, in [0, 1]."""
        if self.beta_env_steps is None:
            return self.beta
        return self.beta + (1.0 - self.beta) * min(1.0, env_steps / self.beta_env_steps)

    def _index_new_rows(self, ring: RingBuffer) -> None:
        """Give transitions stored since the last call the largest weight, and all other new slots none."""
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
        """Return the priorities, the largest one so far, and how much of the ring they cover."""
        weights = torch.from_numpy(self._tree.weights.copy())
        return {"weights": weights, "max_weight": self._max_weight, "rows_seen": self._rows_seen}

    def load_state_dict(self, state_dict: dict[str, Any], ring: RingBuffer) -> None:
        """Restore what ``state_dict`` returned; see :class:`Sampler`."""
        self._rows_seen = saved_rows(state_dict.get("rows_seen"), ring, "the sampler's rows_seen")
        self._max_weight = saved_max_weight(state_dict.get("max_weight"))
        self._tree = saved_tree(state_dict.get("weights"), self._rows_seen, ring, self._max_weight)
        age = np.arange((ring.num_added - self._rows_seen) * ring.num_envs, ring.num_slots) + 1
        seen = ring.slots(age)
        weights = self._tree.weights[seen[ring.is_transition(seen)]]
        can_draw = not weights.size or bool(weights.any())
        require_saved(can_draw, "the sampler's weights", weights, "positive where a transition is stored")


def saved_rows(value: object, ring: RingBuffer, name: str) -> int:
    """Return a saved number of rows, which the ring must have added."""
    num_rows = saved(value, int, name)
    require_saved(0 <= num_rows <= ring.num_added, name, num_rows, f"in [0, {ring.num_added}], the rows added so far")
    return num_rows


def as_weights(priorities: FloatArray, alpha: float) -> FloatArray:
    """Return ``priorities ** alpha``, bounded so that no sum of them overflows: an infinite sum can't be drawn from."""
    with np.errstate(over="ignore"):
        weights: FloatArray = np.minimum(priorities**alpha, _LARGEST_WEIGHT)
    return weights


def saved_max_weight(value: object) -> float:
    """Return the saved largest of all weights that were ever written, which are 1 at first."""
    weight, must_be = saved(value, float, "the sampler's max_weight"), f"in [1, {_LARGEST_WEIGHT:g}]"
    require_saved(1.0 <= weight <= _LARGEST_WEIGHT, "the sampler's max_weight", weight, must_be)
    return weight


def saved_tree(weights: object, rows_seen: int, ring: RingBuffer, max_weight: float) -> SumTree:
    """Return a tree of saved weights, one for each of the ring's slots; of one slot before the first row was seen."""
    name, size = "the sampler's weights", ring.num_rows * ring.num_envs if rows_seen else 1
    found = saved_tensor(weights, (size,), torch.float64, name).numpy()
    require_saved(bool(np.all((found >= 0) & (found <= max_weight))), name, found, f"in [0, {max_weight:g}]")
    tree = SumTree(size)
    tree.update(np.arange(size), found)
    return tree


def stratified_mass(tree: SumTree, batch_size: int, rng: np.random.Generator) -> FloatArray:
    """Draw a point from each of ``batch_size`` equal parts of the tree's mass (arXiv:1511.05952, appendix B.2.1)."""
    mass: FloatArray = (np.arange(batch_size) + rng.random(batch_size)) * (tree.total / batch_size)
    return mass


def importance_weights(tree: SumTree, slots: IntArray, beta: float) -> FloatArray:
    """Return ``(N * P(i)) ** -beta``, divided by the largest in the batch (arXiv:1511.05952, section 3.4).

    N and the sum of the weights are common to all, so that the division cancels them.

    Args:
        tree: The weights that slots are drawn by.
        slots: [B] int64.
        beta: Strength of the correction, in [0, 1].

    Returns:
        [B] float32.
    """
    weight = tree.weights[slots]
    return np.asarray((weight / weight.min()) ** -beta, np.float32)


def saved_states(value: object, shape: Sequence[int | None]) -> torch.Tensor:
    """Return saved states of a network, whose shape begins with ``shape``."""
    more = value.dim() - len(shape) if isinstance(value, torch.Tensor) else 0
    return saved_tensor(value, (*shape, *[None] * more), torch.float32, "the sampler's states")
