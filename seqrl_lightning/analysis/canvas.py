"""The canvas of figures: their style, panels, texts, legends and files."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from seqrl_lightning.analysis.looks import COLORS
from seqrl_lightning.files import write_bytes
from seqrl_lightning.types import printable

if not Path(matplotlib.matplotlib_fname()).is_absolute():
    matplotlib.rcdefaults()  # a `matplotlibrc` in the current folder may come from the runs' author, and start LaTeX

SUFFIXES = ("png", "svg", "pdf")
"""The formats in which each figure is written."""

COLUMN, PAGE = 3.35, 7.1
"""The widths of a paper's column and page in inches (85 and 180 mm): figures are drawn at them, for legible texts."""

_MOST_COLUMNS = 4  # of panels on a page
_INCHES_OF_PANELS = 2.5  # the height of a single row of panels
_INCHES_OF_A_PANEL = 1.7  # of each of several rows
_ROWS_OF_A_LEGEND = 2  # for which there is space in a figure's height
_INCHES_OF_A_ROW = 0.15
_CHARACTERS_IN_AN_INCH = 18  # of a legend
_CHARACTERS_OF_A_LINE = 9  # the width of the line or the point before a legend's text

STYLE: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "legend.handlelength": 3,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "font.size": 8,
    "axes.titlesize": 8,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # text that can be edited
}


def new_figure(
    width: float = 7.0, height: float = 3.6, panels: int = 1, sharey: bool = False, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """Make a figure with panels side by side, without a window.

    Args:
        width: In inches, at most a page's.
        height: In inches.
        panels: Number of panels in a row.
        sharey: Whether the panels have one y axis.
        rows: Number of rows of panels.
    """
    assert width <= PAGE, f"a figure of {width} inches doesn't fit on a page"
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(rows, panels, squeeze=False, sharey=sharey)
        return figure, list(axes.flat)


def new_grid(
    count: int, inches: float, most_in_a_row: int = _MOST_COLUMNS, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Make a figure of panels in rows, at most as wide as a page.

    Args:
        count: Number of panels.
        inches: The height of a row.
        most_in_a_row: Number of panels in a row; with more of them there are more rows.
        sharey: Whether the panels have one y axis.
    """
    rows, columns = _rows_and_columns(count, most_in_a_row)
    figure, panels = new_figure(width_of(columns), inches * rows, columns, sharey, rows)
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels[:count]


def new_panels(
    facets: Sequence[str], columns: Sequence[str], labels: tuple[str, str], x_ends: Sequence[float] | None = None
) -> tuple[Figure, list[list[Axes]]]:
    """Make a figure of small panels with one y axis, at most as wide as a page: one for each facet and column.

    Args:
        facets: Titles of the parts into which conditions are divided; a single one may be empty.
        columns: Titles of what is shown of each part, such as blocks; a single one may be empty.
        labels: Labels of the x and the y axes.
        x_ends: The ends of the x axes, which begin at 0, for each column; by default each panel has its own.

    Returns:
        The figure, and the axes of each column of each facet.
    """
    (rows, across), places = layout_of(len(facets), len(columns))
    height = _INCHES_OF_PANELS if rows == 1 else _INCHES_OF_A_PANEL * rows
    figure, grid = new_figure(width_of(across), height, across, sharey=True, rows=rows)
    for axes in (axes for place, axes in enumerate(grid) if place not in places):
        axes.set_visible(False)
    panels = [grid[place] for place in places]
    for i, (place, axes) in enumerate(zip(places, panels, strict=True)):
        parts = facets[i // len(columns)], columns[i % len(columns)]
        title_panel(axes, "\n".join(wrapped(part, 60 if across == 1 else 26) for part in parts if part))
        axes.xaxis.set_major_locator(MaxNLocator(5 if across < _MOST_COLUMNS else 3, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(_short))
        if place % across == 0:
            axes.set_ylabel(wrapped(labels[1], 28 if rows == 1 else 18))
        if place // across == rows - 1:
            axes.set_xlabel(wrapped(labels[0], 44 if across == 1 else 26))
        if x_ends is not None:
            axes.set_xlim(0, x_ends[i % len(columns)] or 1)
    return figure, [panels[start : start + len(columns)] for start in range(0, len(panels), len(columns))]


def width_of(columns: int) -> float:
    """Return the width in inches of a figure with panels side by side: a paper's column for one, the page for three."""
    return COLUMN if columns == 1 else PAGE * min(columns, 3) / 3


def _short(number: float, _: object = None) -> str:
    """Write a number of an axis, in thousands where it is large.

    >>> [_short(number) for number in (0, 7500, 20_000, 1_250_000)]
    ['0', '7500', '20k', '1250k']
    """
    return f"{number / 1000:g}k" if abs(number) >= 10_000 else f"{number:g}"


def _rows_and_columns(count: int, most_in_a_row: int) -> tuple[int, int]:
    """Divide panels into as few rows as can be, of as equal a length as can be."""
    rows = -(-count // most_in_a_row)
    return rows, -(-count // rows)


def layout_of(facets: int, columns: int) -> tuple[tuple[int, int], list[int]]:
    """Return the rows and columns of a grid, and each panel's place in it: the columns of a facet stay together."""
    if min(facets, columns) == 1:
        count = facets * columns
        return _rows_and_columns(count, 3 if count <= 6 else _MOST_COLUMNS), list(range(count))
    width = min(columns, _MOST_COLUMNS)
    side_by_side, rows_of_one = min(facets, _MOST_COLUMNS // width), -(-columns // width)
    across = side_by_side * width
    places = [
        (i // side_by_side * rows_of_one + k // width) * across + i % side_by_side * width + k % width
        for i in range(facets)
        for k in range(columns)
    ]
    return (-(-facets // side_by_side) * rows_of_one, across), places


def title_panel(axes: Axes, title: str) -> None:
    """Set a panel's title, in the size of figures' texts: Matplotlib takes the size from its own settings."""
    axes.set_title(title, fontsize=STYLE["axes.titlesize"])


def label_rows(panels: Sequence[Axes], label: str) -> None:
    """Set the y label of the first panel of each row."""
    for axes in panels:
        place = axes.get_subplotspec()
        if place is None or place.is_first_col():
            axes.set_ylabel(label)


def add_colorbar(figure: Figure, colors: ScalarMappable, panels: Sequence[Axes], label: str) -> None:
    """Add the scale of the colors of some panels, in the size of figures' texts."""
    with matplotlib.rc_context(STYLE):
        figure.colorbar(colors, ax=panels, label=label, shrink=0.8)


def as_text(name: str) -> str:
    """Escape a run's name for Matplotlib, in which dollar signs would begin mathematics."""
    return printable(name).replace("$", r"\$")


def wrapped(name: str, width: int = 34) -> str:
    """Escape a name for Matplotlib, and wrap it to a width in characters."""
    return as_text(textwrap.fill(name, width))


def add_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """Add one legend for all panels, below them, in which each label stands once; it makes the figure higher."""
    handles: dict[str, Any] = {}
    for axes in panels:
        found, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, found, strict=True))
    if handles:
        widest = max(len(label) for label in handles) + _CHARACTERS_OF_A_LINE
        columns = max(1, min(len(handles), int(_CHARACTERS_IN_AN_INCH * figure.get_figwidth() / widest)))
        with matplotlib.rc_context(STYLE):
            figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)
        further_rows = max(0, -(-len(handles) // columns) - _ROWS_OF_A_LEGEND)
        figure.set_figheight(figure.get_figheight() + _INCHES_OF_A_ROW * further_rows)


def save(figure: Figure, path: Path, **options: Any) -> None:
    """Write the figure as ``path`` with each of ``SUFFIXES``."""
    with matplotlib.rc_context(STYLE):
        for suffix in SUFFIXES:
            picture = io.BytesIO()
            figure.savefig(picture, format=suffix, **options)
            figure.set_layout_engine("none")  # it is laid out once: that takes as long as to draw it
            contents = picture.getvalue()
            if suffix == "svg":  # the file is well-formed, whatever texts a figure shows
                contents = printable(contents.decode(), "\n\t").encode()
            write_bytes(path.with_suffix(f".{suffix}"), contents)
