"""The colors, dashes and markers by which figures distinguish conditions."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#333333")
"""The palette of Okabe and Ito, which color-blind people can tell apart."""

LINES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)))
"""Dashes beside the colors, so that lines which lie on each other and black-and-white prints can be read."""

MARKERS = ("o", "s", "D", "v")
"""Markers of points; a hollow triangle that points upwards is kept for censored ones."""


class Look(NamedTuple):
    """The look of one condition in all figures of a report."""

    color: str
    line: str | tuple[int, tuple[float, ...]]
    marker: str


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """Give each name a distinct look.

    Conditions that cross two factors have the color of their level of the first factor, and the dashes and the marker
    of their level of the second. All others have colors and dashes in turn, and another marker where colors repeat.

    Args:
        names: Names of conditions, like ``memory=gru, delay=4``, or of anything else.

    >>> looks = looks_of(["memory=gru, delay=4", "memory=gru, delay=8", "memory=lstm, delay=4", "memory=lstm, delay=8"])
    >>> [LINES.index(look.line) for look in looks.values()], len({look.color for look in looks.values()})
    ([0, 1, 0, 1], 2)
    """
    unique = list(dict.fromkeys(names))
    levels = [_levels(name) for name in unique]
    first, second = (list(dict.fromkeys(pair[i] for pair in levels if pair)) for i in (0, 1))
    is_crossed = all(levels) and len(unique) == len(first) * len(second) > max(len(first), len(second))
    if is_crossed and len(first) <= len(COLORS) and len(second) <= len(LINES):
        places = [(first.index(a), second.index(b)) for a, b in levels]
        return {name: _look(color, line, line) for name, (color, line) in zip(unique, places, strict=True)}
    return {name: _look(i, i, i // len(COLORS)) for i, name in enumerate(unique)}


def _levels(name: str) -> Sequence[str]:
    """Split ``memory=gru, delay=4`` into its two levels; empty if the name is not of this form."""
    parts = name.split(", ")
    return parts if len(parts) == 2 and all("=" in part for part in parts) else ()


def _look(color: int, line: int, marker: int) -> Look:
    return Look(COLORS[color % len(COLORS)], LINES[line % len(LINES)], MARKERS[marker % len(MARKERS)])
