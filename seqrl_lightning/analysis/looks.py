"""The colors, dashes and markers by which figures distinguish conditions, and their division among panels."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#333333")
"""The palette of Okabe and Ito, which color-blind people can tell apart."""

LINES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (4, 1.5, 1, 1.5)))
"""Dashes beside the colors, so that lines which lie on each other and black-and-white prints can be read."""

MARKERS = ("o", "s", "D", "v")
"""Markers of points; a hollow triangle that points upwards is kept for censored ones."""

MOST_IN_A_PANEL = 4
"""Conditions in one panel of curves; with more, each would hide the others."""


class Look(NamedTuple):
    """The look of one condition in all figures of a report."""

    color: str
    line: str | tuple[int, tuple[float, ...]]
    marker: str


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """Give each name a distinct look.

    Conditions that cross two factors have the color of their level of the first factor, and the marker of their level
    of the second. Their dashes are all different, so that curves which lie on each other are seen, or, where there are
    too many conditions for that, go with the marker. All others have colors, dashes and markers in turn, no two of them
    the same ones.

    Args:
        names: Names of conditions, like ``memory=gru, delay=4``, or of anything else.

    >>> looks = looks_of(["memory=gru, delay=4", "memory=gru, delay=8", "memory=lstm, delay=4", "memory=lstm, delay=8"])
    >>> [(COLORS.index(look.color), LINES.index(look.line), MARKERS.index(look.marker)) for look in looks.values()]
    [(0, 0, 0), (0, 1, 1), (1, 2, 0), (1, 3, 1)]
    """
    unique = list(dict.fromkeys(names))
    crossed = _crossed(unique)
    if crossed is not None and len(crossed.first) <= len(COLORS) and len(crossed.second) <= len(LINES):
        places = [(crossed.first.index(a), crossed.second.index(b)) for a, b in crossed.levels]
        lines = range(len(unique)) if len(unique) <= len(LINES) else [second for _, second in places]
        named = zip(unique, places, lines, strict=True)
        return {name: _look(first, line, second) for name, (first, second), line in named}
    return {name: _look(i, i, i % len(COLORS) + i // len(COLORS)) for i, name in enumerate(unique)}


class Panel(NamedTuple):
    """The conditions that a figure draws in one panel."""

    title: str  # empty if it is the only one
    looks: Mapping[str, Look]  # by condition
    labels: Mapping[str, str]  # by condition; empty where the title names it


def panels_of(names: Iterable[str]) -> list[Panel]:
    """Divide conditions among panels: one for up to four of them.

    More conditions that cross two factors have a panel for each level of the factor with more levels, and the same look
    in each panel for the same level of the other factor. All others have a panel each.

    Args:
        names: Names of conditions, like ``memory=gru, delay=4``.

    >>> names = [f"memory={memory}, delay={delay}" for memory in ("gru", "lstm", "mlp") for delay in (4, 8)]
    >>> [(panel.title, list(panel.labels.values())) for panel in panels_of(names)][1:]
    [('memory=lstm', ['delay=4', 'delay=8']), ('memory=mlp', ['delay=4', 'delay=8'])]
    """
    unique = list(dict.fromkeys(names))
    if len(unique) <= MOST_IN_A_PANEL:
        return [Panel("", looks_of(unique), {name: name for name in unique})]
    crossed = _crossed(unique)
    if crossed is None or min(len(crossed.first), len(crossed.second)) > MOST_IN_A_PANEL:
        return [Panel(name, {name: _look(0, 0, 0)}, {name: ""}) for name in unique]
    outer, inner = (0, 1) if len(crossed.first) >= len(crossed.second) else (1, 0)
    labels: dict[str, dict[str, str]] = {}  # by the panel's title
    for name, levels in zip(unique, crossed.levels, strict=True):
        labels.setdefault(levels[outer], {})[name] = levels[inner]
    place = {level: i for i, level in enumerate((crossed.first, crossed.second)[inner])}
    return [
        Panel(title, {name: _look(place[level], place[level], place[level]) for name, level in of_one.items()}, of_one)
        for title, of_one in labels.items()
    ]


class _Crossed(NamedTuple):
    levels: Sequence[Sequence[str]]  # of both factors, for each name
    first: Sequence[str]  # the first factor's levels, in their order
    second: Sequence[str]


def _crossed(names: Sequence[str]) -> _Crossed | None:
    """Return the levels that names cross; None if they have another design."""
    levels = [_levels(name) for name in names]
    if not all(levels) or len({tuple(level.partition("=")[0] for level in pair) for pair in levels}) != 1:
        return None
    first, second = (list(dict.fromkeys(pair[i] for pair in levels)) for i in (0, 1))
    is_crossed = len(names) == len(first) * len(second) > max(len(first), len(second))
    return _Crossed(levels, first, second) if is_crossed else None


def _levels(name: str) -> Sequence[str]:
    """Split ``memory=gru, delay=4`` into its two levels; empty if the name is not of this form."""
    parts = name.split(", ")
    return parts if len(parts) == 2 and all("=" in part for part in parts) else ()


def _look(color: int, line: int, marker: int) -> Look:
    return Look(COLORS[color % len(COLORS)], LINES[line % len(LINES)], MARKERS[marker % len(MARKERS)])
