"""Measures of choices: completion of episodes, kinds of errors, responses to a changed order."""

import torch
from torch import Tensor

from seqrl_lightning.types import Choices, Order

ERROR_KINDS = ("exploration", "rule_breaking", "perseverative", "distractor")
"""The kinds of errors (:func:`error_kinds`). Every wrong choice is of exactly one kind."""


def completion(choices: Choices, num_picks: int | None) -> Tensor:
    """Fraction of the sequence that each episode reached or, without a sequence, of its answers that were right.

    Args:
        choices: M choices in E episodes.
        num_picks: Number of objects that complete the sequence; None for tasks without one.

    Returns:
        [E] float64, in [0, 1].
    """
    is_right = choices.action == choices.correct_action
    counts = torch.bincount(choices.episode)
    if num_picks is None:
        return torch.bincount(choices.episode[is_right], minlength=len(counts)).double() / counts
    reached = torch.zeros_like(counts).scatter_reduce(0, choices.episode, choices.position + is_right, "amax")
    return reached.double() / num_picks


def choice_counts(position: Tensor, action: Tensor, num_positions: int, n_actions: int) -> Tensor:
    """Count how often each action was chosen at each of the first serial positions.

    Args:
        position: [M] int64, the position of each choice.
        action: [M] int64, the action that was chosen.
        num_positions: Number of positions to count; choices at later ones are left out.
        n_actions: Number of actions.

    Returns:
        [num_positions, n_actions] int64.

    >>> choice_counts(torch.tensor([0, 0, 1, 7]), torch.tensor([2, 2, 0, 1]), num_positions=2, n_actions=3)
    tensor([[0, 0, 2],
            [1, 0, 0]])
    """
    index = (position * n_actions + action)[position < num_positions]
    return torch.bincount(index, minlength=num_positions * n_actions).view(num_positions, n_actions)


def error_kinds(choices: Choices, num_objects: int) -> Tensor:
    """Classify each wrong choice by what preceded it in its episode.

    This is the one classification of errors: TensorBoard and reports both use it. A wrong choice has the first of
    these kinds that fits:

    - ``distractor``: the object is never right.
    - ``perseverative``: the choice repeats an error of this episode: the immediately preceding choice, or an earlier
      one at the same position.
    - ``rule_breaking``: an error has set the sequence back, and the last right object, which must be chosen again, was
      not chosen.
    - ``exploration``: any other error: a wrong object is tried for the first time.

    The kinds depend on choices alone, not on what caused them, so that they mean the same for an agent, an animal and a
    person; an epsilon-greedy agent's random choices are classified like all others. Errors that follow the order of
    the block before are a measure of their own (:func:`follows_previous_order`).

    Args:
        choices: M choices.
        num_objects: Number of objects in the sequence; higher actions are distractors.

    Returns:
        [M] int64, indices into ``ERROR_KINDS``; -1 where the choice was right.
    """
    if not len(choices.action):
        return choices.action
    is_wrong = choices.action != choices.correct_action
    episode = choices.episode
    num_positions, n_actions = int(choices.position.max()) + 1, int(choices.action.max()) + 1
    place = episode * num_positions + choices.position
    furthest = place.cummax(0).values  # within the episode: each episode has numbers of its own, above earlier ones
    repeats = torch.zeros_like(is_wrong)
    repeats[1:] = is_wrong[:-1] & (episode[1:] == episode[:-1]) & (choices.action[1:] == choices.action[:-1])
    repeats[is_wrong] |= _occurred_before((place * n_actions + choices.action)[is_wrong])
    kinds = torch.where(place < furthest, ERROR_KINDS.index("rule_breaking"), ERROR_KINDS.index("exploration"))
    kinds[repeats] = ERROR_KINDS.index("perseverative")
    kinds[choices.action >= num_objects] = ERROR_KINDS.index("distractor")
    return torch.where(is_wrong, kinds, -1)


def _occurred_before(values: Tensor) -> Tensor:
    """Whether each value also occurs at a lower index. [M] bool."""
    ordered, order = values.sort(stable=True)
    occurred = torch.zeros_like(values, dtype=torch.bool)
    occurred[order[1:]] = ordered[1:] == ordered[:-1]
    return occurred


def follows_previous_order(choices: Choices, order: Order) -> Tensor:
    """Whether each choice is an error now, but was right at the same position in the block before.

    Such errors are intrusions of the old order; their share after a switch measures proactive interference.

    Args:
        choices: M choices.
        order: The objects' orders, by block.

    Returns:
        [M] bool; false in the first block.
    """
    sequences = torch.as_tensor(order.sequences, device=choices.block.device)
    previous = sequences[(choices.block - 1).clamp(min=0), choices.position + order.num_given]
    is_wrong = choices.action != choices.correct_action
    return is_wrong & (choices.block > 0) & (choices.action == previous)


def swap_counts(choices: Choices, order: Order) -> Tensor:
    """Count the responses to a changed order, at the first position that changed (ABCDE to ADCBE: after A).

    - "anticipated swap": the new object (D) was chosen at once, that is right after A.
    - "ordinal inference": the old one (B) was tried first and then, after going back, the new one was chosen.

    Args:
        choices: M choices.
        order: The objects' orders, by block.

    Returns:
        [4, blocks] int64: episodes that reached the position; of these, episodes that chose the new object at once;
        episodes that tried the old object first and reached the position again; of these, episodes that then chose the
        new object.
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
