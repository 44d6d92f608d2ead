"""What choices say about learning: how far episodes came, what kind of error each was, when a criterion was met."""

import torch
from torch import Tensor

from seqrl_lightning.types import Choices, Order

CRITERION, CRITERION_WINDOW = 0.8, 4  # of completion, and how many episodes it is held for
ERROR_KINDS = ("exploration", "rule_breaking", "perseverative", "distractor")


def completion(choices: Choices, num_picks: int | None) -> Tensor:
    """How much of the sequence each episode reached, or without a sequence how many of its answers were right.

    Args:
        choices: M of them, in E episodes.
        num_picks: How many objects complete the sequence; None for tasks without one.

    Returns:
        [E] float64, in [0, 1].
    """
    is_right = choices.action == choices.correct_action
    counts = torch.bincount(choices.episode)
    if num_picks is None:
        return torch.bincount(choices.episode[is_right], minlength=len(counts)).double() / counts
    reached = torch.zeros_like(counts).scatter_reduce(0, choices.episode, choices.position + is_right, "amax")
    return reached.double() / num_picks


def trials_to_criterion(completion: Tensor) -> int | None:
    """The first trial i, from 1, with completion(i) >= 0.8 and a mean over i..i+3 of at least 0.8; None if never.

    Args:
        completion: [trials] float, of one block, in order; a trial is an episode. Those that lack followers are not
            looked at, nor are windows that hold a NaN.
    """
    if len(completion) < CRITERION_WINDOW:
        return None
    windows = completion.unfold(0, CRITERION_WINDOW, 1)
    mastered = (windows[:, 0] >= CRITERION) & (windows.mean(1) >= CRITERION - 1e-12)
    return int(mastered.int().argmax()) + 1 if mastered.any() else None


def savings(criterion: Tensor) -> Tensor:
    """What relearning saves of the first block's trials: ``1 - trials(block) / trials(first)``; below 0 it cost more.

    Args:
        criterion: [..., blocks] float, trials to criterion; NaN where it was never met.

    Returns:
        [..., blocks - 1] float.
    """
    return 1 - criterion[..., 1:] / criterion[..., :1]


def choice_counts(position: Tensor, action: Tensor, num_positions: int, n_actions: int) -> Tensor:
    """How often each action was chosen at each of the first positions. [num_positions, n_actions] int64.

    Args:
        position: [M] int64.
        action: [M] int64.
        num_positions: Positions from there on are left out.
        n_actions: Number of actions.
    """
    index = (position * n_actions + action)[position < num_positions]
    return torch.bincount(index, minlength=num_positions * n_actions).view(num_positions, n_actions)


def error_kinds(choices: Choices, num_objects: int) -> Tensor:
    """What kind of error each choice was, as laboratories tell them by what came before in the trial (the episode).

    - ``distractor``: an object that is never right.
    - ``perseverative``: repeats a wrong choice: the one just made, or an earlier one at the same position.
    - ``rule_breaking``: an error has set back, and the last right object, which has to be chosen again, was not.
    - ``exploration``: any other: a wrong object that is tried for the first time.

    A choice is of the first of these kinds that fits. (Reports tell errors by the object instead, where "perseverative"
    is what was right before a switch: :func:`seqrl_lightning.analysis.trials.outcomes`.)

    Args:
        choices: M of them.
        num_objects: Higher actions are distractors.

    Returns:
        [M] int64, indices into ``ERROR_KINDS``; -1 where the choice was right.
    """
    if not len(choices.action):
        return choices.action
    is_wrong = choices.action != choices.correct_action
    episode = choices.episode
    num_positions, n_actions = int(choices.position.max()) + 1, int(choices.action.max()) + 1
    place = episode * num_positions + choices.position
    furthest = place.cummax(0).values  # no earlier episode's: each has numbers of its own
    is_again = torch.zeros_like(is_wrong)
    is_again[1:] = is_wrong[:-1] & (episode[1:] == episode[:-1]) & (choices.action[1:] == choices.action[:-1])
    is_again[is_wrong] |= _has_been((place * n_actions + choices.action)[is_wrong])
    kinds = torch.where(place < furthest, ERROR_KINDS.index("rule_breaking"), ERROR_KINDS.index("exploration"))
    kinds[is_again] = ERROR_KINDS.index("perseverative")
    kinds[choices.action >= num_objects] = ERROR_KINDS.index("distractor")
    return torch.where(is_wrong, kinds, -1)


def _has_been(values: Tensor) -> Tensor:
    """Which of the values stands further up, too. [M] bool."""
    ordered, order = values.sort(stable=True)
    has_been = torch.zeros_like(values, dtype=torch.bool)
    has_been[order[1:]] = ordered[1:] == ordered[:-1]
    return has_been


def swap_counts(choices: Choices, order: Order) -> Tensor:
    """How a changed order was dealt with, at the first position that changed (ABCDE to ADCBE: after A).

    - "anticipated swap": the new object (D) was chosen at once, that is right after A.
    - "ordinal inference": the old one (B) was tried first, and then, after going back, the new one was chosen.

    Args:
        choices: M of them.
        order: The objects' orders.

    Returns:
        [4, blocks] int64: episodes that came there; of these, how many chose the new object at once; episodes that
        tried the old one first and came there again; of these, how many then chose the new one.
    """
    sequences = torch.as_tensor(order.sequences, device=choices.block.device)
    changes = torch.zeros_like(sequences, dtype=torch.bool)
    changes[1:] = sequences[1:] != sequences[:-1]
    changes = changes[:, order.num_given :]
    first_change = torch.where(changes.any(1), changes.int().argmax(1), -1)  # [blocks]
    rows = torch.arange(len(sequences), device=sequences.device)
    new = sequences[rows, first_change + order.num_given]
    old = sequences[(rows - 1).clamp(min=0), first_change + order.num_given]

    is_there = choices.position == first_change[choices.block]
    episode, block, action = (column[is_there] for column in (choices.episode, choices.block, choices.action))
    is_new, is_old = action == new[block], action == old[block]
    is_first = torch.ones_like(is_new)
    is_first[1:] = episode[1:] != episode[:-1]
    follows_old = ~is_first
    follows_old[1:] &= is_first[:-1] & is_old[:-1]
    groups = (is_first, is_first & is_new, follows_old, follows_old & is_new)
    return torch.stack([torch.bincount(block[group], minlength=len(sequences)) for group in groups])
