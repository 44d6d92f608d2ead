"""Fit tabular learners to the choices of an agent, an animal or a person, by maximum likelihood.

The table is a CSV file with the columns state, action (numbered from 0), reward and, if there are several subjects,
subject, with a row for each choice in their order; a run's trials.csv is one. Models are compared by AIC and BIC, and
each with chance by a likelihood-ratio test.
"""

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from seqrl_lightning.checkpoints.archive import limited_memory
from seqrl_lightning.errors import needs_extra, printable, refused_in_a_line
from seqrl_lightning.files import require_file
from seqrl_lightning.trust import add_max_gib
from seqrl_lightning.types import ConfigurationError, require

_RECOVERY_ENV = "seqrl/SequenceDistractor-v0"
_RECOVERY_BLOCKS = [{"sequence": "ABCDE", "episodes": 30}, {"sequence": "swap_2_4"}]


def add_arguments(parser: ArgumentParser) -> None:
    """Add the table or the number of simulated subjects, and the output file."""
    parser.add_argument("table", nargs="?", type=Path, help="a CSV file with a row for each choice")
    parser.add_argument(
        "--recover", type=int, metavar="N", help="recover the parameters of N simulated subjects instead"
    )
    parser.add_argument("--episodes", type=int, default=60, help="episodes of each simulated subject")
    parser.add_argument("--output", type=Path, help="CSV file for the fits; by default, fits.csv beside the table")
    add_max_gib(parser)


def run(arguments: Namespace) -> None:
    """Fit the models to a table, or to simulated subjects."""
    if arguments.recover is not None:
        show_recovery(arguments)
    else:
        with limited_memory(arguments.max_gib):
            fit_table(arguments)


def fit_table(arguments: Namespace) -> None:
    """Fit the models, print the fits and write them."""
    with needs_extra("analysis"):
        import pandas as pd

        from seqrl_lightning.analysis.behavior import fit_all, read_choices
        from seqrl_lightning.analysis.report import write_table

    path = arguments.table
    if path is None or not path.is_file():
        raise ConfigurationError(f"the table is {str(path)!r}; it must be a CSV file, or left out with --recover N")
    require_file(path, arguments.max_gib)
    with refused_in_a_line(str(path)):
        choices = read_choices(pd.read_csv(path, compression=None))
    fits = fit_all(choices)
    output = arguments.output or path.with_name("fits.csv")
    write_table(fits, output)
    print(printable(fits.to_string(float_format="{:.4g}".format, na_rep="-")))
    print(f"\nWritten to {output}")


def show_recovery(arguments: Namespace) -> None:
    """Print how well the parameters of simulated subjects are recovered."""
    import gymnasium as gym

    from seqrl_lightning.analysis.behavior import BOUNDS, recover
    from seqrl_lightning.analysis.report import write_table

    require(arguments.recover > 2, "--recover", arguments.recover, "at least 3")
    require(arguments.episodes > 0, "--episodes", arguments.episodes, "at least 1")
    found = recover(gym.make(_RECOVERY_ENV, blocks=_RECOVERY_BLOCKS), arguments.recover, arguments.episodes)
    for name in BOUNDS:
        correlation = found[name].corr(found[f"{name} found"])
        error = (found[f"{name} found"] - found[name]).abs().median()
        print(f"{name:14} correlation {correlation:.2f}, median error {error:.3f}")
    if arguments.output:
        write_table(found, arguments.output)
