"""Compare conditions on one task: learning curves, final returns, profiles, probability of improvement."""

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from seqrl_lightning.checkpoints.archive import limited_memory
from seqrl_lightning.errors import needs_extra, printable
from seqrl_lightning.trust import Trust, add_allow, add_max_gib
from seqrl_lightning.types import ConfigurationError

_MUST_BE = "NAME=FOLDERS, several of them with commas between, like dqn=lightning_logs/dqn*,iqn=lightning_logs/iqn*"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the conditions, and the report's folder."""
    parser.add_argument(
        "--runs", required=True, metavar="NAME=FOLDERS,...", help="a name and folders for each condition"
    )
    parser.add_argument("--output", type=Path, default=Path("comparison"), help="the report's folder")
    add_allow(parser)
    add_max_gib(parser)


def run(arguments: Namespace) -> None:
    """Write the report and print where it is."""
    with limited_memory(arguments.max_gib):
        write(arguments)


def write(arguments: Namespace) -> None:
    """Read the runs and write the report."""
    with needs_extra("analysis"):
        from seqrl_lightning.analysis.report import write_report
        from seqrl_lightning.analysis.runs import find_runs, one_task
        from seqrl_lightning.analysis.sections import sections_on_groups

    trust = Trust(arguments.allow)
    patterns = parse_groups(arguments.runs)
    groups = {name: find_runs([pattern], trust, arguments.max_gib) for name, pattern in patterns.items()}
    task = one_task([run for runs in groups.values() for run in runs])
    about = ", ".join(f"{name} ({len(runs)} runs)" for name, runs in groups.items())
    path = write_report(f"{' and '.join(groups)} on {task}", about, sections_on_groups(groups), arguments.output)
    print(printable(str(path)))


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
