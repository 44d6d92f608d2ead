"""Write a report on runs that differ in their seed alone: figures (PNG, SVG, PDF), tables (CSV) and a page (HTML)."""

import os
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from seqrl_lightning.checkpoints.archive import limited_memory
from seqrl_lightning.errors import needs_extra
from seqrl_lightning.running.file_options import add_allow, add_max_gib
from seqrl_lightning.running.messages import program, typed_command
from seqrl_lightning.trust import Trust
from seqrl_lightning.types import ConfigurationError, printable


def add_arguments(parser: ArgumentParser) -> None:
    """Add the runs, and the report's folder."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, or one above several runs")
    parser.add_argument(
        "--output", type=Path, help="the report's folder; by default `analysis` in the runs' common folder"
    )
    add_axis(parser)
    add_allow(parser)
    add_max_gib(parser)


def add_axis(parser: ArgumentParser) -> None:
    """Add what learning curves are drawn over."""
    parser.add_argument(
        "--axis",
        help="what learning curves are drawn over: env_steps, episodes, trials (choices for which an action was right) "
        "or updates; by default, what all runs had the same budget of",
    )


def run(arguments: Namespace) -> None:
    """Write the report and print where it is."""
    with limited_memory(arguments.max_gib):
        write(arguments)


def write(arguments: Namespace) -> None:
    """Read the runs and write the report."""
    with needs_extra("analysis"):
        from seqrl_lightning.analysis.conditions import all_trials, has_trials, one_condition
        from seqrl_lightning.analysis.curves import axis_of
        from seqrl_lightning.analysis.report import write_long_table, write_report
        from seqrl_lightning.analysis.runs import find_runs, one_task
        from seqrl_lightning.analysis.sections import methods, sections_on_one_condition, warning

    trust = Trust(arguments.allow)
    found = find_runs(arguments.runs, trust, arguments.max_gib)
    task = one_task(found)
    runs = one_condition(found)
    seeds = ", ".join(str(run.seed) for run in runs)
    common = Path(os.path.commonpath([run.folder for run in runs]))
    folder = arguments.output or common / "analysis"
    if not arguments.output and folder.is_symlink():
        raise ConfigurationError(f"{folder} is a symbolic link; it must be a folder, or give --output")
    about = f"{len(runs)} run{'s' * (len(runs) > 1)} of {task} (seed{'s' * (len(runs) > 1)} {seeds}), from {common}."
    axis = axis_of(runs, arguments.axis)
    groups = {"all runs": runs}
    sections = [*sections_on_one_condition(runs, axis), methods(groups, axis, typed_command(), program())]
    path = write_report(f"Learning {task}", about + warning(groups), sections, folder)
    if has_trials(groups):
        write_long_table(lambda: all_trials(groups), folder / "trials.csv")
    print(printable(str(path)))
