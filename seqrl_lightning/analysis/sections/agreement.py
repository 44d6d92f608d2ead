"""Agreement of a comparison's conditions: a report says of all of them only what holds for all of them."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from seqrl_lightning.analysis.conditions import Groups
from seqrl_lightning.analysis.figures import ReferenceLine
from seqrl_lightning.analysis.runs import Run
from seqrl_lightning.metrics import TaskFacts

T = TypeVar("T")


def by_value(values: Mapping[str, T]) -> dict[T, list[str]]:
    """Group conditions by a value that each of them has: into one entry if they agree.

    >>> by_value({"delay=2": "DQN", "delay=4": "DQN"})
    {'DQN': ['delay=2', 'delay=4']}
    """
    found: dict[T, list[str]] = {}
    for name, value in values.items():
        found.setdefault(value, []).append(name)
    return found


def stated(values: Mapping[str, T], separator: str = "; ") -> str:
    """State a value of each condition: once if they agree, otherwise each distinct one with its conditions.

    >>> stated({"delay=2": 3, "delay=4": 3}), stated({"delay=2": 3, "delay=4": 5})
    ('3', '3 (delay=2); 5 (delay=4)')
    """
    found = by_value(values)
    if len(found) == 1:
        return str(next(iter(found)))
    return separator.join(f"{value} ({'; '.join(names)})" for value, names in found.items())


def named_runs(groups: Groups) -> list[tuple[str, Run]]:
    """Name each run by its seed and, if there are several conditions, by its condition."""
    several = len(groups) > 1
    return [(f"{name}, " * several + f"seed {run.seed}", run) for name, runs in groups.items() for run in runs]


def num_runs_of(groups: Groups) -> dict[str, int]:
    """Return the number of runs of each condition."""
    return {name: len(runs) for name, runs in groups.items()}


def number_of_seeds(groups: Groups) -> str:
    """State the n of a caption, like ``n = 5 seeds in each condition``."""
    sizes = num_runs_of(groups)
    if len(set(sizes.values())) > 1:
        return f"n = {stated(sizes)} seeds"
    (size, *_) = sizes.values()
    return f"n = {size} seed{'s' * (size > 1)}{' in each condition' if len(groups) > 1 else ''}"


def note_on_evaluations(evaluated: Mapping[int, Mapping[str, int]], groups: Groups) -> str:
    """Return the sentence on runs that were not evaluated in a block; empty if there are none.

    Args:
        evaluated: Number of runs that were evaluated, by block and condition; without blocks and conditions that have
            none.
        groups: Runs by condition.
    """
    lacking = []
    for block, title in enumerate(block_titles(groups)):
        where = f" in {title}" if title else ""
        if block not in evaluated:
            lacking.append(f"no run{where}")
            continue
        for name, runs in groups.items():
            if (count := evaluated[block].get(name, 0)) < len(runs) and block < runs[0].facts.num_blocks:
                whose = f" of {name}" if len(groups) > 1 else ""
                lacking.append(f"{count} of {len(runs)} runs{whose}{where}")
    return f" Not every run was evaluated: {'; '.join(lacking)}." if lacking else ""


def mastery_in_words(groups: Groups) -> str:
    """State the return of a mastered episode."""
    returns = {name: facts.mastery_return for name, facts in facts_of(groups).items()}
    return stated({name: f"{value:g}" for name, value in returns.items() if value is not None})


def facts_of(groups: Groups) -> dict[str, TaskFacts]:
    """Return the facts about each condition's task."""
    return {name: runs[0].facts for name, runs in groups.items()}


def block_titles(groups: Groups) -> list[str]:
    """Title each block that a condition has: with its order if the conditions agree on it, otherwise by its number.

    Returns:
        A title for each block of the condition with the most; a single block has an empty one.
    """
    facts = facts_of(groups).values()
    num_blocks = max(of_one.num_blocks for of_one in facts)
    if num_blocks == 1:
        return [""]
    names = [{of_one.block_names[i] for of_one in facts if i < of_one.num_blocks} for i in range(num_blocks)]
    return [of_block.pop() if len(of_block) == 1 else f"block {i}" for i, of_block in enumerate(names)]


def reference_lines(
    name: str, style: str, values: Mapping[str, float | None], tolerance: float = 0.0
) -> list[ReferenceLine]:
    """Return the lines that mark a value of each condition: one for all if they agree, or one for each distinct value.

    Args:
        name: What the value is of, such as mastery.
        style: Matplotlib's style of the lines.
        values: The value of each condition; None where it is unknown.
        tolerance: Values this close count as one, their mean: relative to those larger than one, otherwise absolute.

    Returns:
        The lines, ascending by value.
    """
    known = sorted((value, condition) for condition, value in values.items() if value is not None)
    clusters: list[dict[str, float]] = []
    lowest = -np.inf
    for value, condition in known:
        if value - lowest > tolerance * max(1.0, abs(value)):
            clusters.append({})
            lowest = value
        clusters[-1][condition] = value
    is_shared = len(clusters) == 1 and len(known) == len(values)
    names = [() if is_shared else [key for key in values if key in cluster] for cluster in clusters]
    means = [float(np.mean(list(cluster.values()))) for cluster in clusters]
    return [ReferenceLine(name, mean, style, of_one) for mean, of_one in zip(means, names, strict=True)]
