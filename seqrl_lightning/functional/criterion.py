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


def episodes_without_criterion(num_episodes: Tensor) -> Tensor:
    """Return how many of a block's first episodes are known not to begin the criterion, if it was not met.

    The criterion is known to begin later than this: the last four episodes could still be the first of five. It is the
    time at which a block that did not meet the criterion is censored, so that it counts as slow in medians and tests
    and is not dropped.

    Args:
        num_episodes: [...] number of the block's training episodes.

    Returns:
        [...] of the same dtype, at least 0.

    >>> import torch
    >>> episodes_without_criterion(torch.tensor([100, 3]))
    tensor([96,  0])
    """
    return (num_episodes - (CRITERION_EPISODES - 1)).clamp(min=0)


def episodes_to_criterion_by_chance(mastered: float) -> float:
    """Compute the expected episodes to criterion of a learner that never learns.

    The mean number of episodes up to the end of the first five successes in a row is ``(1 - p^5) / ((1 - p) p^5)``
    (Feller, 1968, section XIII.7); the first of the five is four earlier. In a task of one choice between two actions
    the criterion is met by chance within about 60 episodes, so that it says little about learning there.

    Args:
        mastered: The probability p that an episode is mastered by chance, in [0, 1].

    Returns:
        The expected number; infinite for p = 0.

    >>> [episodes_to_criterion_by_chance(p) for p in (0.5, 0.25, 1.0, 0.0)]
    [58.0, 1360.0, 1.0, inf]
    """
    if mastered == 0:
        return float("inf")
    successes = sum(mastered**-k for k in range(1, CRITERION_EPISODES + 1))  # the same, and defined for p = 1
    return successes - (CRITERION_EPISODES - 1)


def savings(episodes: Tensor) -> Tensor:
    """Compare a later block's episodes to criterion with the first block's: ``(first - later) / max(first, later)``.

    Where relearning is faster, this is Ebbinghaus's savings, the fraction of the first block's episodes that are saved.
    Where it is slower, it is the negative of the same fraction of the later block's episodes, so that a block which was
    learned in few episodes can't make it a number like -16: it lies in (-1, 1), and swapping the blocks changes its
    sign. 0.5 means that relearning took half as long, -0.5 twice as long.

    Args:
        episodes: [..., blocks] float, episodes to criterion (:func:`episodes_to_criterion`); NaN where it was not met.

    Returns:
        [..., blocks - 1] float; NaN where one of the two blocks did not meet the criterion, and where the first block
        met it in its first episode: there was nothing to learn, so nothing could be saved.

    >>> import torch
    >>> savings(torch.tensor([20.0, 10.0, 80.0]))
    tensor([ 0.5000, -0.7500])
    >>> savings(torch.tensor([1.0, 17.0]))
    tensor([nan])
    """
    first, later = episodes[..., :1], episodes[..., 1:]
    saved = (first - later) / first.maximum(later)
    return saved.where(first > 1, saved.new_tensor(float("nan")))
