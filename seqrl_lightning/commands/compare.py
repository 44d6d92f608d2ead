"""Compare conditions on one task: learning curves, speed, errors, final returns, with tests from five seeds on.

Conditions are recognized by their settings: `seqrl compare runs/delay_*`. With --runs, they get names.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from seqrl_lightning.checkpoints.archive import limited_memory
from seqrl_lightning.commands.analyse import add_axis
from seqrl_lightning.errors import needs_extra
from seqrl_lightning.running.file_options import add_allow, add_max_gib
from seqrl_lightning.running.messages import program, typed_command
from seqrl_lightning.trust import Trust
from seqrl_lightning.types import ConfigurationError, printable, require

if TYPE_CHECKING:
    from seqrl_lightning.analysis.runs import Run

_MUST_BE = "NAME=FOLDERS, several of them with commas between, like dqn=lightning_logs/dqn*,iqn=lightning_logs/iqn*"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the conditions, and the report's folder."""
    parser.add_argument("folders", nargs="*", default=[], metavar="RUNS", help="folders of runs of several conditions")
    parser.add_argument("--runs", metavar="NAME=FOLDERS,...", help="a name and folders for each condition instead")
    parser.add_argument("--output", type=Path, default=Path("comparison"), help="the report's folder")
    parser.add_argument(
        "--effect",
        type=float,
        help="the smallest effect that matters, as the probability that a run of one condition beats one of the other, "
        "like 0.75: the report says how many seeds it takes to find it",
    )
    add_axis(parser)
    add_allow(parser)
    add_max_gib(parser)


def run(arguments: Namespace) -> None:
    """Write the report and print where it is."""
    with limited_memory(arguments.max_gib):
        write(arguments)


def write(arguments: Namespace) -> None:
    """Read the runs and write the report."""
    with needs_extra("analysis"):
        from seqrl_lightning.analysis.comparison import sections_on_conditions
        from seqrl_lightning.analysis.conditions import all_trials, conditions_of, has_trials
        from seqrl_lightning.analysis.curves import axis_of
        from seqrl_lightning.analysis.report import write_long_table, write_report
        from seqrl_lightning.analysis.runs import find_runs, one_task
        from seqrl_lightning.analysis.sections import methods, warning

    effect = arguments.effect
    require(effect is None or 0.5 < effect <= 1, "--effect", effect, "above 0.5 and at most 1")
    if bool(arguments.folders) == bool(arguments.runs):
        raise ConfigurationError(
            "the runs are given twice or not at all; they must be folders, or --runs NAME=FOLDERS,..."
        )
    trust = Trust(arguments.allow)
    groups: dict[str, list[Run]]
    if arguments.runs:
        groups = named_conditions(parse_groups(arguments.runs), trust, arguments.max_gib)
    else:
        groups = conditions_of(find_runs(arguments.folders, trust, arguments.max_gib))
        if len(groups) == 1:
            raise ConfigurationError("the runs are of one condition; they must be of several (or use `seqrl analyse`)")
    runs = [run for of_one in groups.values() for run in of_one]
    task = one_task(runs)
    about = ", ".join(f"{name} ({len(of_one)} run{'s' * (len(of_one) > 1)})" for name, of_one in groups.items()) + "."
    axis = axis_of(runs, arguments.axis)
    sections = [*sections_on_conditions(groups, axis, effect), methods(groups, axis, typed_command(), program())]
    path = write_report(f"{len(groups)} conditions of {task}", about + warning(groups), sections, arguments.output)
    if has_trials(groups):
        write_long_table(lambda: all_trials(groups), arguments.output / "trials.csv")
    print(printable(str(path)))


def named_conditions(patterns: dict[str, str], trust: Trust, max_gib: float) -> dict[str, list["Run"]]:
    """Read the runs of conditions that have names.

    Args:
        patterns: The pattern of folders, by each condition's name.
        trust: What the runs' settings may name.
        max_gib: Larger files are refused.

    Raises:
        ConfigurationError: If the runs of a name are of several conditions, or a run has two names.
    """
    from seqrl_lightning.analysis.conditions import one_condition
    from seqrl_lightning.analysis.runs import find_runs

    groups = {name: one_condition(find_runs([pattern], trust, max_gib), name) for name, pattern in patterns.items()}
    _require_one_name(groups)
    return groups


def _require_one_name(groups: dict[str, list["Run"]]) -> None:
    names: dict[Path, str] = {}
    for name, runs in groups.items():
        for run in runs:
            first = names.setdefault(run.folder.resolve(), name)
            if first != name:
                raise ConfigurationError(f"{run.folder} is in {first} and in {name}; each run must be in one condition")


def parse_groups(text: str) -> dict[str, str]:
    """Return the pattern of folders by each condition's name.

    Raises:
        ConfigurationError: If it isn't of the form NAME=FOLDERS,..., or there are fewer than two.
    """
    groups = {}
    for part in text.split(","):
        name, equals, pattern = part.partition("=")
        if not (name.strip() and equals and pattern.strip()) or name.strip() in groups:
            raise ConfigurationError(f"--runs is {text!r}; it must be {_MUST_BE}")
        groups[name.strip()] = pattern.strip()
    if len(groups) < 2:
        raise ConfigurationError(f"--runs is {text!r}; it must name at least two groups ({_MUST_BE})")
    return groups
