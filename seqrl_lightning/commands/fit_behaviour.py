"""Fit models of learning to the choices of agents, animals or people, and write a report.

The table is a CSV or Parquet file with a row for each choice, in their order: state, action (numbered from 0; empty or
-1 for a missed trial), reward and, if there are several subjects, subject. A run's trials.csv is one. Further columns
that are read: group, episode, session or block, correct_action, allowed (the actions to choose from, like "0 2").
"""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from seqrl_lightning.checkpoints.archive import limited_memory
from seqrl_lightning.errors import needs_extra, refused_in_a_line
from seqrl_lightning.files import require_file
from seqrl_lightning.running.file_options import add_max_gib
from seqrl_lightning.running.messages import typed_command
from seqrl_lightning.types import ConfigurationError, printable, require

if TYPE_CHECKING:
    import pandas as pd

    from seqrl_lightning.behavior.histories import Histories
    from seqrl_lightning.behavior.sections import Comparison

NAMES = ("subject", "seed", "group")
"""Columns with names: 001 and NA are such, too."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the table, the models and the report's folder."""
    parser.add_argument("table", type=Path, help="a CSV or Parquet file with a row for each choice")
    parser.add_argument(
        "--models",
        help="the models, with commas between them: QLearning, QLearning+forgetting+perseveration, or models of your "
        "own, my_models.Mine or my_model.py:Mine, which are imported; by default, those that suit the table",
    )
    parser.add_argument(
        "--method",
        help="hierarchical, map (maximum a posteriori) or ml (maximum likelihood); by default hierarchical, or map for "
        "fewer than five subjects in a group",
    )
    parser.add_argument(
        "--cross_validate", action="store_true", help="leave out each session or block once, and predict its choices"
    )
    parser.add_argument(
        "--gru",
        type=list[PositiveInt],
        default=[],
        help="with --cross_validate: also train recurrent networks of these sizes, like [1,2,4] units, "
        "which predict choices without a theory of them",
    )
    parser.add_argument(
        "--recover",
        action="store_true",
        help="test whether parameters and models are recovered with the table's design",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of starting points and simulations")
    parser.add_argument("--output", type=Path, help="the report's folder; by default `behavior` beside the table")
    add_max_gib(parser)


def run(arguments: Namespace) -> None:
    """Write the report and print the comparison of the models."""
    with limited_memory(arguments.max_gib):
        write(arguments)


def write(arguments: Namespace) -> None:
    """Read the table, fit the models, and write the report."""
    with needs_extra("analysis"):
        from seqrl_lightning.analysis.report import write_long_table, write_report
        from seqrl_lightning.behavior.histories import read_histories
        from seqrl_lightning.behavior.likelihood import latents
        from seqrl_lightning.behavior.sections import cautions, model_table, sections_on_models

    table = read(arguments.table, arguments.max_gib)
    with refused_in_a_line(str(arguments.table)):
        histories = read_histories(table)
    folder = arguments.output or arguments.table.parent / "behavior"
    if not arguments.output and folder.is_symlink():
        raise ConfigurationError(f"{folder} is a symbolic link; it must be a folder, or give --output")
    compared = compare(histories, arguments)
    best = compared.fits[compared.best]
    about = f"{histories.num_subjects} subjects, {int(histories.num_choices.sum())} choices, from {arguments.table}."
    sections = sections_on_models(compared, typed_command(), arguments.recover, arguments.seed)
    path = write_report("Models of behavior", about, sections, folder)
    of_rows = keys_of(table).join(latents(best.model, histories, best.points), rsuffix="_of_model")
    rows = of_rows.rename_axis("row").reset_index()
    write_long_table(lambda: [rows], folder / "latents.csv")
    print(printable(model_table(compared, arguments.seed).to_string(float_format="{:.4g}".format, na_rep="-")))
    for caution in cautions(compared):
        print(printable(f"\nWARNING: {caution}"))
    print(printable(f"\n{compared.best} has {compared.criterion}. The report: {path}"))


def keys_of(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return the columns that a table's rows are named by, without the subject."""
    from seqrl_lightning.behavior.histories import KEY_COLUMNS

    return table[[name for name in KEY_COLUMNS if name in table and name != "subject"]]


def read(path: Path, max_gib: float) -> "pd.DataFrame":
    """Read the table; the names of subjects and groups are texts, whatever they look like.

    Raises:
        ConfigurationError: If it can't be used.
    """
    import pandas as pd

    from seqrl_lightning.analysis.trials import read_parquet

    if not path.is_file():
        raise ConfigurationError(f"the table is {str(path)!r}; it must be a CSV or Parquet file that exists")
    require_file(path, max_gib)
    if path.suffix == ".parquet":
        return read_parquet(path, max_gib)
    with refused_in_a_line(str(path)):
        table = pd.read_csv(path, compression=None, converters=dict.fromkeys(NAMES, str.strip))
    if len(table.columns) == 1 and ";" in table.columns[0]:
        raise ConfigurationError(f"{path} has semicolons between its cells; it must have commas")
    return table.replace({name: {"": float("nan")} for name in NAMES if name in table})


def compare(histories: "Histories", arguments: Namespace) -> "Comparison":
    """Fit all models."""
    from seqrl_lightning.behavior.comparison import held_out, require_folds
    from seqrl_lightning.behavior.fits import default_method, fit
    from seqrl_lightning.behavior.model import Model, find_model
    from seqrl_lightning.behavior.models import default_models
    from seqrl_lightning.behavior.sections import Comparison

    require(arguments.cross_validate or not arguments.gru, "--gru", arguments.gru, "given with --cross_validate")
    if arguments.cross_validate:
        require_folds(histories)
    names = default_models(histories.num_positions, histories.num_actions)
    if arguments.models is not None:
        names = [name.strip() for name in arguments.models.split(",")]
    method = arguments.method or default_method(histories)
    models: dict[str, Model] = {}
    for name in dict.fromkeys(names):
        model = find_model(name)
        require(model.name not in models, "--models", arguments.models, f"of different names; {model.name} is twice")
        models[model.name] = model
    seed = arguments.seed
    fits = {name: fit(model, histories, method, seed=seed) for name, model in models.items()}
    selected_by = fits
    if method == "hierarchical":
        selected_by = {name: fit(model, histories, "map", seed=seed) for name, model in models.items()}
    left_out = {}
    if arguments.cross_validate:
        left_out = {name: held_out(model, histories, method, seed) for name, model in models.items()}
    if arguments.gru:
        from seqrl_lightning.behavior.gru import held_out_by_network
        from seqrl_lightning.lightning_messages import silence_misleading_messages

        silence_misleading_messages()
        left_out |= {f"GRU({units})": held_out_by_network(histories, units, seed) for units in arguments.gru}
    return Comparison(histories, fits, selected_by, left_out)
