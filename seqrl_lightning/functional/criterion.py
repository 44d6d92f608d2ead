"""The criterion for having learned a rule, and the number of episodes that it takes."""

from torch import Tensor

CRITERION_EPISODES = 5
"""Number of mastered episodes in a row that meet the criterion."""


def is_mastered(returns: Tensor, mastery_return: float) -> Tensor:
    """Whether each episode was mastered: its return is at least ``mastery_return``, up to rounding.

    Args:
        returns: [E] float, the undiscounted return of each episode.
        mastery_return: The return of a mastered episode: the best that the task allows
            (:attr:`seqrl_lightning.metrics.TaskFacts.mastery_return`).

    Returns:
        [E] bool; false where the return is NaN.

    >>> import torch
    >>> is_mastered(torch.tensor([9.0, 8.0]), mastery_return=9.0)
    tensor([ True, False])
    """
    return returns >= mastery_return - 1e-6 * max(1.0, abs(mastery_return))


def episodes_to_criterion(returns: Tensor, mastery_return: float) -> int | None:
    """Count the episodes until the criterion: the first of five mastered training episodes in a row.

    This is the one definition of the criterion. TensorBoard, reports, README and benchmarks all call this function.
    A run of mastered episodes is chosen rather than a mean over a window because it needs nothing but returns, so that
    it means the same in every task, and because a failure in the middle of it can't be averaged away. Exploration
    counts against the learner: an episode that a random action spoiled is not mastered. Where one rule follows another,
    each block has a criterion of its own, counted from the block's first episode.

    Args:
        returns: [E] float, the returns of one block's training episodes in all environments and processes, in the
            order in which the episodes ended.
        mastery_return: The return of a mastered episode.

    Returns:
        The number of the first of the five episodes, counted from 1: 1 if the block was mastered from its first
        episode on. None if the criterion was not met.

    >>> import torch
    >>> episodes_to_criterion(torch.tensor([9.0, 3.0, 9.0, 9.0, 9.0, 9.0, 9.0, 2.0]), mastery_return=9.0)
    3
    >>> episodes_to_criterion(torch.tensor([9.0, 9.0, 9.0, 9.0]), mastery_return=9.0) is None
    True
    """
    if len(returns) < CRITERION_EPISODES:
        return None
    begins = is_mastered(returns, mastery_return).unfold(0, CRITERION_EPISODES, 1).all(1)
    return int(begins.int().argmax()) + 1 if begins.any() else None


def savings(episodes: Tensor) -> Tensor:
    """Fraction of the first block's episodes to criterion that each later block saves: ``1 - episodes / first``.

    Savings of 0.5 mean that relearning took half as long as learning; below 0, it took longer.

    Args:
        episodes: [..., blocks] float, episodes to criterion (:func:`episodes_to_criterion`); NaN where it was not met.

    Returns:
        [..., blocks - 1] float; NaN where one of the two blocks did not meet the criterion.

    >>> import torch
    >>> savings(torch.tensor([20.0, 10.0, 50.0]))
    tensor([ 0.5000, -1.5000])
    """
    return 1 - episodes[..., 1:] / episodes[..., :1]
