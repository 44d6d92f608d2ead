"""Write POPGym's results into ``docs/popgym.md``: ``python -m docs.scripts.popgym``.

The tables between ``<!-- popgym: NAME -->`` and ``<!-- end of popgym -->``, and the figure of the learning curves, come
from the results of ``benchmarks.popgym`` and ``benchmarks.popgym_references``.
"""

import json
import re
from typing import Any

from benchmarks.popgym import CELLS, FOLDER, LEVELS, option, task_of
from benchmarks.popgym_references import PATH as REFERENCES
from docs.scripts.results import ROOT, draw, table

PUBLISHED: dict[str, tuple[float | None, float | None, float | None]] = {  # of 13 networks, arXiv:2303.01859, appendix
    "RepeatFirst": (1.0, 1.0, 0.969),
    "RepeatPrevious": (1.0, 0.789, 0.191),
    "CountRecall": (0.509, -0.519, -0.470),
    "Autoencode": (-0.283, -0.420, -0.448),
    "HigherLower": (0.529, 0.513, 0.509),
    "Concentration": (None, None, None),
    "MultiarmedBandit": (0.631, 0.598, 0.574),
    "PositionOnlyCartPole": (1.0, 1.0, 1.0),
}
BLOCK = re.compile(r"(<!-- popgym: (\w+) -->\n).*?(<!-- end of popgym -->)", re.DOTALL)
PAGE = ROOT / "docs" / "popgym.md"
FIGURE = ROOT / "docs" / "images" / "popgym.png"


def main() -> None:
    """Write both."""
    reports = read_reports()
    PAGE.write_text(with_tables(PAGE.read_text(), reports))
    if reports:
        draw({cell: [seed["curve"] for seed in report["seeds"]] for cell, report in reports.items()}, FIGURE)


def read_reports() -> dict[str, dict[str, Any]]:
    """Read the results of all cells that were run, in the table's order."""
    paths = {cell: FOLDER / f"{cell}.json" for cell in CELLS}
    return {cell: json.loads(path.read_text()) for cell, path in paths.items() if path.exists()}


def with_tables(text: str, reports: dict[str, dict[str, Any]]) -> str:
    """Return the page's text with the present tables."""
    tables = {"results": results, "settings": settings}
    return BLOCK.sub(lambda found: f"{found[1]}{tables[found[2]](reports)}\n{found[3]}", text)


def results(reports: dict[str, dict[str, Any]]) -> str:
    """Return the table of returns: a row for each cell."""
    rules = json.loads(REFERENCES.read_text())["mean_return"]
    rows = [["task", "published best", "here, seed by seed", "env steps", "CPU minutes", "played by rules"]]
    for cell in CELLS:
        seeds = reports.get(cell, {"seeds": []})["seeds"]
        published = PUBLISHED[task_of(cell)][LEVELS.index(cell.removeprefix(task_of(cell)))]
        rows.append(
            [
                cell,
                "" if published is None else f"{published:.3f}",
                ", ".join(f"{seed['return_mean']:.3f}" for seed in seeds) or "not run",
                f"{max(seed['env_steps'] for seed in seeds):,}" if seeds else "",
                f"{max(seed['fit_cpu_seconds'] for seed in seeds) / 60:.0f}" if seeds else "",
                ", ".join(f"{name} {value:.3f}" for name, value in rules.get(cell, {}).items()),
            ]
        )
    figure = f"\n\n![Return of the greedy policy during training, by task](images/{FIGURE.name})" if reports else ""
    return table(rows) + figure


def settings(reports: dict[str, dict[str, Any]]) -> str:
    """Return the table of what each cell changes in the base config."""
    rows = [["task", "changes to base.yaml"]]
    for cell, report in reports.items():
        changes = ", ".join(
            f"`{name.replace('model.', '')}: {option(value)}`" for name, value in report["settings"].items()
        )
        rows.append([cell, changes])
    return table(rows)


if __name__ == "__main__":
    main()
