"""Wire everything together: Lightning's command-line interface with this package's parts."""

import atexit
import gc
import os
import shlex
import sys
import time
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

from seqrl_lightning import algorithms, exploration, networks, replay
from seqrl_lightning.algorithms import LearnerModule
from seqrl_lightning.callbacks import AgentCallback, PriorityWriter, SkippedUpdates, TargetSync
from seqrl_lightning.callbacks.logger_runs import noted_runs, prepare_loggers
from seqrl_lightning.callbacks.network_summary import NetworkSummary
from seqrl_lightning.callbacks.run import background_callbacks
from seqrl_lightning.checkpoints.archive import MAX_GIB
from seqrl_lightning.checkpoints.changes import overruled, require_resumable
from seqrl_lightning.checkpoints.format import read_checkpoint
from seqrl_lightning.checkpoints.last import best_checkpoint, newest_run, run_of, usable_checkpoint
from seqrl_lightning.checkpoints.records import UnusableFileError
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.defaults import defaults_by_kind, options_of_kind, without_given
from seqrl_lightning.errors import (
    OneLineErrors,
    one_line_errors,
    printable,
    refusal_in,
    refused_in_a_line,
    shorten_message,
)
from seqrl_lightning.files import FolderLock, require_own_files, write_file
from seqrl_lightning.lightning_messages import silence_misleading_messages
from seqrl_lightning.metrics import TaskFacts
from seqrl_lightning.parts import ObsShape, plain_shape, shape_of_observation
from seqrl_lightning.reading import read_config
from seqrl_lightning.recipe import check_learner, policy_in
from seqrl_lightning.saved_state import StateError, saved
from seqrl_lightning.signals import Terminated, signals_end_in_a_line
from seqrl_lightning.trainer_access import attributes_of, run_folder
from seqrl_lightning.trust import Trust, add_allow, names_in, settings_of
from seqrl_lightning.types import ConfigurationError, Progress, RunError, one_line, require, shortened

_UNTRAINED = "untrained"  # instead of a checkpoint
_LAST = ("checkpoints", "last.ckpt")


SETTINGS_OF: dict[str, type[Any]] = {
    "data": ReplayDataModule,
    "agent": AgentCallback,
    "target_sync": TargetSync,
    "skipped_updates": SkippedUpdates,
    "trainer": Trainer,
}
"""The class that takes the settings of each prefix; those of ``model`` go to the learner."""


def explain(message: str) -> str:
    """Return a parser's message as one line that suggests a name where one was misspelled."""
    modules = (algorithms, networks, replay, exploration)
    parts = {name: cls for module in modules for name, cls in vars(module).items() if isinstance(cls, type)}
    settings = [f"{prefix}.{name}" for prefix, cls in SETTINGS_OF.items() for name in signature(cls).parameters]
    settings += {name for cls in parts.values() for name in signature(cls).parameters}
    return shorten_message(message, settings, parts)


class SeqRLArgumentParser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser, whose errors are one line."""

    def explain(self, message: str) -> str:
        """Return a message as one line."""
        return explain(message)


class RunConfig(SaveConfigCallback):
    """Write ``config.yaml``, which starts the same run anew: that of a resumed run names no checkpoint."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace, **kwargs: Any) -> None:
        config = config.clone()
        config.ckpt_path = config.weights_only = None
        super().__init__(parser, config, save_to_log_dir=False, **kwargs)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the run's folder, in every process; the first one writes into it."""
        self._folder = run_folder(trainer)
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file whole or not at all: a signal must not leave an empty one, with which no run resumes."""
        text = self.parser.dump(self.config, skip_none=False)
        write_file(self._folder / self.config_filename, lambda file: file.write(text.encode()))


class SeqRLCLI(LightningCLI):
    """Lightning's CLI, with the agent, the target's synchronization and checkpoints as settings beside its own."""

    def __init__(self, args: ArgsType = None) -> None:
        silence_misleading_messages()
        try:
            super().__init__(
                LearnerModule,
                ReplayDataModule,
                subclass_mode_model=True,
                auto_configure_optimizers=False,
                seed_everything_default=0,
                parser_class=SeqRLArgumentParser,
                trainer_defaults={"max_epochs": -1, "num_sanity_val_steps": 0},
                save_config_callback=RunConfig,
                save_config_kwargs={"overwrite": True},
                args=args,
            )
        except MisconfigurationException as error:  # Lightning's own error for a setting that can't work
            raise ConfigurationError(one_line(error)) from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the settings of the callbacks that every run has, and those of the process."""
        parser.add_lightning_class_args(PriorityWriter, "priorities")  # before the agent
        parser.add_lightning_class_args(AgentCallback, "agent")
        parser.add_lightning_class_args(TargetSync, "target_sync")
        parser.add_lightning_class_args(SkippedUpdates, "skipped_updates")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_argument(
            "--torch_threads",
            type=PositiveInt,
            default=1,
            help="CPU threads of one process; small networks are fastest on one.",
        )
        add_allow(parser)
        parser.add_argument(
            "--max_gib", type=PositiveFloat, default=MAX_GIB, help="Checkpoints and sidecars of more GiB are refused."
        )
        parser.set_defaults(
            {
                "model": {"class_path": "DQN"},
                "agent.epsilon": {"class_path": "ExponentialEpsilon"},
                "checkpoint.monitor": "val/return_mean",
                "checkpoint.mode": "max",
            }
        )
        for name, as_trained in (("obs_shape", self._obs_shape), ("n_actions", self._n_actions)):
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", as_trained, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments; ``fit`` has the defaults of the kind of learner and network that they name."""
        words = sys.argv[1:] if args is None else args
        if isinstance(words, list) and words[:1] == ["fit"]:
            self._set_defaults(parser.parse_args(options_of_kind(*words), defaults=False).fit, words)
        elif isinstance(words, dict) and words["subcommand"] == "fit":
            self._set_defaults(parser.parse_object(words, defaults=False).fit)
        super().parse_arguments(parser, args)

    def _set_defaults(self, given: Namespace, words: list[str] | None = None) -> None:
        reason, defaults = defaults_by_kind(given)
        self._parser("fit").set_defaults(defaults)
        if words is not None and (chosen := without_given(defaults, given, words)):
            _tell(f"defaults for {reason}: {', '.join(chosen)}")

    def _obs_shape(self, shape: tuple[int, ...]) -> ObsShape:
        """Return the task's, by which the network is built, unless a checkpoint's weights are for another one."""
        trained = shape if self._trained_on is None else shape_of_observation(self._trained_on["obs_shape"])
        if plain_shape(trained) != plain_shape(shape):
            given = f"the observations' shape in data.env_id is {shape}"
            raise ConfigurationError(f"{given}; it must be the checkpoint's {trained}")
        return plain_shape(shape)

    def _n_actions(self, n_actions: int) -> int:
        """Return the task's number of actions, like :meth:`_obs_shape`."""
        trained = n_actions if self._trained_on is None else self._trained_on["n_actions"]
        require(trained == n_actions, "the number of actions in data.env_id", n_actions, f"the checkpoint's {trained}")
        return n_actions

    def _parse_ckpt_path(self) -> None:
        """Find the checkpoint, and use the network and the settings that it was trained with."""
        config = self.config[self.config.subcommand]
        self._run_folder: Path | None = None  # of a run that is resumed
        self._lock: FolderLock | None = None  # of the run's folder
        self._logger_runs: list[str] = []  # ids of its loggers' runs
        self._env_steps = 0  # that it has taken
        self._resumed_updates: int | None = None  # that it has made
        self._trained_on: dict[str, Any] | None = None  # the checkpoint's settings of the learner
        resumes = self.config.subcommand == "fit"
        if config.ckpt_path == _UNTRAINED and not resumes:
            config.ckpt_path = None
            return
        if config.ckpt_path is None:
            must_be = f"a checkpoint file, 'last' or 'best', or {_UNTRAINED!r} for random weights"
            require(resumes, "ckpt_path", None, must_be)
            return
        if config.ckpt_path in ("last", "best"):
            run = newest_run(Path(config.trainer.default_root_dir or "."))
            if resumes:
                self._run_folder = run
                self._claim(run)
            last = usable_checkpoint(run, resumes, config.max_gib)
            config.ckpt_path = str(last if config.ckpt_path == "last" else best_checkpoint(last, config.max_gib))
        if not Path(config.ckpt_path).is_file():
            must_be = "a checkpoint file, 'last' or 'best'"
            raise ConfigurationError(f"ckpt_path is {config.ckpt_path!r}; it must be {must_be}")
        if config.weights_only is None:
            config.weights_only = True
        self._take_over_settings(Path(config.ckpt_path), config)
        resumed = run_of(Path(config.ckpt_path)) if resumes else None
        if resumed is not None:
            self._compare_settings(resumed)
        same_run = self._run_folder if resumes else self._evaluated_run
        if same_run is not None:
            self._logger_runs = self._noted_runs(same_run)

    def _compare_settings(self, run: Path) -> None:
        """Tell what changed since the run's config was written; refuse what would mix two experiments.

        Raises:
            ConfigurationError: If there is such a change.
        """
        before = read_config(run / "config.yaml")
        now = self._plain_config()
        for settings in (before, now):
            settings.pop("model", None)  # the checkpoint's are used
        for change in require_resumable(before, now):
            _tell(str(change))

    def _noted_runs(self, run: Path) -> list[str]:
        """Return the ids of the runs of a run's loggers, if it has the same loggers now."""
        if not (ids := noted_runs(run)):
            return []
        trainer = read_config(run / "config.yaml").get("trainer")
        before = trainer.get("logger") if isinstance(trainer, dict) else None
        return ids if self._plain_config()["trainer"]["logger"] == before else []

    def _plain_config(self) -> dict[str, Any]:
        """Return the config as plain values, as a run's ``config.yaml`` and its checkpoints hold them."""
        name = self.config.subcommand
        text = self._parser(name).dump(self.config[name], skip_none=False, skip_validation=True)
        plain: dict[str, Any] = yaml.safe_load(text)
        return plain

    def _take_over_settings(self, path: Path, config: Namespace) -> None:
        """Use the algorithm, the network and the settings that a checkpoint's weights were trained with.

        A class that the checkpoint names is imported if files may name it, or the config that was given names it too.
        """
        given = config.model.as_dict()
        plain = self._plain_config()
        trust = Trust(config.allow, names_in([given, config.data.as_dict(), plain["model"], plain["data"]]))
        try:
            checkpoint = read_checkpoint(path, trust, config.max_gib)
        except UnusableFileError as error:
            raise ConfigurationError(f"{path} can't be used: {error}") from error
        recipe, weights = policy_in(checkpoint, path)
        task = recipe.data.get("env_id", config.data.env_id)
        require(config.data.env_id == task, "data.env_id", config.data.env_id, f"the checkpoint's {task!r}")
        settings = settings_of(recipe.model)
        network = {"network": given["init_args"].get("network")}  # where the checkpoint names none: it came from Python
        cls = check_learner(
            recipe.algorithm, {**network, **settings, "compile": False}, weights, trust, str(path), is_parsed=True
        )
        self._trained_on = dict(settings)
        if "compile" in settings:  # it starts a compiler here and changes no result: not the file's to decide
            theirs, ours = settings["compile"], given["init_args"].get("compile", False)
            settings["compile"] = ours
            if theirs != ours:
                _tell(f"model.compile: {ours!r} is used, not the checkpoint's {theirs!r}")
        if self.config.subcommand == "fit":
            with refused_in_a_line(str(path)):
                self._resumed_updates = saved(checkpoint["global_step"], int, "global_step")
                progress = saved(checkpoint["ReplayDataModule"]["progress"], Progress, "the progress")
            self._env_steps = progress.env_steps
        model = settings
        if (named := recipe.model.get("_class_path")) is not None:  # the command line wrote it
            is_same = trust.find(named, str(path)) is cls
            require(is_same, f"_class_path in {path}", named, f"its algorithm, {recipe.algorithm}")
            model = {"class_path": named, "dict_kwargs": settings}
        self.config = self.parser.parse_object({self.config.subcommand: {"model": model}}, self.config)
        used = self.config[self.config.subcommand].model.as_dict()
        for name in ("obs_shape", "n_actions"):  # the task's; not known yet
            given["init_args"].pop(name, None)
        for name, theirs, ours in overruled({"model": used}, {"model": given}):
            _tell(f"{name}: the checkpoint's {theirs!r} is used, not {ours!r}")

    @rank_zero_only
    def _claim(self, run: Path) -> None:
        """Claim a run's folder, before anything in it is changed: two runs in one would mix their files."""
        if self._lock is None:
            self._lock = FolderLock(run)

    def _require_no_other_run(self, folder: Path) -> None:
        """Refuse a new run in the folder of another one, whose files it would overwrite.

        Raises:
            ConfigurationError: If there is one: without a logger, ``trainer.default_root_dir`` is the run's folder.
        """
        last = folder.joinpath(*_LAST)
        checkpoint = self.config[self.subcommand].ckpt_path
        resumed = None if checkpoint is None else Path(checkpoint).absolute().parent.parent
        is_free = not last.exists() or (resumed is not None and resumed.samefile(folder))
        must_be = f"a folder without a run, or --ckpt_path {last} resumes it"
        require(is_free, "trainer.default_root_dir", str(folder), must_be)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the subcommand; if another process is lost meanwhile, name it in the error."""
        if subcommand == "fit" and not attributes_of(self.trainer).fast_dev_run:
            folder = run_folder(self.trainer)
            self._require_no_other_run(folder)
            self._claim(folder)
        try:
            super()._run_subcommand(subcommand)
        except SystemExit as error:
            raise _exit_refused(error) from error
        except Exception as error:  # of whatever kind
            if (line := self._told(error)) is None:
                raise
            raise RunError(line) from error
        finally:
            assert isinstance(self.datamodule, ReplayDataModule)
            self.datamodule.discard_envs()  # Lightning leaves them open after an error
        atexit.register(_end_connections)

    def _told(self, error: Exception) -> str | None:
        """Return in one line what an error of the run comes from; None if it says so itself, or it isn't known."""
        if isinstance(error, RunError | MisconfigurationException) or refusal_in(error) is not None:
            return None
        reason = " ".join(str(error).split())
        if isinstance(error, RuntimeError) and "onnection" in reason and self.trainer.world_size > 1:
            return f"rank {self.trainer.global_rank}: {lost_process(self.trainer)} was lost, so the run ends ({reason})"
        path = self.config[self.config.subcommand].ckpt_path
        if isinstance(error, StateError):
            return f"{path} can't be used: {reason}; give another checkpoint, or start anew without one"
        if self._resumed_updates is not None and self.trainer.global_step <= self._resumed_updates:
            what = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
            return f"the run can't go on from {path} (SEQRL_TRACEBACK=1 shows where): {what}"
        return None

    def instantiate_classes(self) -> None:
        """Build everything; a task or a wrapper that ends the program meanwhile is an error."""
        self._written_config, self.config = self.config, self.config.clone()
        trainer = self.config[self.subcommand].trainer
        trainer.logger = prepare_loggers(trainer.logger, self._logger_runs)
        try:
            super().instantiate_classes()
        except SystemExit as error:
            raise _exit_refused(error) from error

    def before_instantiate_classes(self) -> None:
        """Apply the settings of the process."""
        torch.set_num_threads(self.config[self.subcommand].torch_threads)

    def before_fit(self) -> None:
        """Exempt everything built so far, which stays until the end, from garbage collection."""
        gc.collect()
        gc.freeze()

    def after_fit(self) -> None:
        """Say where the run is, what came out, and what to do next."""
        folder = os.path.relpath(run_folder(self.trainer))  # asked for in every process, so that they agree on it
        if not self.trainer.is_global_zero:
            return
        data = ReplayDataModule.of(self.trainer)
        progress, result = data.progress, self.trainer.callback_metrics.get("val/return_mean")
        block = f", in block {progress.block}" if data.num_blocks else ""
        found = "not evaluated" if result is None else f"mean return {float(result):g}{block}"
        steps = f"{progress.env_steps:,} env steps and {progress.episodes:,} episodes"
        module = data.env_id.rpartition(":")[0]
        allow = (
            f" --allow {module}" if module else ""
        )  # reports import the task by the name that the run's config holds
        config, last = (shlex.quote(os.path.join(folder, *name)) for name in (["config.yaml"], _LAST))
        print(
            f"\nRun folder:     {printable(folder)}\n"
            f"Greedy policy:  {found}, after {steps}\n"
            f"Next:           {program()} test --config {config} --ckpt_path {last}\n"
            f"                {program()} analyse {shlex.quote(folder)}{allow}"
        )

    def after_test(self) -> None:
        """Say which rule the results are of."""
        self._tell_rules("test")

    def after_validate(self) -> None:
        """Say which rule the results are of."""
        self._tell_rules("val")

    def _tell_rules(self, stage: str) -> None:
        data = ReplayDataModule.of(self.trainer)
        if not data.num_blocks or not self.trainer.is_global_zero:
            return
        for block, name in enumerate(TaskFacts.of(data.task).block_names):
            present = f" ({stage}/return_mean is of this one)" if block == data.progress.block else ""
            print(f"{stage}/block_{block}: the rule of {printable(name)}{present}")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the Trainer, with the callbacks that every run has and a TensorBoard logger before all others."""
        self.config = self._written_config  # config.yaml names no runs of loggers
        config, max_gib = self._get(self.config_init, "trainer"), self._get(self.config_init, "max_gib")
        saves = config.get("enable_checkpointing") is not False
        if not saves:
            self._parser(self.subcommand).callback_keys.remove("checkpoint")
        has_bar = config.get("enable_progress_bar") is not False
        self.trainer_defaults["callbacks"] = background_callbacks(has_bar, saves, max_gib)
        if config.get("enable_model_summary") is not False:
            self.trainer_defaults["callbacks"].append(NetworkSummary())
        if config.get("strategy") == "ddp":
            # Buffers hold noise and the like, which differs from process to process.
            kwargs["strategy"] = DDPStrategy(broadcast_buffers=False)
        if (named := config.get("logger")) is not False:
            loggers = named if isinstance(named, list) else [named] if isinstance(named, Logger) else []
            kwargs["logger"] = self._with_tensorboard(loggers, config.get("default_root_dir") or ".")
        return super().instantiate_trainer(**kwargs)

    def _with_tensorboard(self, loggers: list[Logger], root: str) -> list[Logger]:
        """Put a TensorBoard logger first, whose folder is the run's: the user's, or else one of our own."""
        boards: list[Logger] = [logger for logger in loggers if isinstance(logger, TensorBoardLogger)]
        others = [logger for logger in loggers if not isinstance(logger, TensorBoardLogger)]
        return [*(boards or [self._logger(root)]), *others]

    def _logger(self, root: str) -> TensorBoardLogger:
        """Log into a new run's folder below ``root``, into that of a resumed run, or into one within an evaluated run.

        An evaluation's own folder keeps its results out of the run's curves, and TensorBoard reads both.
        """
        if self.subcommand != "fit" and (run := self._evaluated_run) is not None:
            return TensorBoardLogger(run, name="", version=self.subcommand, default_hp_metric=False)
        if self._run_folder is None:
            return TensorBoardLogger(root, default_hp_metric=False)
        return TensorBoardLogger(
            root, version=self._run_folder.name, default_hp_metric=False, purge_step=self._env_steps + 1
        )

    @property
    def _evaluated_run(self) -> Path | None:
        """The folder of the run whose checkpoint is evaluated; None if it is in none, or can't be written into."""
        checkpoint = self.config[self.config.subcommand].ckpt_path
        if checkpoint is None:
            return None
        run = run_of(Path(checkpoint))
        if run is None or not os.access(run, os.W_OK):
            return None
        require_own_files(run)
        return run


def program() -> str:
    """Return how the program was started, for commands that are printed."""
    return "seqrl" if Path(sys.argv[0]).stem == "seqrl" else "python -m seqrl_lightning"


@rank_zero_only
def _tell(message: str) -> None:
    sys.stderr.write(f"seqrl: {printable(shortened(message))}\n")


def _exit_refused(error: SystemExit) -> BaseException:
    """Return the error for ``sys.exit(0)`` in a class of the run: it must not look like success."""
    if isinstance(error, Terminated) or error.code not in (None, 0):
        return error
    return RunError("a class of the run (its task, a wrapper, a network) called sys.exit(), which ends nothing")


def _end_connections() -> None:
    """Close connections to other processes before Python ends: gloo's threads abort it if they hold tensors later."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def lost_process(trainer: Trainer) -> str:
    """Return which process of the run has ended, as far as this one can tell."""
    started = getattr(trainer.strategy.launcher, "procs", [])
    for _ in range(20):  # its connection breaks before the system says that it ended
        for rank, process in enumerate(started, start=1):
            if process.poll():
                return f"rank {rank} (process {process.pid}, status {process.returncode})"
        time.sleep(0.1)
    return "another process" if started or trainer.global_rank == 0 else "rank 0, or another process,"


def main(args: list[str] | None = None) -> None:
    """Fit, validate, test or predict."""
    with signals_end_in_a_line(), one_line_errors():
        SeqRLCLI(args)


if __name__ == "__main__":
    main()
