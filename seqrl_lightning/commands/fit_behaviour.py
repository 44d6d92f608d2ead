"""Fits tabular learners to a table of choices, an agent's, an animal's or a person's, by maximum likelihood.

The table is a CSV file with the columns state, action (from 0), reward and, with several subjects, subject, in the
order of the choices, like the trials.csv of a run. Models are compared by AIC and BIC, and with chance by likelihood
ratio.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from seqrl_lightning.errors import needs_extra
from seqrl_lightning.types import ConfigurationError, require

_RECOVERY_ENV = "seqrl/SequenceDistractor-v0"
_RECOVERY_BLOCKS = [{"sequence": "ABCDE", "episodes": 30}, {"sequence": "swap_2_4"}]


def add_arguments(parser: ArgumentParser) -> None:
    """The table, or simulated subjects, and where the fits go."""
    parser.add_argument("table", nargs="?", type=Path, help="a CSV file")
    parser.add_argument("--recover", type=int, metavar="N", help="instead: N simulated subjects, and what is recovered")
    parser.add_argument("--episodes", type=int, default=60, help="of each simulated subject")
    parser.add_argument("--output", type=Path, help="the fits' CSV file; by default fits.csv beside the table")


def run(arguments: Namespace) -> None:
    """Fits, prints and writes."""
    with needs_extra("analysis"):
        import pandas as pd

        from seqrl_lightning.analysis.behaviour import fit_all, read_choices
        from seqrl_lightning.analysis.report import write_table

    if arguments.recover is not None:
        show_recovery(arguments)
        return
    path = arguments.table
    if path is None or not path.is_file():
        raise ConfigurationError(f"the table is {str(path)!r}; it must be a CSV file (or give --recover N)")
    fits = fit_all(read_choices(pd.read_csv(path, compression=None)))
    output = arguments.output or path.with_name("fits.csv")
    write_table(fits, output)
    print(fits.to_string(float_format="{:.4g}".format, na_rep="-"))
    print(f"\n{output}")


def show_recovery(arguments: Namespace) -> None:
    """Prints how well parameters are recovered from simulated subjects."""
    import gymnasium as gym

    from seqrl_lightning.analysis.behaviour import BOUNDS, recover
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
