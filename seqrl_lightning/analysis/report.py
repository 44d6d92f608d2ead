"""A report: sections with figures and tables, as one HTML file and as files for further use."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from seqrl_lightning.analysis.figures import save

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
img { max-width: 100%; } p.left-out { color: #777; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; font-size: .92em; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #eee; } th { text-align: left; }
thead th { text-align: right; } .table { overflow-x: auto; }
"""
_MOST_ROWS = 30  # of a table on the page; the file has all


class Section(NamedTuple):
    """A part of a report."""

    name: str  # of its files
    title: str
    text: str
    figure: Figure | None = None
    table: pd.DataFrame | None = None
    shows_table: bool = True  # on the page too, not only as a file


def write_report(title: str, about: str, sections: Sequence[Section], folder: Path) -> Path:
    """Writes ``report.html`` and, for each section, what it has of NAME.png, NAME.svg and NAME.csv. Returns the report.

    A section with neither figure nor table says why it was left out.
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
            parts.append(f'<img alt="{html.escape(section.title)}" src="data:image/png;base64,{picture}">')
        if section.table is not None:
            section.table.to_csv(folder / f"{section.name}.csv")
            if section.shows_table:
                shown = section.table.head(_MOST_ROWS).to_html(border=0, float_format="{:.3g}".format, na_rep="-")
                parts.append(f"<div class=table>{shown}</div>")
    head = f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
    path = folder / "report.html"
    path.write_text(head + "\n".join(parts) + "\n", encoding="utf-8")
    return path
