"""Batches to learn from: single transitions, windows of consecutive rows, and transitions whose targets are fixed."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, NotRequired, TypedDict, TypeVar

import torch
from torch import Tensor

from seqrl_lightning.types import ConfigurationError, State

Reader = Callable[..., tuple[Tensor, State]]
"""A network, or a part of one: ``(observation [T, B, *obs], state, is_first) -> ([T, B, ...], state)``."""


class Transitions(NamedTuple):
    """B single transitions in no particular order, laid out as one row ``[1, B]``, as networks read ``[T, B]``.

    With n-step returns the next state lies up to n steps ahead. A column that nobody asked for is None.
    """

    state_batch: Tensor  # [1, B, *obs], dtype of the observation space
    action_batch: Tensor  # [1, B] int64
    reward_batch: Tensor  # [1, B, n] float32: the rewards on the way to the next state, then 0
    next_state_batch: Tensor  # [1, B, *obs]: at an episode's end, its final observation
    terminated_batch: Tensor  # [1, B] bool: false where the episode was only truncated
    num_steps_batch: Tensor | None = None  # [1, B] int64 in [1, n]: steps to the next state; None: one
    action_mask_batch: Tensor | None = None  # [1, B, A] bool: the actions that the state allows
    next_action_mask_batch: Tensor | None = None  # [1, B, A] bool: the actions that the next state allows
    next_action_batch: Tensor | None = None  # [1, B] int64: taken in the next state; -1 at an episode's end
    epsilon_batch: Tensor | None = None  # [1, B] float32: the behavior policy's current epsilon
    weight_batch: Tensor | None = None  # [1, B] float32: weights in the loss; None: all 1
    slot_batch: Tensor | None = None  # [1, B] int64, on the CPU: where the replay memory keeps their priorities

    def read(self, net: Reader) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return a network's outputs for the states and for the next states, and the next states' action masks.

        Args:
            net: A network, or a part of one.

        Returns:
            [1, B, ...] of the states; [1, B, ...] of the next states, without a gradient; [1, B, A] bool, or None if
            the task allows every action.
        """
        outputs = self.read_states(net)
        with torch.no_grad():
            next_outputs, next_mask = self.read_next_states(net)
        return outputs, next_outputs, next_mask

    def read_states(self, net: Reader) -> Tensor:
        """Return a network's outputs for the states, [1, B, ...]."""
        return net(self.state_batch)[0]

    def read_next_states(self, net: Reader) -> tuple[Tensor, Tensor | None]:
        """Return a network's outputs for the next states, [1, B, ...], and their action masks, [1, B, A] or None."""
        return net(self.next_state_batch)[0], self.next_action_mask_batch

    def map(self, function: Callable[[Tensor], Tensor]) -> "Transitions":
        """Return the batch with ``function`` applied to every column that is there."""
        return Transitions._make(None if column is None else function(column) for column in self)

    def split(self, parts: int) -> Iterator["Transitions"]:
        """Divide the batch into equal parts, in its order."""
        columns = ([None] * parts if column is None else column.chunk(parts, dim=1) for column in self)
        return (Transitions(*part) for part in zip(*columns, strict=True))


class Windows(NamedTuple):
    """B windows of consecutive rows, each of one environment: P rows of burn-in, T rows to learn from, and one more.

    A network reads a window from its first row to its last. Transition t leads from row P + t to the row
    ``num_steps_batch[t]`` below it, so that a window needs no column of next states. Rows may belong to several
    episodes, with a final observation between two of them; what starts there isn't a transition, and has no weight.
    """

    observation: Tensor  # [P + T + 1, B, *obs], dtype of the observation space
    is_first: Tensor  # [P + T + 1, B] bool, on the CPU except in a CUDA graph: an episode starts with the row
    previous_action: Tensor  # [P + T + 1, B] int64: the action that led to the row; -1 where an episode starts
    previous_reward: Tensor  # [P + T + 1, B] float32: the reward that came with it; 0 where an episode starts
    action_batch: Tensor  # [T, B] int64
    reward_batch: Tensor  # [T, B, n] float32: the rewards on the way to the next state, then 0
    terminated_batch: Tensor  # [T, B] bool: false where the episode was only truncated
    weight_batch: Tensor  # [T, B] float32: weights in the loss; 0 where no transition starts
    num_steps_batch: Tensor | None = None  # [T, B] int64 in [1, n]: steps to the next state; None: one
    action_mask: Tensor | None = None  # [T + 1, B, A] bool: the actions that rows P to P + T allow
    next_action_batch: Tensor | None = None  # [T, B] int64: taken in the next state; -1 at an episode's end
    epsilon_batch: Tensor | None = None  # [T, B] float32: the behavior policy's current epsilon
    slot_batch: Tensor | None = None  # [1, B] int64, on the CPU: where the replay memory keeps their priorities
    network_state: Tensor | None = None  # [S, B, ...] float32: what the network carries into the first row

    @property
    def burn_in(self) -> int:
        """P, the number of rows that only bring the network's state up to date."""
        return len(self.observation) - len(self.action_batch) - 1

    @property
    def state_batch(self) -> Tensor:
        """The states that transitions start from, [T, B, *obs]."""
        return self.observation[self.burn_in : -1]

    @property
    def action_mask_batch(self) -> Tensor | None:
        """The actions that those states allow, [T, B, A] bool, or None if the task allows every action."""
        return None if self.action_mask is None else self.action_mask[:-1]

    @property
    def is_last_batch(self) -> Tensor:
        """Rows after which no transition follows, because the episode or the window ends, [T, B] bool."""
        is_last = torch.ones_like(self.terminated_batch)
        is_last[:-1] = self.weight_batch[1:] == 0
        return is_last

    def read(self, net: Reader) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return a network's outputs for the states and for the next states, and the next states' action masks.

        The network reads each window once; the burn-in gets no gradient.

        Args:
            net: A network, or a part of one.

        Returns:
            [T, B, ...] of the states; [T, B, ...] of the next states, without a gradient; [T, B, A] bool, or None if
            the task allows every action.
        """
        network_state, burn_in = self.network_state, self.burn_in
        if burn_in:
            with torch.no_grad():
                _, network_state = net(self.observation[:burn_in], network_state, self._starts(0, burn_in))
        rows = self.observation[burn_in:]
        outputs, _ = net(rows, network_state, self._starts(burn_in, len(self.observation)))  # [T + 1, B, ...]
        return outputs[:-1], self._of_next_states(outputs.detach()), self._next_action_mask()

    def read_states(self, net: Reader) -> Tensor:
        """Return a network's outputs for the states, [T, B, ...]."""
        return self.read(net)[0]

    def read_next_states(self, net: Reader) -> tuple[Tensor, Tensor | None]:
        """Return a network's outputs for the next states, [T, B, ...], and their action masks, [T, B, A] or None."""
        return self.read(net)[1:]

    def _starts(self, first: int, end: int) -> Tensor | None:
        """Return ``is_first`` of some rows, or None if no episode starts in them: a network then has nothing to check.

        A compiled function can't branch on values, and a device would have to be waited for.
        """
        is_first = self.is_first[first:end]
        is_unseen = torch.compiler.is_compiling() or is_first.device.type != "cpu"
        return is_first if is_unseen or is_first.any() else None

    def _next_action_mask(self) -> Tensor | None:
        return None if self.action_mask is None else self._of_next_states(self.action_mask)

    def _of_next_states(self, rows: Tensor) -> Tensor:
        """Pick for each transition the row of its next state. ``[T + 1, B, ...] -> [T, B, ...]``."""
        if self.num_steps_batch is None:
            return rows[1:]
        next_row = torch.arange(len(rows) - 1, device=rows.device)[:, None] + self.num_steps_batch
        index = next_row.reshape(*next_row.shape, *[1] * (rows.dim() - 2)).expand(*next_row.shape, *rows.shape[2:])
        return rows.gather(0, index)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Windows":
        """Return the batch with ``function`` applied to every column that is there."""
        return Windows._make(None if column is None else function(column) for column in self)

    def split(self, parts: int) -> Iterator["Windows"]:
        """Divide the batch into equal parts, in its order."""
        columns = ([None] * parts if column is None else column.chunk(parts, dim=1) for column in self)
        return (Windows(*part) for part in zip(*columns, strict=True))


class Minibatch(NamedTuple):
    """Transitions with their targets: B sequences side by side, or B single transitions in a row (T = 1)."""

    states: Tensor  # [T, B, *obs]
    actions: Tensor  # [T, B] int64
    targets: Tensor  # [T, B] float32
    weights: Tensor | None = None  # [T, B] float32, 0 where no transition starts; None: all 1
    is_first: Tensor | None = None  # [T, B] bool
    network_state: Tensor | None = None  # [S, B, ...]

    def columns(self, indices: Tensor, device_indices: Tensor) -> "Minibatch":
        """Return some of the sequences.

        Args:
            indices: [b] int64, on the CPU.
            device_indices: The same on the device.
        """
        choices = {indices.device: indices, device_indices.device: device_indices}
        return Minibatch._make(
            None if column is None else column.index_select(1, choices[column.device]) for column in self
        )

    def filled_up(self, size: int, multiple: int) -> "Minibatch":
        """Return more single transitions with the same loss: some are repeated, without a weight.

        Minibatches then have few sizes, whatever the number of transitions in a rollout.

        Args:
            size: The smallest number of transitions.
            multiple: The number that a larger one is a multiple of.
        """
        present = self.actions.shape[1]
        missing = size - present if present <= size else -present % multiple
        weights = torch.ones_like(self.targets) if self.weights is None else self.weights
        index = torch.arange(present + missing, device=self.actions.device) % present
        states, actions, targets = (column.index_select(1, index) for column in self[:3])
        return Minibatch(states, actions, targets, torch.nn.functional.pad(weights, (0, missing)))


Batch = Transitions | Windows
"""A batch of the dataset."""

BatchT = TypeVar("BatchT", bound=tuple[Tensor | None, ...])
"""The kind of batch that one update learns from: :data:`Batch`, :class:`Minibatch`, or one of a learner's own."""


class Update(TypedDict):
    """The results of one update of a learner."""

    loss: Tensor  # [] float
    state_action_values: Tensor  # [T, B] float, detached: what the network predicted
    expected_state_action_values: Tensor  # [T, B] float: what it should have predicted
    priority_batch: NotRequired[Tensor]  # [T, B] float, not negative, detached: for prioritized replay
    is_outside_support: NotRequired[Tensor]  # [T, B] bool: targets that a fixed support can't represent (C51)


def loss_of(update: Update) -> Tensor:
    """Return the loss of what ``optimize_model`` returned.

    Raises:
        ConfigurationError: If it returned anything else than an :class:`Update`.
    """
    if isinstance(update, dict) and Update.__required_keys__ <= update.keys():
        return update["loss"]
    named = sorted(update) if isinstance(update, dict) else type(update).__name__
    must_be = f"a dict with {', '.join(sorted(Update.__required_keys__))}; summary() makes it"
    raise ConfigurationError(f"what optimize_model returns is {named}; it must be {must_be}")


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch to a device without waiting for it; the columns that are read on the CPU stay there.

    Args:
        batch: The batch.
        device: The CPU, where the batch stays as it is, or another device.
    """
    if device.type == "cpu":
        return batch

    def pinned(column: Tensor) -> Tensor:  # a copy is asynchronous from pinned memory only
        needs_pinning = device.type == "cuda" and column.device.type == "cpu"
        return column.pin_memory() if needs_pinning else column

    def moved(column: Tensor) -> Tensor:
        return pinned(column).to(device, non_blocking=True)

    if isinstance(batch, Windows):  # a network looks at is_first before it copies it
        return batch.map(moved)._replace(slot_batch=batch.slot_batch, is_first=pinned(batch.is_first))
    return batch.map(moved)._replace(slot_batch=batch.slot_batch)
