"""Record the hidden states of trained networks, and write a report on what they hold.

Each network plays greedy episodes, or sees those of a table, and its units are written step by step with the labels of
each step (states.npz, states.csv; states.parquet if pyarrow is installed). The report has trajectories by item, linear
decoding of past items and of the serial position, generalization over time, representational similarity, angles between
item subspaces, dimension, and the contributions of past observations to each choice, each beside shuffled labels.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from seqrl_lightning.checkpoints.archive import limited_memory
from seqrl_lightning.checkpoints.format import read_checkpoint
from seqrl_lightning.checkpoints.last import usable_checkpoint
from seqrl_lightning.errors import needs_extra
from seqrl_lightning.files import require_file
from seqrl_lightning.policy import Policy, load_policy
from seqrl_lightning.running.file_options import add_allow, add_max_gib
from seqrl_lightning.running.messages import typed_command
from seqrl_lightning.trust import Trust
from seqrl_lightning.types import ConfigurationError, printable

if TYPE_CHECKING:
    from seqrl_lightning.analysis.representations import Representation
    from seqrl_lightning.analysis.states import States


class Source(NamedTuple):
    """A network that is looked at."""

    run: str  # the run's name in the report
    name: str  # the network's
    path: Path  # of the checkpoint
    env_steps: int | None  # how long it was trained; None if its file doesn't say so
    untrained_seed: int | None = None  # of random weights, in place of the checkpoint's
    has_sections: bool = True  # in the report; others are in its comparison alone


def add_arguments(parser: ArgumentParser) -> None:
    """Add the networks, the episodes, and the report's folder."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="a run's folder, one above several runs, or a checkpoint"
    )
    parser.add_argument(
        "--checkpoints",
        choices=["last", "all"],
        default="last",
        help="which checkpoints of a run: `all` compares them over training (of a run with --checkpoint.save_top_k -1)",
    )
    parser.add_argument("--untrained", action="store_true", help="add each network as it was before training")
    parser.add_argument(
        "--table", type=Path, help="show the networks the observations of a table, like trials.csv or predictions.csv"
    )
    parser.add_argument(
        "--episodes", type=PositiveInt, default=400, help="episodes that are played, or the last ones of the table"
    )
    parser.add_argument(
        "--units",
        choices=["features", "state"],
        default="features",
        help="what is analyzed: what the network's head reads (of a GRU, its units), or all that it carries (of an "
        "LSTM, its cells too)",
    )
    parser.add_argument("--shuffles", type=PositiveInt, default=100, help="number of times that labels are shuffled")
    parser.add_argument("--seed", type=int, default=0, help="seed of the episodes, the folds and the shuffles")
    parser.add_argument(
        "--output", type=Path, help="the report's folder; by default `represent` in the runs' common folder"
    )
    add_allow(parser)
    add_max_gib(parser)


def run(arguments: Namespace) -> None:
    """Write states and report, and print where they are."""
    with limited_memory(arguments.max_gib):
        write(arguments)


def write(arguments: Namespace) -> None:
    """Record the networks, and write their states and the report."""
    with needs_extra("analysis"):
        from seqrl_lightning.analysis.report import write_report
        from seqrl_lightning.analysis.representations import sections_on
        from seqrl_lightning.analysis.representations_compared import comparison

    sources, common = sources_of(arguments)
    folder = arguments.output or common / "represent"
    if not arguments.output and folder.is_symlink():
        raise ConfigurationError(f"{folder} is a symbolic link; it must be a folder, or give --output")
    policies = [policy_of(source, arguments) for source in sources]
    tasks = sorted({str(policy.recipe.data.get("env_id")) for policy in policies})
    if len(tasks) > 1:
        raise ConfigurationError(f"the runs are of {' and '.join(tasks)}; they must be of one task")
    prefixes = [f"{number}_" for number in range(1, len(policies) + 1)] if len(policies) > 1 else [""]
    tables = [arguments.table or folder / f"{prefix}trials.csv" for prefix in prefixes]
    recorded, found = zip(*map(record_and_measure, sources, policies, tables, [arguments] * len(sources)), strict=True)
    write_states(recorded, folder)
    sections = [] if len(found) == 1 else [comparison(found)]
    for source, one, prefix in zip(sources, found, prefixes, strict=True):
        sections += sections_on(one, prefix) if source.has_sections else []
    path = write_report(f"States of networks trained on {tasks[0]}", about(found, arguments), sections, folder)
    print(printable(str(path)))


def about(networks: Sequence["Representation"], arguments: Namespace) -> str:
    """Say what was recorded, of which networks, and by which command."""
    named = "; ".join(found.name for found in networks)
    units = "the features that the head reads" if arguments.units == "features" else "all that the network carries"
    episodes, steps, size = networks[0].aligned.units.shape
    origin = "greedy episodes" if arguments.table is None else f"episodes of {arguments.table}"
    return (
        f"{named}. {episodes} {origin} of {steps} steps are analyzed, with {size} units: {units}. Labels were shuffled "
        f"{arguments.shuffles} times. Written by `{typed_command()}`."
    )


def sources_of(arguments: Namespace) -> tuple[list[Source], Path]:
    """Return the networks that are meant, and the folder that their runs have in common.

    Raises:
        ConfigurationError: If there is no such run or checkpoint.
    """
    trust = Trust(arguments.allow)
    runs: dict[Path, list[Path]] = {}
    for given in arguments.runs:
        for folder, checkpoints in _checkpoints(given, arguments.checkpoints, trust, arguments.max_gib):
            runs.setdefault(folder.resolve(), []).extend(checkpoints)
    common = Path(os.path.commonpath(runs))
    sources: list[Source] = []
    for number, (folder, name) in enumerate(zip(runs, _names(list(runs), common), strict=True)):
        if arguments.untrained:
            seed = arguments.seed + number
            sources.append(Source(name, f"{name}, untrained", runs[folder][0], 0, untrained_seed=seed))
        sources += _trained(name, runs[folder], arguments)
    return sources, common


def _checkpoints(given: str, which: str, trust: Trust, max_gib: float) -> Iterator[tuple[Path, list[Path]]]:
    """Yield the folder of each run, and its checkpoints; an exported policy is a run of its own."""
    from seqrl_lightning.analysis.runs import find_runs

    path = Path(given)
    if path.is_file():
        if path.suffix == ".safetensors":
            yield path.with_suffix(""), [path]
        else:
            yield path.parent.parent if path.parent.name == "checkpoints" else path.parent, [path]
        return
    for found in find_runs([given], trust, max_gib):
        last = usable_checkpoint(found.folder, resumes=False, max_gib=max_gib)
        others = [path for path in last.parent.glob("*.ckpt") if not path.name.startswith("last")]
        yield found.folder, [last] if which == "last" else [*others, last]


def _names(folders: Sequence[Path], common: Path) -> list[str]:
    """Return a name for each run, from its folder, without those that Lightning makes where it is clear without."""
    if len(folders) == 1:
        return [folders[0].name]
    paths = [folder.relative_to(common).parts for folder in folders]
    short = ["/".join(part for part in path if not re.fullmatch(r"lightning_logs|version_\d+", part)) for path in paths]
    return short if all(short) and len(set(short)) == len(short) else ["/".join(path) for path in paths]


def _trained(run: str, paths: Sequence[Path], arguments: Namespace) -> list[Source]:
    """Return the networks of a run's checkpoints, ascending by training; of two that are equally far, the later."""
    by_steps = {env_steps_of(path, arguments): path for path in paths}
    sources = [
        Source(
            run, run if env_steps is None else f"{run}, {env_steps:,} env steps", path, env_steps, has_sections=False
        )
        for env_steps, path in sorted(by_steps.items(), key=lambda pair: pair[0] or 0)
    ]
    last = sources[-1]._replace(has_sections=True)
    return [*sources[:-1], last] if len(sources) > 1 else [last._replace(name=run)]


def env_steps_of(path: Path, arguments: Namespace) -> int | None:
    """Return how long a network was trained; None if its file doesn't say so."""
    if path.suffix == ".safetensors":
        return None
    checkpoint = read_checkpoint(path, Trust(arguments.allow), arguments.max_gib)
    env_steps = checkpoint.get("ReplayDataModule", {}).get("progress", {}).get("env_steps")
    return env_steps if isinstance(env_steps, int) else None


def policy_of(source: Source, arguments: Namespace) -> Policy:
    """Load a checkpoint's policy, or make it as it was before training."""
    policy = load_policy(source.path, allow=arguments.allow, max_gib=arguments.max_gib)
    return policy if source.untrained_seed is None else policy.untrained(source.untrained_seed)


def record_and_measure(
    source: Source, policy: Policy, table: Path, arguments: Namespace
) -> tuple["States", "Representation"]:
    """Record a network in episodes that it plays or in those of a table, and compute what its states hold.

    Args:
        source: The network.
        policy: Its policy.
        table: The table of trials, which is written here unless it was given.
        arguments: The command's.
    """
    from seqrl_lightning import recording

    if arguments.table is None:
        recording.write_played(policy, table, arguments.episodes, arguments.seed)
    require_file(table, arguments.max_gib)
    states = recording.states_in(policy, table, source.name, arguments.episodes, arguments.units)
    found = recording.measure_states(policy, states, arguments.shuffles, arguments.seed)
    return states, found._replace(run=source.run, env_steps=source.env_steps)


def write_states(networks: Sequence["States"], folder: Path) -> None:
    """Write the states of all networks: ``states.npz`` or, of several, ``1_states.npz``..., and one table of them."""
    from seqrl_lightning.analysis.report import write_long_table
    from seqrl_lightning.analysis.states import table_of, write_arrays

    for number, states in enumerate(networks, 1):
        name = "states.npz" if len(networks) == 1 else f"{number}_states.npz"
        write_arrays(states, folder / name)
    table = table_of(networks)
    write_long_table(lambda: [table], folder / "states.csv")
