"""A report: sections with figures and tables, as one HTML file and as files for further use."""

import base64
import html
import io
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from seqrl_lightning.analysis.canvas import PAGE, save
from seqrl_lightning.files import write_bytes, write_file
from seqrl_lightning.types import printable
from seqrl_lightning.versions import versions

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #8886; }
img { max-width: 100%; background: white; border-radius: 4px; padding: .4rem; box-sizing: border-box; }
p.left-out { opacity: 0.6; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; font-size: .85em; }
th, td { padding: .2rem .45rem; text-align: right; border-bottom: 1px solid #8884; } th { text-align: left; }
thead th { text-align: right; } .table { overflow-x: auto; }
"""
_BEGIN_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_INNER_FORMULA = re.compile(r"([;\t\r\n][ \"]*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")  # in a cell that is split
_MOST_ROWS = 500  # rows of a table on the page; the file has all


class Section(NamedTuple):
    """A part of a report."""

    name: str  # of its files
    title: str
    text: str
    figure: Figure | None = None
    table: pd.DataFrame | None = None  # on the page
    data: pd.DataFrame | None = None  # what the figure shows: a row for each seed and point


def write_report(title: str, about: str, sections: Sequence[Section], folder: Path) -> Path:
    """Write ``report.html`` and, for each section, its figure, its table and its data.

    The figure is NAME.png, NAME.svg and NAME.pdf, the table NAME.csv, and the data NAME_data.csv. A section with
    neither figure nor table says why it was left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"<h1>{html.escape(title)}</h1><p>{html.escape(about)}</p>"]
    for section in sections:
        is_left_out = section.figure is None and section.table is None
        parts.append(f"<h2>{html.escape(section.title)}</h2>")
        parts.append(f"<p{' class=left-out' if is_left_out else ''}>{html.escape(section.text)}</p>")
        if section.figure is not None:
            save(section.figure, folder / section.name)
            picture = base64.b64encode((folder / f"{section.name}.png").read_bytes()).decode()
            width = f"{section.figure.get_figwidth() / PAGE:.0%}"  # texts of all figures are of one size
            alt = html.escape(section.title)
            parts.append(f'<img alt="{alt}" style="width: {width}" src="data:image/png;base64,{picture}">')
        if section.table is not None:
            write_table(section.table, folder / f"{section.name}.csv")
            shown = section.table.head(_MOST_ROWS).to_html(border=0, float_format=_as_number, na_rep="-")
            parts.append(f"<div class=table>{shown}</div>")
            if len(section.table) > _MOST_ROWS:
                parts.append(f"<p>The first {_MOST_ROWS} of {len(section.table)} rows; {section.name}.csv has all.</p>")
        if section.data is not None:
            write_table(section.data, folder / f"{section.name}_data.csv", index=False)
    head = f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
    path = folder / "report.html"
    write_bytes(path, printable(head + "\n".join(parts) + "\n").encode())
    return path


def _as_number(number: float) -> str:
    """Write a number of a table with three digits, and a large one as a whole number.

    >>> [_as_number(number) for number in (0.007937, 0.7333, 2844.2, float("inf"))]
    ['0.00794', '0.733', '2,844', 'inf']
    """
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def written_by(command: str) -> str:
    """Return the sentence that says which command wrote a report, with which versions."""
    return f"The report was written by `{command}` with {', '.join(versions())}."


def write_table(table: pd.DataFrame, path: Path, index: bool = True) -> None:
    """Write a table as CSV, in which no text is a formula: a spreadsheet would run one that came with the data.

    Args:
        table: The table.
        path: The file.
        index: Whether the rows' names are written too.
    """
    shown = table.reset_index(names=_names(table.index), allow_duplicates=True) if index else table
    write_bytes(path, _as_csv(shown))


def write_long_table(tables: Callable[[], Iterable[pd.DataFrame]], path: Path) -> None:
    """Write tables below each other for further programs, as CSV and, if ``pyarrow`` is installed, also as Parquet.

    One of them is in memory at a time: those of all runs of an experiment may be too large for it.

    Args:
        tables: Returns the tables, whenever it is called; their rows have no names. Where one lacks a column that
            another one has, its cells are empty.
        path: The CSV file.
    """
    types = pd.concat([_without_categories(table.head(1)) for table in tables()]).dtypes

    def write_csv(file: BinaryIO) -> None:
        for i, table in enumerate(tables()):
            file.write(_as_csv(_of_types(table, types), has_head=i == 0))

    write_file(path, write_csv)
    if find_spec("pyarrow"):
        write_file(path.with_suffix(".parquet"), lambda file: _write_parquet(tables(), types, file))


def _write_parquet(tables: Iterable[pd.DataFrame], types: pd.Series, file: BinaryIO) -> None:
    """Write tables below each other. A column has one type; one of several (1 and "off") becomes text."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    is_number = pd.api.types.is_numeric_dtype
    schema = pa.schema(
        [
            (name, pa.array(pd.Series(dtype=kind)).type if is_number(kind) else pa.string())
            for name, kind in types.items()
        ]
    )
    with ParquetWriter(file, schema) as writer:
        for table in tables:
            typed = _without_categories(_of_types(table, types))
            texts = {name: typed[name].map(str, na_action="ignore") for name in typed if not is_number(types[name])}
            writer.write_table(pa.Table.from_pandas(typed.assign(**texts), schema, preserve_index=False))


def _of_types(table: pd.DataFrame, types: pd.Series) -> pd.DataFrame:
    """Return a table with these columns, its numbers of these types; texts may stay categories."""
    numbers = {name: kind for name, kind in types.items() if pd.api.types.is_numeric_dtype(kind)}
    return table.reindex(columns=types.index).astype(numbers)


def _without_categories(table: pd.DataFrame) -> pd.DataFrame:
    categories = {name: column.cat.categories.dtype for name, column in table.select_dtypes("category").items()}
    return table.astype(categories)


def _as_csv(table: pd.DataFrame, has_head: bool = True) -> bytes:
    """Return a table as CSV without formulas and without the rows' names."""
    is_number = pd.api.types.is_numeric_dtype
    columns = [column if is_number(column.dtype) else column.map(defused) for _, column in table.items()]
    shown = pd.concat(columns, axis=1)
    shown.columns = pd.Index([defused(str(name)) for name in table.columns])
    text = io.StringIO()
    shown.to_csv(text, index=False, header=has_head)
    return text.getvalue().encode()


def defused(cell: object) -> object:
    """Return a table's cell as a spreadsheet shows it: a text that it would run is quoted, and a number is a number.

    In many countries, spreadsheets end a cell at a semicolon, whatever quotes are around it, so what follows is quoted
    too. Control characters are written as Python writes them.

    >>> [defused(cell) for cell in ("=1+1", "@SUM(A1)", "-0.5", -0.5, "ABC", "a;=1+1")]
    ["'=1+1", "'@SUM(A1)", '-0.5', -0.5, 'ABC', "a;'=1+1"]
    """
    if not isinstance(cell, str):
        return cell
    cell = printable(cell, "\n\t")
    with suppress(ValueError):
        float(cell)
        if cell == cell.strip():  # "\n-1" is a number in Python, and two cells where lines are split
            return cell
    cell = _INNER_FORMULA.sub(r"\1'", cell)
    return f"'{cell}" if cell.lstrip(" ").startswith(_BEGIN_FORMULAS) else cell


def _names(index: pd.Index) -> list[str]:
    return [
        f"level_{i}" if name is None and index.nlevels > 1 else str(name or "") for i, name in enumerate(index.names)
    ]
