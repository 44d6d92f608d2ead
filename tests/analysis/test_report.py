"""A report shows names and cells as they are: nothing in them is markup, a formula or mathematics."""

import csv
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from seqrl_lightning.analysis.canvas import add_legend, as_text, new_figure, wrapped
from seqrl_lightning.analysis.report import Section, defused, write_long_table, write_report, write_table
from tests.running import seqrl

pytestmark = pytest.mark.usefixtures("all_formats")
HOSTILE = '<script>alert("1")</script>&<img src=x onerror=alert(1)>'


def test_nothing_in_a_report_is_markup(tmp_path: Path) -> None:
    table = pd.DataFrame({HOSTILE: [HOSTILE, "=1+1"]}, index=pd.Index([HOSTILE, "b"], name=HOSTILE))
    figure, (axes,) = new_figure()
    axes.plot([0, 1], label=as_text(f"$x^2$ {HOSTILE}"))
    axes.legend()
    path = write_report(HOSTILE, HOSTILE, [Section("one", HOSTILE, HOSTILE, figure, table)], tmp_path)
    report = path.read_text()
    assert "<script" not in report
    assert "<img src=x" not in report
    assert report.count("&lt;script&gt;") >= 6
    svg = (tmp_path / "one.svg").read_text()
    assert "<script" not in svg
    assert "$x^2$" in svg  # as it is, not set as mathematics


def test_a_table_has_no_formulas_and_its_numbers_are_numbers(tmp_path: Path) -> None:
    cells = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\uff1d1", "-0.5", "+3", "-inf", "a=b", ""]
    table = pd.DataFrame(
        {"text": cells, "=head": range(len(cells)), "number": [-0.5] * len(cells)},
        index=pd.CategoricalIndex([f"={i}" for i in range(len(cells))], name="@subject"),
    )
    write_table(table, tmp_path / "table.csv")
    again = pd.read_csv(tmp_path / "table.csv", keep_default_na=False)
    assert list(again["text"]) == [f"'{cell}" for cell in cells[:4]] + ["'\t'=1", "'\uff1d1", *cells[6:]]
    assert list(again.columns) == ["'@subject", "text", "'=head", "number"]
    assert next(iter(again["'@subject"])) == "'=0"
    assert again["number"].tolist() == table["number"].tolist()


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(st.text('=+-@;\t\n" ,a1', max_size=8), min_size=2, max_size=6))
@example(cells=["b", 'a;"=1+1'])
@example(cells=["b", "a\n=1+1"])
@example(cells=["", "\n-1"])
def test_no_cell_is_a_formula_wherever_a_spreadsheet_splits(cells: list[str], tmp_path: Path) -> None:
    write_table(pd.DataFrame({"one": cells, "other": cells[::-1]}), tmp_path / "table.csv", index=False)
    text = (tmp_path / "table.csv").read_text()
    for delimiter in ",;\t":
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            assert [cell for cell in row if is_formula(cell)] == []


def is_formula(cell: str) -> bool:
    try:
        float(cell.partition(",")[0])  # a number, and the next cell where it isn't split at commas
    except ValueError:
        return cell.lstrip(" ").startswith(("=", "+", "-", "@"))
    return False


def test_a_table_of_several_levels_keeps_its_names(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"a": [1.5, 2.0]}, index=pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["run", "block"])
    )
    write_table(table, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text() == "run,block,a\nx,1,1.5\ny,2,2.0\n"
    write_table(pd.DataFrame({"a": [1]}, index=["=x"]), tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text() == ",a\n'=x,1\n"


def test_a_report_replaces_links_and_never_writes_through_them(tmp_path: Path) -> None:
    victim = tmp_path / "thesis.tex"
    victim.write_text("precious")
    folder = tmp_path / "analysis"
    folder.mkdir()
    for name in ("report.html", "one.csv", "one_data.csv", "one.png", "one.svg", "one.pdf"):
        (folder / name).symlink_to(victim)
    figure, _ = new_figure()
    write_report("title", "about", [Section("one", "One", "text", figure, *[pd.DataFrame({"a": [1]})] * 2)], folder)
    assert victim.read_text() == "precious"
    assert not any(path.is_symlink() for path in folder.iterdir())


@pytest.mark.parametrize("cell", [1, -0.5, None, "text", "-1e3"])
def test_what_is_no_formula_is_left_alone(cell: object) -> None:
    assert defused(cell) == cell


def test_a_tables_cell_doesnt_reach_the_terminal_as_a_command(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("subject,state,action,reward\na,0,\x1b]0;owned\x07,1\n")
    status, _, err = seqrl("fit-behaviour", str(tmp_path / "table.csv"))
    assert status == 2
    assert "owned" in err
    assert "\x1b" not in err
    assert "\x07" not in err


@pytest.mark.slow
@pytest.mark.alone
def test_figures_do_not_depend_on_the_current_folder(tmp_path: Path) -> None:
    """It may be the runs' author's, and with `text.usetex` Matplotlib would start LaTeX."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: true\n")
    program = "import matplotlib as m, seqrl_lightning.analysis.canvas; print(m.rcParams['text.usetex'])"
    command = [sys.executable, "-c", program]
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "False\n"


def test_a_long_table_is_parquet_too(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    table = pd.DataFrame({"action": [1, 2], "q_0": [0.5, float("nan")], "level": [1, "off"], "network": ["GRU", None]})
    write_long_table(lambda: [table], tmp_path / "trials.csv")
    read = pd.read_parquet(tmp_path / "trials.parquet")
    as_texts = table.assign(level=["1", "off"])  # a column of Parquet has one type
    pd.testing.assert_frame_equal(read, as_texts)
    assert list(pd.read_csv(tmp_path / "trials.csv").columns) == list(read.columns)


def test_a_long_table_has_the_columns_of_all_its_tables(tmp_path: Path) -> None:
    """And each column has one type, as if the tables had been one."""
    pytest.importorskip("pyarrow")
    gru = pd.DataFrame({"action": [1, 2], "state": pd.Categorical(["[0]", "[1]"]), "level": [4, 5], "hits": [1, 2]})
    gru["block"] = gru["action"].astype("Int64")  # it may be missing
    mlp = pd.DataFrame(
        {
            "block": pd.array([None], "Int64"),
            "action": [3],
            "state": pd.Categorical(["=1"]),
            "level": ["off"],
            "is_right": [True],
        }
    )
    write_long_table(lambda: iter([gru, mlp]), tmp_path / "trials.csv")
    rows = "1,[0],4,1.0,1,\n2,[1],5,2.0,2,\n3,'=1,off,,,True\n"
    assert (tmp_path / "trials.csv").read_text() == "action,state,level,hits,block,is_right\n" + rows
    read = pd.read_parquet(tmp_path / "trials.parquet")
    assert list(read["level"]) == ["4", "5", "off"]
    assert list(read["state"]) == ["[0]", "[1]", "=1"]
    assert read["action"].dtype == np.int64
    assert list(read["hits"].fillna(-1)) == [1.0, 2.0, -1.0]


CONTROLS = "".join(map(chr, [*range(9), *range(11, 32), 127, 155, 0x202E, 0x2066, 0xFFFE, 0xD800]))


def test_no_control_character_reaches_a_report(tmp_path: Path) -> None:
    """No terminal, browser or spreadsheet obeys one, and no reader of XML stumbles over one."""
    name = f"red {CONTROLS}\N{NO-BREAK SPACE}end"
    figure, (axes,) = new_figure()
    axes.plot([0, 1], [0, 1], label=as_text(name))
    axes.set(title="red \x1b", xlabel=wrapped(name, 200))
    add_legend(figure, [axes])
    table = pd.DataFrame({name: [name, "\x1f1"]}, index=pd.Index([name, "b"], name=name))
    with warnings.catch_warnings(action="ignore"):  # of glyphs that the font lacks
        write_report(name, name, [Section("part", name, name, figure, table, table)], tmp_path)
    texts = {path.name: path.read_text() for path in tmp_path.iterdir() if path.suffix in (".html", ".svg", ".csv")}
    assert len(texts) == 4
    for file, text in texts.items():
        assert not set(CONTROLS) & set(text), file
        assert r"red \x00\x01" in text, file
        assert "\\u202e" in text, file
        assert "\N{NO-BREAK SPACE}end" in text, file
    assert ElementTree.fromstring(texts["part.svg"]).tag.endswith("svg")
    assert r"\x1f1" in texts["part.csv"]
