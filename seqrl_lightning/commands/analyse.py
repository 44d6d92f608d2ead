"""Write a report on runs that differ in their seed alone: figures (PNG, SVG), tables (CSV) and a page (HTML)."""

import os
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from seqrl_lightning.checkpoints.archive import limited_memory
from seqrl_lightning.errors import needs_extra, printable
from seqrl_lightning.trust import Trust, add_allow, add_max_gib
from seqrl_lightning.types import ConfigurationError


def add_arguments(parser: ArgumentParser) -> None:
    """Add the runs, and the report's folder."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, or one above several runs")
    parser.add_argument(
        "--output", type=Path, help="the report's folder; by default `analysis` in the runs' common folder"
    )
    add_allow(parser)
    add_max_gib(parser)


def run(arguments: Namespace) -> None:
    """Write the report and print where it is."""
    with limited_memory(arguments.max_gib):
        write(arguments)


def write(arguments: Namespace) -> None:
    """Read the runs and write the report."""
    with needs_extra("analysis"):
        from seqrl_lightning.analysis.report import write_report, write_table
        from seqrl_lightning.analysis.runs import find_runs, one_task
        from seqrl_lightning.analysis.sections import sections_on_one_group

    trust = Trust(arguments.allow)
    runs = find_runs(arguments.runs, trust, arguments.max_gib)
    task = one_task(runs)
    seeds = ", ".join(str(run.seed) for run in runs)
    common = Path(os.path.commonpath([run.folder for run in runs]))
    folder = arguments.output or common / "analysis"
    if not arguments.output and folder.is_symlink():
        raise ConfigurationError(f"{folder} is a symbolic link; it must be a folder, or give --output")
    about = f"{len(runs)} run{'s' * (len(runs) > 1)} of {task} (seeds {seeds}), from {common}."
    path = write_report(f"Learning {task}", about, sections_on_one_group(runs), folder)
    tables = [run.trials.assign(seed=run.seed) for run in runs if run.trials is not None]
    if tables:
        import pandas as pd

        write_table(pd.concat(tables), folder / "trials.csv", index=False)
    print(printable(str(path)))
