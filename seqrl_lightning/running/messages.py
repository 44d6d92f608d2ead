"""Print notes on a run's settings, and the paths of its results."""

import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from seqrl_lightning.data import LearnerDataModule
from seqrl_lightning.running.folder import LAST
from seqrl_lightning.trainer_access import attributes_of, run_folder
from seqrl_lightning.types import printable, shortened


@rank_zero_only
def note(message: str) -> None:
    """Print a line to standard error, from the main process only."""
    sys.stderr.write(f"seqrl: {printable(shortened(message))}\n")


def program() -> str:
    """Return how the program was started, for commands that are printed."""
    return "seqrl" if Path(sys.argv[0]).stem == "seqrl" else "python -m seqrl_lightning"


def allowing(tasks: Iterable[str]) -> str:
    """Return the option by which a report may import users' own tasks: `` --allow my_tasks``, or nothing."""
    modules = sorted({task.rpartition(":")[0] for task in tasks} - {""})
    return "".join(f" --allow {module}" for module in modules)


def typed_command() -> str:
    """Return the command as it was typed."""
    return f"{program()} {shlex.join(sys.argv[1:])}"


def print_summary(trainer: Trainer) -> None:
    """Print the run's folder, its results, and the next commands."""
    folder = os.path.relpath(run_folder(trainer))  # asked for in every process, so that they agree on it
    if not trainer.is_global_zero or attributes_of(trainer).fast_dev_run:
        return
    data = LearnerDataModule.of(trainer)
    config, last = (shlex.quote(os.path.join(folder, *name)) for name in (["config.yaml"], LAST))
    print(
        f"\nRun folder:     {printable(folder)}\n"
        f"Greedy policy:  {_outcome(trainer, data)}\n"
        f"Next:           {program()} test --config {config} --ckpt_path {last}\n"
        f"                {program()} analyse {shlex.quote(folder)}{allowing([data.env_id or ''])}"
    )


def _outcome(trainer: Trainer, data: LearnerDataModule) -> str:
    progress, result = data.progress, trainer.callback_metrics.get("val/return_mean")
    block = f", in block {progress.block}" if data.num_blocks else ""
    found = "not evaluated" if result is None else f"mean return {float(result):g}{block}"
    if not data.has_agent:
        return f"{found}, after {trainer.global_step:,} updates from logged trials"
    return f"{found}, after {progress.env_steps:,} env steps and {progress.episodes:,} episodes"


def print_results(trainer: Trainer, stage: str) -> None:
    """Print the results of an evaluation, one a line.

    Args:
        trainer: It has evaluated.
        stage: The results' prefix, ``val`` or ``test``.
    """
    if not trainer.is_global_zero:
        return
    data, metrics = LearnerDataModule.of(trainer), trainer.callback_metrics
    lines = {name: f"{float(value):.6g}" for name, value in metrics.items() if name.startswith(f"{stage}/")}
    if data.has_agent:
        lines["trained for"] = f"{data.progress.env_steps:,} env steps"
    width = max(map(len, lines), default=0)
    print(*("", *(f"{name:{width}}  {value}" for name, value in lines.items())), sep="\n")


def print_rules(trainer: Trainer, stage: str) -> None:
    """Print the rule that each result of an evaluation belongs to, for tasks with blocks.

    Args:
        trainer: It has evaluated.
        stage: The results' prefix, ``val`` or ``test``.
    """
    data = LearnerDataModule.of(trainer)
    if not data.num_blocks or not trainer.is_global_zero:
        return
    for block, name in enumerate(data.task_facts.block_names):
        present = f" ({stage}/return_mean is of this one)" if block == data.progress.block else ""
        print(f"{stage}/block_{block}: the rule of {printable(name)}{present}")
