"""Search for good values of settings with Optuna: train one trial after another and write best.yaml.

Values are drawn by TPE. A trial that is worse than the median of those before it, at the same evaluation, is pruned.
Several processes, also on several machines, share a study by the same --study and --storage. A sweep that was killed
continues when it is started again, up to --trials in all; trials that a killed process left unfinished don't count. All
further arguments, like --trainer.max_steps 1000, are those of `seqrl fit`.
"""

import shlex
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import Callback, LightningModule, Trainer

from seqrl_lightning.checkpoints.archive import limited_memory
from seqrl_lightning.checkpoints.changes import flat
from seqrl_lightning.commands.fitting import DryFit, Fit, name_of
from seqrl_lightning.errors import needs_extra
from seqrl_lightning.files import require_own_files, write_file
from seqrl_lightning.launch import Job, Launcher, add_launcher, launcher_of
from seqrl_lightning.launched import report
from seqrl_lightning.lightning_messages import quiet
from seqrl_lightning.running.file_options import add_max_gib
from seqrl_lightning.running.messages import program
from seqrl_lightning.types import ConfigurationError, DivergedError, RunError, one_line, printable, require

with needs_extra("sweep"):
    import optuna
    from optuna.trial import FrozenTrial, Trial, TrialState
    from optuna_integration import PyTorchLightningPruningCallback
    from tqdm import tqdm

    from seqrl_lightning.commands.sweep_database import require_own_database
    from seqrl_lightning.commands.sweep_space import (
        Space,
        as_arguments,
        as_text,
        boundary_values,
        holds,
        read_space,
        suggest,
    )
    from seqrl_lightning.commands.sweep_study import open_study, require_readable, require_same_subject

_BAR_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
_OF_EACH_PROCESS = ("space", "trials", "study", "output", "storage", "metric", "max_gib")
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_DIFFER_BY_MACHINE = ("trainer.accelerator", "trainer.devices", "trainer.default_root_dir", "torch_threads")
_CANNOT_WORK = (
    ConfigurationError,
    DivergedError,
    torch.OutOfMemoryError,
)  # errors of a trial's values, not of the sweep


def add_arguments(parser: ArgumentParser) -> None:
    """Add the config, the space, and the places of the study and its runs."""
    parser.add_argument("--config", action="append", required=True, help="as for `seqrl fit`")
    parser.add_argument("--space", type=Path, required=True, help="a YAML file: settings, their ranges and choices")
    parser.add_argument("--trials", type=int, default=40, help="finished trials of the study, over all processes")
    parser.add_argument("--jobs", type=int, default=1, help="processes that train trials of the study side by side")
    add_launcher(parser)
    parser.add_argument("--study", help="the study's name; by default the config's")
    parser.add_argument("--output", type=Path, help="the runs' and best.yaml's folder; by default runs/sweeps/STUDY")
    parser.add_argument("--storage", help="the study's database; by default sqlite:///OUTPUT/study.db")
    parser.add_argument(
        "--metric", default="val/return_mean", help="the measure to maximize, as of a run's last evaluation"
    )
    parser.add_argument("--no_pruning", action="store_true", help="train every trial to its end")
    add_max_gib(parser)


def run(arguments: Namespace) -> None:
    """Check everything, train until the study is complete, and write ``best.yaml``."""
    require(arguments.trials > 0, "--trials", arguments.trials, "at least 1")
    launcher = launcher_of(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    with quiet():
        sweep = prepare(arguments)
        is_alone = arguments.jobs == 1 and arguments.launcher == "local"
        status = sweep.run() if is_alone else run_side_by_side(arguments, sweep.folder, launcher)
        if not status or sweep.has_best:
            sweep.report()
    if status:
        sys.stderr.write("seqrl: interrupted; the same command continues\n")
        sys.exit(status)


def run_side_by_side(arguments: Namespace, folder: Path, launcher: Launcher) -> int:
    """Train the trials in several processes, each of which is a sweep over the same study.

    Returns:
        0, or the exit status if it was interrupted.

    Raises:
        RunError: If one of them failed.
    """
    own = [f"--{name}={arguments[name]}" for name in _OF_EACH_PROCESS if arguments[name] is not None]
    own += [f"--config={config}" for config in arguments.config] + ["--no_pruning"] * arguments.no_pruning
    command = ["sweep", *own, *arguments.fit_arguments]
    jobs = [Job(f"process {i}", command, folder / f"process_{i}.log") for i in range(1, arguments.jobs + 1)]
    received = launcher.run(jobs)
    if not received and (failed := [job.log.name for job in jobs if job.status]):
        raise RunError(f"{len(failed)} of {len(jobs)} processes failed: see {', '.join(failed)} in {folder}")
    return 128 + received if received else 0


def prepare(arguments: Namespace) -> "Sweep":
    """Check everything and open the study."""
    name = arguments.study or name_of(arguments.config)
    folder = arguments.output or Path("runs/sweeps") / name
    require_own_files(folder)
    fit_arguments = [f"--config={config}" for config in arguments.config] + arguments.fit_arguments
    space = read_space(arguments.space)
    config = check(fit_arguments, arguments.space, space)
    url = arguments.storage or f"sqlite:///{folder}/study.db"
    with limited_memory(arguments.max_gib):
        require_own_database(url, arguments.max_gib)
        study = open_study(name, url, folder, arguments.no_pruning)
        require_readable(study)
    require_same_subject(
        study, {"--metric": arguments.metric, **{f"--space: {key}": repr(space[key]) for key in space}, **config}
    )
    return Sweep(study, space, arguments.metric, arguments.trials, fit_arguments, folder)


def check(fit_arguments: list[str], path: Path, space: Space) -> dict[str, Any]:
    """Read the config as it is, and begin runs with the ends of all ranges.

    Returns:
        The config's settings by their dotted names, without those that may be different on each machine.

    Raises:
        ConfigurationError: If one of them can't work.
    """
    fit = DryFit(fit_arguments)
    require(fit.settings.ckpt_path is None, "ckpt_path", fit.settings.ckpt_path, "left out: each trial starts afresh")
    processes = fit.trainer.world_size
    require(processes == 1, "the number of a trial's processes", processes, "1 (start several sweeps on one study)")
    for values in boundary_values(space):
        try:
            DryFit([*fit_arguments, *as_arguments(values)], starts=True)
        except ConfigurationError as error:
            chosen = ", ".join(f"{name} = {value}" for name, value in values.items())
            raise ConfigurationError(f"{error} (with {chosen}, from {path})") from error
    settings = flat(yaml.safe_load(fit.as_yaml()))
    return {name: value for name, value in settings.items() if name not in _DIFFER_BY_MACHINE}


class Sweep:
    """Train trials of a study, together with other processes, until enough are finished.

    Args:
        study: The study.
        space: What the trials' values are drawn from.
        metric: The objective, as it is logged.
        total: How many trials of the study are to be finished: trained to their ends, or pruned.
        fit_arguments: The arguments of ``seqrl fit`` that all trials have in common.
        folder: Where the runs and ``best.yaml`` go.
    """

    def __init__(
        self, study: optuna.Study, space: Space, metric: str, total: int, fit_arguments: list[str], folder: Path
    ) -> None:
        self.study = study
        self.space = space
        self.metric = metric
        self.total = total
        self.fit_arguments = fit_arguments
        self.folder = folder
        self._status = 0

    def run(self) -> int:
        """Train trials while some are missing. Returns 0, or the exit status if it was interrupted."""
        done = self._count(*_FINISHED)
        with tqdm(
            desc="Trials", total=self.total, initial=done, file=sys.stdout, disable=None, bar_format=_BAR_FORMAT
        ) as self._bar:
            try:
                while (finished := self._count(*_FINISHED)) < self.total:
                    optuna.storages.fail_stale_trials(self.study)
                    if finished + self._count(TrialState.RUNNING) < self.total:
                        self._run_trial()
                    else:
                        self._show("waiting for the last trials of other processes")
                        time.sleep(1)
            except KeyboardInterrupt:
                return self._status or 130
            self._show()
        return 0

    @property
    def has_best(self) -> bool:
        """Whether any trial was trained to its end."""
        return self._count(TrialState.COMPLETE) > 0

    def report(self) -> None:
        """Write ``best.yaml`` and print the result.

        Raises:
            RunError: If no trial was trained to its end.
        """
        finished, pruned = self._count(*_FINISHED), self._count(TrialState.PRUNED)
        if not self.has_best:
            raise RunError(f"no trial of the study {self.study.study_name!r} was trained to its end ({pruned} pruned)")
        path = self._write_best()
        best = self._best()
        print(f"{finished} of {self.total} trials, {pruned} of them pruned. The best, trial {best.number}:")
        print(f"  {self.metric}: {best.value}")
        print("\n".join(f"  {name}: {as_text(value)}" for name, value in best.params.items()))
        print(f"{program()} fit --config {shlex.quote(str(path))}")

    def _count(self, *states: TrialState) -> int:
        return len(self.study.get_trials(deepcopy=False, states=states))

    def _run_trial(self) -> None:
        try:
            self.study.optimize(self._train, n_trials=1, catch=(_SurplusError,), callbacks=[self._note])
        except (optuna.exceptions.UpdateFinishedTrialError, ValueError) as error:
            if isinstance(error, ValueError) and "Cannot tell a FAIL trial" not in str(error):
                raise
            tqdm.write("other processes gave a trial up: this one was silent for too long", sys.stdout)

    def _train(self, trial: Trial) -> float:
        """Train a trial's run. Returns the objective."""
        if self.is_surplus(trial):
            raise _SurplusError
        self._show(f"trial {trial.number}")
        callbacks = [_Watch(self, trial), PyTorchLightningPruningCallback(trial, self.metric)]
        try:
            trainer = Fit(self._arguments(trial), callbacks).trainer
        except _CANNOT_WORK as error:
            trial.set_user_attr("reason", one_line(error))
            raise optuna.TrialPruned from error  # which tells the sampler to avoid such values
        except SystemExit as end:
            if end.code not in (1, 143):
                raise
            self._status = 130 if end.code == 1 else 143  # Lightning's after Ctrl-C, and after SIGTERM
            raise KeyboardInterrupt from end
        return self.objective(trainer)

    def _arguments(self, trial: Trial) -> list[str]:
        """Return the arguments of ``seqrl fit`` for a trial.

        Raises:
            ConfigurationError: If somebody else has put it into the study, with values that the space doesn't hold.
        """
        values = {name: suggest(trial, name, distribution) for name, distribution in self.space.items()}
        self._require_in_space(trial.number, values)
        return [
            "--data.save_replay=false",  # no trial is ever resumed
            *self.fit_arguments,
            *as_arguments(values),
            f"--trainer.default_root_dir={self.folder / f'trial_{trial.number:04}'}",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
        ]

    def is_surplus(self, trial: Trial) -> bool:
        """Return whether there are enough trials without it: several processes may begin the last one at once."""
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING, *_FINISHED))
        return sum(other.number < trial.number for other in trials) >= self.total

    def objective(self, trainer: Trainer) -> float:
        """Return the metric as of the last evaluation.

        Raises:
            RunError: If there is none of this name.
        """
        metrics = trainer.callback_metrics
        if self.metric not in metrics:
            raise RunError(f"--metric is {self.metric!r}; it must be one of {', '.join(sorted(metrics))}")
        return float(metrics[self.metric])

    def _note(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Print how a trial ended; write ``best.yaml`` if it is the best so far."""
        if trial.state not in _FINISHED:
            return
        outcome = trial.user_attrs.get("reason") or f"{trial.value:g}"
        if trial.intermediate_values and trial.state is TrialState.PRUNED:
            outcome += f" (pruned after {len(trial.intermediate_values)} evaluations)"
        values = ", ".join(f"{_short(name)} = {_short(value)}" for name, value in trial.params.items())
        tqdm.write(printable(f"trial {trial.number}: {outcome}, with {values}"), sys.stdout)
        if trial.state is TrialState.COMPLETE and trial.number == study.best_trial.number:
            self._write_best()

    def _best(self) -> FrozenTrial:
        """Return the best trial.

        Raises:
            ConfigurationError: If its values aren't from the space.
        """
        best = self.study.best_trial
        self._require_in_space(best.number, best.params)
        return best

    def _require_in_space(self, number: int, values: Mapping[str, Any]) -> None:
        """Refuse values that the space doesn't hold: a shared study may hold anything, and values become settings."""
        for name, value in values.items():
            if name not in self.space or not holds(self.space[name], value):
                raise ConfigurationError(
                    f"trial {number} of the study {self.study.study_name!r} has {name} = {value!r}, which --space "
                    "doesn't hold: it is not of this sweep; give another --study"
                )

    def _write_best(self) -> Path:
        best, path = self._best(), self.folder / "best.yaml"
        config = DryFit([*self.fit_arguments, *as_arguments(best.params)]).as_yaml()
        head = f"# {self.metric} {best.value:g} in trial {best.number} of the sweep {self.study.study_name}\n"
        write_file(path, lambda file: file.writelines([(head + config).encode()]))
        return path

    def _show(self, doing: str = "") -> None:
        """Update the progress bar, and report."""
        self._bar.n = self._count(*_FINISHED)
        best = [f"best {self.study.best_value:g}"] if self.has_best else []
        figures = ", ".join([*best, *([doing] if doing else [])])
        self._bar.set_postfix_str(figures)
        report(f"trials {self._bar.n}/{self.total}, {figures}".removesuffix(", "))


class _SurplusError(Exception):
    """The study has enough trials without this one."""


class _Watch(Callback):
    """Show a trial's evaluations, and fail early if the metric isn't logged."""

    def __init__(self, sweep: Sweep, trial: Trial) -> None:
        self.sweep = sweep
        self.number = trial.number

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        value = self.sweep.objective(trainer)
        self.sweep._show(f"trial {self.number} at {value:g} in epoch {trainer.current_epoch}")


def _short(thing: object) -> str:
    return f"{thing:.4g}" if isinstance(thing, float) else str(thing).replace(".init_args", "")
