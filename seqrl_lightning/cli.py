"""Wire everything together: Lightning's command-line interface with this package's parts."""

import atexit
import gc
import re
import sys
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from jsonargparse import Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from seqrl_lightning.algorithms.acting import ActingModule
from seqrl_lightning.callbacks import AgentCallback, PriorityWriter, SkippedUpdates, TargetSync
from seqrl_lightning.callbacks.logger_runs import prepare_loggers
from seqrl_lightning.callbacks.network_summary import NetworkSummary
from seqrl_lightning.callbacks.run import background_callbacks
from seqrl_lightning.checkpoints.archive import MAX_GIB
from seqrl_lightning.data import LearnerDataModule
from seqrl_lightning.data_class import DATA_CLASSES, data_class_of, with_option
from seqrl_lightning.errors import one_line_errors, refusal_in
from seqrl_lightning.lightning_messages import silence_misleading_messages
from seqrl_lightning.running.defaults import set_defaults_by_kind
from seqrl_lightning.running.failures import cause_of, end_connections, exit_refused
from seqrl_lightning.running.file_options import add_allow
from seqrl_lightning.running.folder import (
    RunConfig,
    evaluated_run,
    evaluation_logger,
    require_no_other_run,
    training_logger,
)
from seqrl_lightning.running.loggers import runs_of_loggers, with_tensorboard
from seqrl_lightning.running.messages import note, print_results, print_rules, print_summary
from seqrl_lightning.running.origin import Origin
from seqrl_lightning.running.parser import SeqRLArgumentParser, require_kept
from seqrl_lightning.signals import signals_end_in_a_line
from seqrl_lightning.trainer_access import attributes_of, run_folder
from seqrl_lightning.trust import MAX_FILE_GIB
from seqrl_lightning.types import ConfigurationError, RunError, one_line, require

_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the parser's own, several times as fast


class SeqRLCLI(LightningCLI):
    """Lightning's CLI, with the agent, the target's synchronization and checkpoints as settings beside its own."""

    def __init__(self, args: ArgsType = None) -> None:
        silence_misleading_messages()
        self._origin = Origin()
        if args is None:
            sys.argv[1:] = with_option(sys.argv[1:])
        elif isinstance(args, list):
            args = with_option(args)
        given = args if isinstance(args, list | dict) else sys.argv[1:]
        self._data_class = data_class_of(given)
        self._named_subcommand = given["subcommand"] if isinstance(given, dict) else next(iter(given), "")
        try:
            super().__init__(
                ActingModule,
                self._data_class,
                subclass_mode_model=True,
                auto_configure_optimizers=False,
                seed_everything_default=0,
                parser_class=SeqRLArgumentParser,
                trainer_defaults={"max_epochs": -1, "num_sanity_val_steps": 0},
                save_config_callback=RunConfig,
                save_config_kwargs={"overwrite": True, "print_notes": self._origin.print_notes},
                args=args,
            )
        except MisconfigurationException as error:  # Lightning's own error for a setting that can't work
            raise ConfigurationError(one_line(error)) from error

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Build the parser of a subcommand; without settings, which take time, if another one is named."""
        if self._named_subcommand in self.subcommands() and self._named_subcommand != subcommand:
            self._subcommand_method_arguments[subcommand] = []
            return self.init_parser(**kwargs)
        return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the settings of the callbacks that every run has, and those of the process."""
        parser.add_lightning_class_args(PriorityWriter, "priorities")  # before the agent
        has_agent = self._data_class.has_agent
        if has_agent:
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
        parser.add_argument(
            "--data_class",
            type=Literal[*DATA_CLASSES],
            default=self._data_class.__name__,
            help="ReplayDataModule, which an agent fills, or LoggedTrials (also: --data LoggedTrials).",
        )
        add_allow(parser)
        parser.add_argument(
            "--max_gib",
            type=PositiveFloat | None,
            default=None,
            help="Files of more GiB are refused. (default: 64 for checkpoints and sidecars, 4 for tables)",
        )
        parser.link_arguments("max_gib", "data.max_gib", _limit_of_tables)
        parser.set_defaults(
            {
                "model": {"class_path": "DQN"},
                "checkpoint.monitor": "val/return_mean",
                "checkpoint.mode": "max",
                **({"agent.epsilon": {"class_path": "ExponentialEpsilon"}} if has_agent else {}),
            }
        )
        for name, as_trained in (("obs_shape", self._origin.obs_shape), ("n_actions", self._origin.n_actions)):
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", as_trained, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments by the parser of the subcommand alone: the main one would parse its result again.

        ``fit`` has the defaults of the kind of learner and network that the arguments name.
        """
        name = self._named_subcommand
        words: Any = sys.argv[1:] if args is None else args
        given = words[name] if isinstance(words, dict) else words[1:]
        if name == "fit":
            set_defaults_by_kind(self._parser(name), given, self._data_class.has_agent)
        prints = any(str(word).startswith("--print_config") for word in given)
        if name not in self.subcommands() or prints:  # the config is printed by the main parser
            super().parse_arguments(parser, args)
            return
        own = self._parser(name)
        settings = own.parse_args(given) if isinstance(given, list) else own.parse_object(given)
        self.config = Namespace(subcommand=name, **{name: settings})

    def _parse_ckpt_path(self) -> None:
        """Find the checkpoint, and use the network and the settings that it was trained with."""
        subcommand = self.config.subcommand
        config, resumes = self.config[subcommand], subcommand == "fit"
        root = Path(config.trainer.default_root_dir or ".")
        config.ckpt_path = self._origin.find_checkpoint(config.ckpt_path, root, resumes, self._max_gib)
        if config.ckpt_path is None:
            return
        if config.weights_only is None:
            config.weights_only = True
        if resumes and self._origin.begins_with_clone(Path(config.ckpt_path), self._data_class, self._max_gib):
            config.ckpt_path = None
            return
        path, given = Path(config.ckpt_path), config.model.as_dict()
        model = self._origin.learner_in(path, config, self._plain_config(), resumes, self._max_gib)
        self.config[subcommand] = self._parser(subcommand).parse_object({"model": model}, config)
        self._origin.compare(self.config[subcommand].model.as_dict(), given, self._plain_config(), resumes)

    def _plain_config(self, **options: bool) -> dict[str, Any]:
        """Return the config as plain values, as a run's ``config.yaml`` and its checkpoints hold them."""
        name = self.config.subcommand
        text = self._parser(name).dump(self.config[name], skip_none=False, skip_validation=True, **options)
        plain: dict[str, Any] = yaml.load(text, _YAML_LOADER)
        return plain

    def _dump_config(self) -> None:
        """Keep the config, of which Lightning gives each module its part; it isn't validated once more."""
        if not hasattr(self, "config_dump"):
            self.config_dump = self._plain_config(skip_link_targets=False)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the subcommand; where its error doesn't state the cause, add it in one line."""
        if subcommand == "fit" and not attributes_of(self.trainer).fast_dev_run:
            folder = run_folder(self.trainer)
            require_no_other_run(folder, self._origin.checkpoint)
            self._origin.claim.take(folder)
        else:
            self._origin.print_notes()  # RunConfig prints those of a run
        try:
            super()._run_subcommand(subcommand)
        except SystemExit as error:
            raise exit_refused(error) from error
        except Exception as error:  # of whatever kind
            if refusal_in(error) is not None and self.trainer.global_step in (0, self._origin.resumed_updates):
                self._origin.claim.withdraw()
            cause = cause_of(error, self.trainer, self._origin.checkpoint, self._origin.resumed_updates)
            if cause is None:
                raise
            raise RunError(cause) from error
        finally:
            assert isinstance(self.datamodule, LearnerDataModule)
            self.datamodule.discard_envs()  # Lightning leaves them open after an error
        atexit.register(end_connections)

    def instantiate_classes(self) -> None:
        """Build everything; a task or a wrapper that ends the program meanwhile is an error."""
        self._written_config, self.config = self.config, self.config.clone()
        trainer = self.config[self.subcommand].trainer
        ids = [] if self._run is None else runs_of_loggers(self._run, self._plain_config())
        trainer.logger = prepare_loggers(trainer.logger, ids)
        try:
            super().instantiate_classes()
        except SystemExit as error:
            raise exit_refused(error) from error

    def _set_seed(self) -> None:
        """Seed all random streams; a seed that NumPy doesn't take is refused by its name."""
        seed = self.config[self.config.subcommand].seed_everything
        require(isinstance(seed, bool) or 0 <= seed < 2**32, "seed_everything", seed, f"from 0 to {2**32 - 1}")
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        """Apply the settings of the process; a run trains with no setting that its checkpoints couldn't hold."""
        if self.subcommand == "fit":
            plain = self._plain_config()
            for group in ("model", "data", "agent"):
                if group in plain:  # logged trials need no agent
                    require_kept(self.config["fit"][group].as_dict(), plain[group], group)
        torch.set_num_threads(self.config[self.subcommand].torch_threads)

    def before_fit(self) -> None:
        """Begin with a clone's network, if one was named. Exempt what was built so far from garbage collection."""
        if (clone := self._origin.clone) is not None:
            assert isinstance(self.model, ActingModule)
            self.model.start_from(clone, self._max_gib)
            note(f"a new run, which starts with the network of {clone}")
        gc.collect()
        gc.freeze()

    def after_fit(self) -> None:
        """Say where the run is, what came out, and what to do next."""
        print_summary(self.trainer)

    def test(self, verbose: bool, **arguments: Any) -> None:
        """Test, and print results with the digits that a float32 has; Lightning's table prints more."""
        self.trainer.test(verbose=False, **arguments)
        if verbose:
            print_results(self.trainer, "test")
            print_rules(self.trainer, "test")

    def validate(self, verbose: bool, **arguments: Any) -> None:
        """Validate, and print results likewise."""
        self.trainer.validate(verbose=False, **arguments)
        if verbose:
            print_results(self.trainer, "val")
            print_rules(self.trainer, "val")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the Trainer, with the callbacks that every run has and a TensorBoard logger before all others."""
        self.config = self._written_config  # config.yaml names no runs of loggers
        config = self._get(self.config_init, "trainer")
        saves = config.get("enable_checkpointing") is not False
        if not saves:
            self._parser(self.subcommand).callback_keys.remove("checkpoint")
        has_bar = config.get("enable_progress_bar") is not False
        has_agent = self._data_class.has_agent
        self.trainer_defaults["callbacks"] = background_callbacks(has_bar, saves, self._max_gib, has_agent)
        if saves and self.datamodule.env_id is None:  # no return to choose the best policy by
            self._get(self.config_init, "checkpoint").monitor = None
        if config.get("enable_model_summary") is not False:
            self.trainer_defaults["callbacks"].append(NetworkSummary())
        if config.get("strategy") == "ddp":
            # Buffers hold noise and the like, which differs from process to process.
            kwargs["strategy"] = DDPStrategy(broadcast_buffers=False)
        kwargs["logger"] = with_tensorboard(config.get("logger"), self._tensorboard_logger)
        try:
            return super().instantiate_trainer(**kwargs)
        except (TypeError, ValueError, MisconfigurationException) as error:  # an accelerator, a time and the like
            raise ConfigurationError(f"{_given_in(one_line(error), config)}: {one_line(error)}") from error

    @property
    def _max_gib(self) -> float:
        """The limit of checkpoints and sidecars."""
        given: float | None = self.config[self.config.subcommand].max_gib
        return MAX_GIB if given is None else given

    @property
    def _run(self) -> Path | None:
        """The folder of the run that is resumed or evaluated; None for none."""
        is_fit = self.config.subcommand == "fit"
        return self._origin.resumed_run if is_fit else evaluated_run(self._origin.checkpoint)

    def _tensorboard_logger(self) -> TensorBoardLogger:
        subcommand = self.config.subcommand
        root = self.config[subcommand].trainer.default_root_dir or "."
        if subcommand == "fit":
            return training_logger(root, self._run, self._origin.env_steps)
        return evaluation_logger(root, subcommand, self._run)


_UNNAMED = {"accelerator": "backend found", "max_time": "Timer"}  # words of errors that don't name their setting


def _given_in(message: str, trainer: Namespace) -> str:
    """Return the Trainer's setting that its error is about, with its value; ``trainer`` if it can't be told."""
    given = [name for name, value in vars(trainer).items() if value is not None]
    unnamed = [(name, words) for name, words in _UNNAMED.items() if name in given]
    patterns = [*((name, f"{name}=") for name in given), *((name, rf"\b{name}\b") for name in given), *unnamed]
    named = next((name for name, pattern in patterns if re.search(pattern, message)), None)
    return "trainer" if named is None else f"trainer.{named} is {trainer[named]!r}"


def _limit_of_tables(max_gib: float | None) -> float:
    return MAX_FILE_GIB if max_gib is None else float(max_gib)  # plain: config.yaml can't hold jsonargparse's type


def main(args: list[str] | None = None) -> None:
    """Fit, validate, test or predict."""
    with signals_end_in_a_line(), one_line_errors():
        SeqRLCLI(args)


if __name__ == "__main__":
    main()
