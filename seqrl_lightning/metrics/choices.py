"""Metrics of the agent's choices, summed over environments and processes.

Each metric is updated with the choices of whole episodes (:class:`seqrl_lightning.types.Choices`) and computes numbers
under the names of their curves in TensorBoard; NaN where there is nothing to measure yet.
"""

import torch
from torch import Tensor
from torchmetrics import Metric

from seqrl_lightning.functional import (
    ERROR_KINDS,
    choice_counts,
    completion,
    error_kinds,
    follows_previous_order,
    swap_counts,
)
from seqrl_lightning.types import Choices, Order


class Completion(Metric):
    """Mean completion of episodes (:func:`seqrl_lightning.functional.completion`).

    Args:
        num_picks: Number of objects that complete the sequence; None for tasks without one.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, num_picks: int | None) -> None:
        super().__init__()
        self.num_picks = num_picks
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, choices: Choices) -> None:
        """Add episodes."""
        values = completion(choices, self.num_picks)
        self.total += values.sum()
        self.count += len(values)

    def compute(self) -> dict[str, Tensor]:
        """Return ``learning/completion``, in [0, 1]."""
        return {"learning/completion": self.total / self.count}


class PositionAccuracy(Metric):
    """Fraction of right choices at each serial position; random choices count like all others.

    Args:
        num_positions: Number of positions to measure; later ones are left out.
    """

    full_state_update = False
    right: Tensor
    count: Tensor

    def __init__(self, num_positions: int) -> None:
        super().__init__()
        self.num_positions = num_positions
        for name in ("right", "count"):
            self.add_state(name, torch.zeros(num_positions, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, choices: Choices) -> None:
        """Add episodes."""
        is_right = (choices.action == choices.correct_action).long()
        wrong, right = choice_counts(choices.position, is_right, self.num_positions, 2).unbind(1)
        self.right += right
        self.count += wrong + right

    def compute(self) -> dict[str, Tensor]:
        """Return ``learning/position_1/accuracy`` and so on, in [0, 1]."""
        return {f"learning/position_{k + 1}/accuracy": value for k, value in enumerate(self.right / self.count)}


class ErrorShares(Metric):
    """Share of each kind of error in all choices (:func:`seqrl_lightning.functional.error_kinds`).

    Args:
        num_objects: Number of objects in the sequence; higher actions are distractors.
    """

    full_state_update = False
    counts: Tensor  # [len(ERROR_KINDS) + 1] int64; the last one counts right choices

    def __init__(self, num_objects: int) -> None:
        super().__init__()
        self.num_objects = num_objects
        self.add_state("counts", torch.zeros(len(ERROR_KINDS) + 1, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, choices: Choices) -> None:
        """Add episodes."""
        kinds = error_kinds(choices, self.num_objects) % len(self.counts)
        self.counts += torch.bincount(kinds, minlength=len(self.counts))

    def compute(self) -> dict[str, Tensor]:
        """Return ``learning/errors/exploration`` and so on: the share of each of ``ERROR_KINDS``, in [0, 1]."""
        shares = self.counts[:-1] / self.counts.sum()
        return {f"learning/errors/{kind}": share for kind, share in zip(ERROR_KINDS, shares, strict=True)}


class SwitchErrors(Metric):
    """Errors that follow the order of the block before, and inference from a swap.

    See :func:`seqrl_lightning.functional.follows_previous_order` and :func:`~seqrl_lightning.functional.swap_counts`.

    Args:
        order: The objects' orders, by block.
    """

    full_state_update = False
    previous: Tensor  # [] int64: errors that follow the order of the block before
    count: Tensor  # [] int64: choices
    swaps: Tensor  # [4, blocks] int64, as swap_counts returns them

    def __init__(self, order: Order) -> None:
        super().__init__()
        self.order = order
        shape = (4, len(order.sequences))
        for name in ("previous", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("swaps", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, choices: Choices) -> None:
        """Add episodes."""
        self.previous += follows_previous_order(choices, self.order).sum()
        self.count += len(choices.action)
        self.swaps += swap_counts(choices, self.order)

    def compute(self) -> dict[str, Tensor]:
        """Return ``learning/errors/previous_order``, ``anticipated_swap`` and ``ordinal_inference``, in [0, 1]."""
        reached, at_once, tried_old, then_new = self.swaps.sum(1)
        return {
            "learning/errors/previous_order": self.previous / self.count,
            "learning/errors/anticipated_swap": at_once / reached,
            "learning/errors/ordinal_inference": then_new / tried_old,
        }


class PositionConfusion(Metric):
    """Share of each object in the choices at each position, and the objects that were right there.

    Args:
        num_positions: Number of positions to measure; later ones are left out.
        n_actions: Number of actions.
    """

    full_state_update = False
    counts: Tensor
    right: Tensor

    def __init__(self, num_positions: int, n_actions: int) -> None:
        super().__init__()
        for name in ("counts", "right"):
            self.add_state(name, torch.zeros(num_positions, n_actions, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, choices: Choices) -> None:
        """Add episodes."""
        self.counts += choice_counts(choices.position, choices.action, *self.counts.shape)
        self.right += choice_counts(choices.position, choices.correct_action, *self.right.shape)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the shares and the right objects, [P, A] float and [P, A] bool.

        P is one more than the last position that occurred.
        """
        seen = self.counts.any(1).nonzero()
        counts = self.counts[: int(seen.max()) + 1] if len(seen) else self.counts[:0]
        return counts / counts.sum(1, keepdim=True).clamp(min=1), self.right[: len(counts)] > 0
