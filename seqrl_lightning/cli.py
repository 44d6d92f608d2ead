"""``seqrl``: the only file that wires everything."""

import atexit
import gc
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import PositiveInt
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from seqrl_lightning.algorithms import LearnerModule
from seqrl_lightning.callbacks import (
    AgentCallback,
    BoardPages,
    EnvStepLogger,
    EnvStepProgressBar,
    GlobalRandomStreams,
    LastCheckpoint,
    LearningMetrics,
    PredictionWriter,
    PriorityWriter,
    SideCars,
    SkippedUpdates,
    TargetSync,
    TrialWriter,
)
from seqrl_lightning.callbacks.side_cars import previous_of, what_is_wrong
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.errors import OneLineErrors, one_line_errors
from seqrl_lightning.types import ConfigurationError, RunError

_MISLEADING_WARNINGS = (
    # A batch is drawn from the replay memory when it is asked for: workers would only delay it.
    ".*does not have many workers.*",
    # The replay memory is the state that matters, and it is in the checkpoint.
    ".*your dataloader is not resumable.*",
    # ReplayDataset's length is the epoch's, in every process: none sees fewer batches than another.
    ".*Your `IterableDataset` has `__len__` defined.*",
    # A resumed run goes on in its own folder.
    ".*Checkpoint directory .* exists and is not empty.*",
    # Evaluating a checkpoint writes into a folder of its own, and keeps no best checkpoints.
    ".*The dirpath has changed from .*",
    # torchmetrics has summed the statistics over all processes before they are logged.
    ".*It is recommended to use `self.log.*sync_dist=True.*",
    # What Lightning and TensorBoard use of their own dependencies.
    ".*treespec, LeafSpec.*",
    # The new name of DDP's `broadcast_buffers` is unknown to older versions of torch.
    ".*`broadcast_buffers` is deprecated.*",
    # Batches below log_every_n_steps only mean that the first epoch logs nothing.
    ".*The number of training batches .* is smaller than the logging interval.*",
)


# An advertisement, and a remark about the saving of optimizers that reads as if it were about loading pickles.
_MISLEADING_REMARKS = {"utilities.rank_zero": "litlogger", "trainer.connectors.checkpoint_connector": "`weights_only`"}


def _quieten_lightning() -> None:
    for message in _MISLEADING_WARNINGS:
        warnings.filterwarnings("ignore", message)
    for module, words in _MISLEADING_REMARKS.items():
        logger = logging.getLogger(f"lightning.pytorch.{module}")
        logger.addFilter(lambda record, words=words: words not in record.getMessage())  # type: ignore[misc]


class SeqRLArgumentParser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser, whose errors are one line."""


class SeqRLCLI(LightningCLI):
    """Lightning's CLI, with the agent, the target's synchronisation and checkpoints as settings of their own."""

    def __init__(self, args: Any = None) -> None:
        _quieten_lightning()
        try:
            super().__init__(
                LearnerModule,
                ReplayDataModule,
                subclass_mode_model=True,
                auto_configure_optimizers=False,
                seed_everything_default=0,
                parser_class=SeqRLArgumentParser,
                trainer_defaults={"max_epochs": -1, "num_sanity_val_steps": 0},
                save_config_kwargs={"overwrite": True},
                args=args,
            )
        except MisconfigurationException as error:  # Lightning's own word for a setting that can't work
            raise ConfigurationError(" ".join(str(error).split())) from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the callbacks that every run has, ``--checkpoint.*`` and ``--torch_threads``."""
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
        parser.set_defaults(
            {
                "model": {"class_path": "DQN"},
                "agent.epsilon": {"class_path": "ExponentialEpsilon"},
                "checkpoint.monitor": "val/return_mean",
                "checkpoint.mode": "max",
            }
        )
        parser.link_arguments("data.obs_shape", "model.init_args.obs_shape", apply_on="instantiate")
        parser.link_arguments("data.n_actions", "model.init_args.n_actions", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Finds the checkpoint, and takes over the network and the settings it was trained with."""
        config = self.config[self.config.subcommand]
        self._run_folder: Path | None = None
        if config.ckpt_path is None:
            return
        if config.ckpt_path == "last":
            goes_on = self.config.subcommand == "fit"
            config.ckpt_path = str(newest_checkpoint(Path(config.trainer.default_root_dir or "."), goes_on))
            if goes_on:
                self._run_folder = Path(config.ckpt_path).parent.parent
        if not Path(config.ckpt_path).is_file():
            raise ConfigurationError(f"ckpt_path is {config.ckpt_path!r}; it must be a checkpoint file, or 'last'")
        if config.weights_only is None:
            config.weights_only = True  # loading a checkpoint runs no code
        given = config.model.as_dict()
        super()._parse_ckpt_path()
        for key, theirs, ours in _differences(given, self.config[self.config.subcommand].model.as_dict(), "model"):
            sys.stderr.write(f"seqrl: {key}: the checkpoint's {theirs!r} is used, not {ours!r}\n")

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs it; if another process is lost on the way, says which."""
        try:
            super()._run_subcommand(subcommand)
        except RuntimeError as error:
            if isinstance(error, RunError) or "onnection" not in str(error) or self.trainer.world_size == 1:
                raise
            which, reason = lost_process(self.trainer), " ".join(str(error).split())
            raise RunError(f"rank {self.trainer.global_rank}: {which} was lost, so the run ends ({reason})") from error
        atexit.register(_end_connections)

    def before_instantiate_classes(self) -> None:
        """Applies what holds for the whole process."""
        torch.set_num_threads(self.config[self.subcommand].torch_threads)

    def before_fit(self) -> None:
        """Tells Python's garbage collector to look no more at what is there to stay."""
        gc.collect()
        gc.freeze()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer, with the callbacks that every run has and a TensorBoard logger."""
        config = self._get(self.config_init, "trainer")
        callbacks: list[Callback] = [GlobalRandomStreams(), SideCars(), EnvStepLogger()]
        callbacks += [TrialWriter(), LearningMetrics(), PredictionWriter(), BoardPages()]
        if config.get("enable_progress_bar") is not False:
            callbacks.append(EnvStepProgressBar())
        if config.get("enable_checkpointing") is not False:
            callbacks.append(LastCheckpoint())
        else:
            self._parser(self.subcommand).callback_keys.remove("checkpoint")
        self.trainer_defaults["callbacks"] = callbacks
        if config.get("strategy") == "ddp":
            # Buffers hold noise and the like, of which each process has its own.
            kwargs["strategy"] = DDPStrategy(broadcast_buffers=False)
        if config.get("logger") in (None, True):
            kwargs["logger"] = self._logger(config.get("default_root_dir") or ".")
        return super().instantiate_trainer(**kwargs)

    def _logger(self, root: str) -> TensorBoardLogger:
        """Logs below ``root``: into a new run's folder, or on in that of a resumed run."""
        if self._run_folder is None:
            return TensorBoardLogger(root, default_hp_metric=False)
        data = torch.load(self._ckpt_path, weights_only=True, mmap=True)["ReplayDataModule"]
        return TensorBoardLogger(
            root, version=self._run_folder.name, default_hp_metric=False, purge_step=data["progress"]["env_steps"] + 1
        )

    @property
    def _ckpt_path(self) -> str:
        return str(self.config[self.subcommand].ckpt_path)


def _end_connections() -> None:
    """Ends those to other processes while Python still runs: gloo's threads abort it if they hold tensors later."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def lost_process(trainer: Trainer) -> str:
    """Which process of the run has ended, as far as this one can tell."""
    started = getattr(trainer.strategy.launcher, "procs", [])
    for _ in range(20):  # its connection breaks before the system says that it ended
        for rank, process in enumerate(started, start=1):
            if process.poll():
                return f"rank {rank} (process {process.pid}, status {process.returncode})"
        time.sleep(0.1)
    return "another process" if started or trainer.global_rank == 0 else "rank 0, or another process,"


def newest_checkpoint(root: Path, with_side_cars: bool = True) -> Path:
    """The newest run's ``last.ckpt`` below ``root``; the one before it, with a line that says so, if it is damaged.

    Args:
        root: The runs' ``trainer.default_root_dir``.
        with_side_cars: Whether they are needed too.

    Raises:
        ConfigurationError: If there is none that can be used.
    """
    runs = {path.parent for path in root.glob("lightning_logs/*/checkpoints/last*.ckpt")}
    found = [last for run in runs for last in (run / "last.ckpt", previous_of(run / "last.ckpt")) if last.exists()]
    if not found:
        raise ConfigurationError(
            f"ckpt_path is 'last', but there is no lightning_logs/*/checkpoints/last.ckpt in {root.resolve()}; "
            "give the file, or the run's --trainer.default_root_dir"
        )
    last = max(found, key=lambda path: path.stat().st_mtime).parent / "last.ckpt"
    if (reason := what_is_wrong(last, with_side_cars)) is None:
        return last
    previous = previous_of(last)
    if (why := what_is_wrong(previous, with_side_cars)) is not None:
        raise ConfigurationError(f"{last} can't be used: {reason}; nor can the one before, {previous.name}: {why}")
    sys.stderr.write(f"seqrl: {last} can't be used: {reason}; going on from the one before it, {previous.name}\n")
    if last.exists() and with_side_cars:  # so that it never takes the place of the one before it
        last.replace(last.with_name("last.damaged"))
    return previous


def _differences(given: Any, used: Any, key: str) -> list[tuple[str, Any, Any]]:
    """The settings that were given and are not the ones used: (name, used, given)."""
    if isinstance(given, dict) and isinstance(used, dict):
        inner = (_differences(given[k], used[k], k if k == "init_args" else f"{key}.{k}") for k in given if k in used)
        return [difference for differences in inner for difference in differences]
    return [] if given in (used, None) else [(key.replace("init_args.", ""), used, given)]


def main(args: list[str] | None = None) -> None:
    """Fits, validates, tests or predicts."""
    with one_line_errors():
        SeqRLCLI(args)


if __name__ == "__main__":
    main()
