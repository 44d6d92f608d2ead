"""What the agent's choices say about learning, summed over environments and processes.

Each is told of whole episodes (:class:`seqrl_lightning.types.Choices`) and computes numbers by the names of their
curves in TensorBoard, NaN where there is nothing to tell yet.
"""

import torch
from torch import Tensor
from torchmetrics import Metric

from seqrl_lightning.functional import (
    CRITERION_WINDOW,
    ERROR_KINDS,
    choice_counts,
    completion,
    error_kinds,
    savings,
    swap_counts,
    trials_to_criterion,
)
from seqrl_lightning.types import Choices, Order


class Completion(Metric):
    """Mean completion of episodes (:func:`seqrl_lightning.functional.completion`).

    Args:
        num_picks: How many objects complete the sequence; None for tasks without one.
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
        """Adds episodes."""
        values = completion(choices, self.num_picks)
        self.total += values.sum()
        self.count += len(values)

    def compute(self) -> dict[str, Tensor]:
        """Returns ``learning/completion``, in [0, 1]."""
        return {"learning/completion": self.total / self.count}


class PositionAccuracy(Metric):
    """The fraction of right choices at each serial position, random ones included.

    Args:
        num_positions: Positions from there on are left out.
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
        """Adds episodes."""
        is_right = (choices.action == choices.correct_action).long()
        wrong, right = choice_counts(choices.position, is_right, self.num_positions, 2).unbind(1)
        self.right += right
        self.count += wrong + right

    def compute(self) -> dict[str, Tensor]:
        """Returns ``learning/accuracy/position_1`` and so on, in [0, 1]."""
        return {f"learning/accuracy/position_{k + 1}": value for k, value in enumerate(self.right / self.count)}


class ErrorShares(Metric):
    """The share of each kind of error in all choices (:func:`seqrl_lightning.functional.error_kinds`).

    Args:
        num_objects: Higher actions are distractors.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_objects: int) -> None:
        super().__init__()
        self.num_objects = num_objects
        # The last one counts right choices.
        self.add_state("counts", torch.zeros(len(ERROR_KINDS) + 1, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, choices: Choices) -> None:
        """Adds episodes."""
        kinds = error_kinds(choices, self.num_objects) % len(self.counts)
        self.counts += torch.bincount(kinds, minlength=len(self.counts))

    def compute(self) -> dict[str, Tensor]:
        """Returns ``errors/exploration`` and so on, the share of each of ``ERROR_KINDS`` in [0, 1]."""
        shares = self.counts[:-1] / self.counts.sum()
        return {f"errors/{kind}": share for kind, share in zip(ERROR_KINDS, shares, strict=True)}


class SwapInference(Metric):
    """What follows a switch of the order (:func:`seqrl_lightning.functional.swap_counts`).

    Args:
        order: The objects' orders, by block.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, order: Order) -> None:
        super().__init__()
        self.order = order
        shape = (4, len(order.sequences))
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, choices: Choices) -> None:
        """Adds episodes."""
        self.counts += swap_counts(choices, self.order)

    def compute(self) -> dict[str, Tensor]:
        """Returns ``errors/anticipated_swap`` and ``errors/ordinal_inference``, in [0, 1], over all later blocks."""
        came, at_once, tried_old, then_new = self.counts.sum(1)
        return {"errors/anticipated_swap": at_once / came, "errors/ordinal_inference": then_new / tried_old}


class TrialsToCriterion(Metric):
    """Trials to criterion in each block, and savings, means over the environments that have met it.

    See :func:`seqrl_lightning.functional.trials_to_criterion` and :func:`~seqrl_lightning.functional.savings`.

    Args:
        num_envs: Environments of this process.
        num_blocks: Blocks of the task, at least 1.
        num_picks: How many objects complete the sequence; None for tasks without one.
    """

    full_state_update = False
    count: Tensor  # [num_envs, num_blocks] episodes so far
    recent: Tensor  # [num_envs, num_blocks, CRITERION_WINDOW - 1] completion of the last ones
    found: Tensor  # [num_envs, num_blocks] trials to criterion; NaN as long as it isn't met

    def __init__(self, num_envs: int, num_blocks: int, num_picks: int | None) -> None:
        super().__init__()
        self.num_picks = num_picks
        shape = (num_envs, num_blocks)
        nothing = torch.full((*shape, CRITERION_WINDOW - 1), torch.nan, dtype=torch.float64)
        self.add_state("count", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx=_side_by_side)
        self.add_state("recent", nothing, dist_reduce_fx=_side_by_side)
        self.add_state("found", nothing[..., 0].clone(), dist_reduce_fx=_side_by_side)

    def update(self, choices: Choices) -> None:
        """Adds episodes."""
        values = completion(choices, self.num_picks)
        starts = torch.ones_like(choices.episode, dtype=torch.bool)
        starts[1:] = choices.episode[1:] != choices.episode[:-1]
        env, block = choices.env[starts], choices.block[starts]
        for e, b in sorted(set(zip(env.tolist(), block.tolist(), strict=True))):
            of_it = values[(env == e) & (block == b)]
            series = torch.cat([self.recent[e, b], of_it])
            if self.found[e, b].isnan() and (trial := trials_to_criterion(series)) is not None:
                self.found[e, b] = self.count[e, b] - self.recent.shape[-1] + trial
            self.recent[e, b] = series[len(of_it) :]
            self.count[e, b] += len(of_it)

    def compute(self) -> dict[str, Tensor]:
        """Returns ``learning/trials_to_criterion/block_0`` and so on, ``learning/savings/block_1`` and so on."""
        trials, saved = self.found.nanmean(0), savings(self.found).nanmean(0)
        return {
            **{f"learning/trials_to_criterion/block_{k}": value for k, value in enumerate(trials)},
            **{f"learning/savings/block_{k + 1}": value for k, value in enumerate(saved)},
        }


def _side_by_side(states: Tensor) -> Tensor:
    """The environments of all processes: ``[processes, num_envs, ...] -> [processes * num_envs, ...]``."""
    return states.flatten(0, 1)


class PositionConfusion(Metric):
    """How often each object was chosen at each position, and which were right there.

    Args:
        num_positions: Positions from there on are left out.
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
        """Adds episodes."""
        self.counts += choice_counts(choices.position, choices.action, *self.counts.shape)
        self.right += choice_counts(choices.position, choices.correct_action, *self.right.shape)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Returns the shares [P, A] float of each position's choices, and [P, A] bool, what was right there.

        P is one more than the last position that was seen.
        """
        seen = self.counts.any(1).nonzero()
        counts = self.counts[: int(seen.max()) + 1] if len(seen) else self.counts[:0]
        return counts / counts.sum(1, keepdim=True).clamp(min=1), self.right[: len(counts)] > 0
