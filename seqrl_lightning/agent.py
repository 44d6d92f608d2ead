"""A run in three lines of Python, for those who know Stable-Baselines3."""

import dataclasses
import functools
import warnings
from argparse import ArgumentError
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, Unpack

import gymnasium as gym
from lightning.pytorch.cli import LightningArgumentParser

from seqrl_lightning.algorithms.acting import ActingModule
from seqrl_lightning.algorithms.optimization import OptimizerCallable
from seqrl_lightning.checkpoints.last import newest_run
from seqrl_lightning.cli import SeqRLCLI
from seqrl_lightning.collect import ExplorationBonus
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.docstrings import setting_names
from seqrl_lightning.env_ids import EnvMaker, id_of
from seqrl_lightning.envs import Wrapper
from seqrl_lightning.errors import refusal_in
from seqrl_lightning.exploration import EpsilonSchedule
from seqrl_lightning.lightning_messages import quiet
from seqrl_lightning.networks import NetworkCallable
from seqrl_lightning.replay import Sampler
from seqrl_lightning.running.parser import SETTINGS_OF, explain, with_texts
from seqrl_lightning.trainer_access import run_folder
from seqrl_lightning.types import CompileMode, ConfigurationError, require

Part = str | Mapping[str, Any]
"""A class by its name, or with settings as in a config: ``{"class_path": "GRU", "init_args": {"hidden_size": 32}}``."""


class Settings(TypedDict, total=False):
    """The settings of an :class:`Agent`: those of ``seqrl fit``, without the prefix (``model.gamma`` is ``gamma``)."""

    # data
    num_envs: int
    env_kwargs: dict[str, Any] | None
    vectorization_mode: str | None
    autoreset_mode: str | None
    wrappers: list[Wrapper | Part] | None
    frame_stack: int
    flatten_observations: bool | None
    batch_size: int
    capacity: int
    sampler: type[Sampler] | Part | None
    batches_per_epoch: int
    mmap_dir: str | None
    trials: str | list[str] | None
    buffer_device: str
    save_replay: bool
    max_gib: float
    eval_episodes: int
    eval_num_envs: int | None
    eval_seed: int
    eval_max_steps: int
    # agent
    warmup_env_steps: int | None
    env_steps_per_update: float | None
    updates_per_collect: int | None
    epsilon: EpsilonSchedule | Part
    max_episodes: int | None
    overlap: bool
    on_env_error: Literal["raise", "restart"]
    max_env_restarts: int
    check_bounds: bool
    exploration_bonus: type[ExplorationBonus] | Part | None
    actors: int | None
    ray_address: str
    # target_sync, skipped_updates
    sync_every_updates: int
    tau: float | None
    max_skipped_updates: int
    # every learner
    network: NetworkCallable | Part
    optimizer: OptimizerCallable | Part
    lr_scheduler: object
    learning_rate: float
    gamma: float
    value_rescaling: float | None
    clip_grad_value: float | None
    clip_grad_norm: float | None
    updates_per_step: int
    compile: CompileMode
    normalize_observations: bool
    normalize_rewards: bool
    # some learners
    double: bool
    huber_delta: float | None
    lambda_: float
    munchausen_alpha: float
    munchausen_temperature: float
    munchausen_clip: float
    cql_alpha: float
    n_atoms: int
    v_min: float
    v_max: float
    n_quantiles: int
    n_fractions: int
    n_target_fractions: int
    n_acting_fractions: int
    n_cosines: int
    cvar: float
    epochs: int
    target_entropy_ratio: float
    initial_temperature: float
    # trainer
    accelerator: str
    devices: int | str | list[int]
    precision: object
    callbacks: object
    logger: object
    max_epochs: int | None
    max_steps: int
    max_time: object
    log_every_n_steps: int | None
    check_val_every_n_epoch: int | None
    enable_progress_bar: bool | None
    enable_model_summary: bool | None
    enable_checkpointing: bool | None


class Agent:
    """An agent that learns a task: ``seqrl fit`` from Python, with its defaults, files and errors.

    ::

        agent = seqrl_lightning.Agent("CartPole-v1", learner="DQN", seed=1).learn(50_000)
        print(agent.evaluate())
        agent.save("agent.ckpt")

    Args:
        env: The Gymnasium id of the task (``package:Id`` imports a package first), a class of environments, a function
            that makes one, or an environment, of which the agent plays copies.
        learner: The learner's name, like ``DQN`` or ``my_learners.Mine``, or its class.
        seed: Seed of all random streams.
        folder: Runs go to ``lightning_logs/`` below it. Agents that continue to learn need a folder each.
        settings: Any setting of ``seqrl fit``, without its prefix. What a config names by ``class_path`` may also be a
            class or a ``functools.partial`` of one.

    Attributes:
        module: The learner.
        data: Its environments and replay memory.
        trainer: Lightning's Trainer.

    Raises:
        ConfigurationError: If a setting can't work.
    """

    def __init__(
        self,
        env: str | EnvMaker | gym.Env[Any, Any],
        learner: str | type[ActingModule] = "DQN",
        *,
        seed: int = 0,
        folder: str | Path = ".",
        **settings: Unpack[Settings],
    ) -> None:
        config: dict[str, Any] = {name: {} for name in SETTINGS_OF}
        config["model"] = {"class_path": _class_path(learner), "init_args": {}}
        for name, value in settings.items():
            group = next((group for group, cls in SETTINGS_OF.items() if name in setting_names(cls)), None)
            (config[group] if group else config["model"]["init_args"])[name] = _as_setting(value)
        # As on the command line, it limits all files; the data's own is linked to it.
        config["max_gib"] = config["data"].pop("max_gib", None)
        config["data"]["env_id"] = id_of(env)
        config["trainer"]["default_root_dir"] = str(folder)
        self._config = {**config, "seed_everything": seed}
        self._env_steps = 0  # that it is to have taken in all
        self._build()

    def __repr__(self) -> str:
        learner, task, seed = type(self.module).__name__, self.data.env_id, self._config["seed_everything"]
        return f"<Agent: {learner} on {task}, seed {seed}, {self._env_steps:,} env steps learned>"

    def learn(self, env_steps: int) -> Self:
        """Learn for ``env_steps`` env steps; a second call continues where the first one ended, bit for bit.

        Args:
            env_steps: Env steps, over all environments.

        Returns:
            This agent.

        Raises:
            ConfigurationError: If a setting can't work, or another run was started in ``folder`` meanwhile.
        """
        require(isinstance(env_steps, Integral) and env_steps > 0, "env_steps", env_steps, "a whole number above 0")
        before = self._env_steps
        if before:
            saves = self._config["trainer"].get("enable_checkpointing") is not False
            require(
                saves,
                "enable_checkpointing",
                False,
                "true to learn further: a second learn() resumes from a checkpoint",
            )
            self._config["ckpt_path"] = "last"
            newest = newest_run(Path(self._config["trainer"]["default_root_dir"]))
            must_be = f"one in which no other run was started: the newest is {newest}"
            require(newest.samefile(run_folder(self.trainer)), "folder", str(newest.parent.parent), must_be)
        self._env_steps += env_steps
        self._config["agent"]["max_env_steps"] = self._env_steps
        try:
            with quiet(), warnings.catch_warnings():  # it was built before, with the same remarks
                warnings.simplefilter("ignore")
                self._build()
            self._fit.run()
        except ConfigurationError:
            self._env_steps = before  # nothing was learned
            raise
        return self

    def evaluate(self) -> float:
        """Play ``eval_episodes`` episodes greedily, and return their mean return, in the units of the task's reward."""
        return float(self.trainer.validate(self.module, self.data, verbose=False)[0]["val/return_mean"])

    def save(self, path: str | Path) -> None:
        """Save the policy as one file, for :func:`seqrl_lightning.load_policy` and ``seqrl test --ckpt_path``.

        Raises:
            ConfigurationError: If nothing was learned yet.
        """
        require(self._env_steps > 0, "the agent", "untrained", "trained by learn() before it is saved")
        self.trainer.save_checkpoint(path, weights_only=True)

    def _build(self) -> None:
        self._fit = _Fit(self._config)
        self.trainer, self.module, self.data = self._fit.trainer, self._fit.learner, self._fit.data


class _Fit(SeqRLCLI):
    """``seqrl fit`` without its command line: it runs when it is called, and its errors are exceptions."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        try:
            super().__init__({"subcommand": "fit", "fit": with_texts(settings)})
        except (ArgumentError, ValueError) as error:
            raise refusal_in(error) or ConfigurationError(explain(str(error))) from error

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Return the parser; its errors are exceptions."""
        return super().init_parser(**kwargs, exit_on_error=False)

    def _run_subcommand(self, subcommand: str) -> None:
        assert isinstance(self.model, ActingModule)
        assert isinstance(self.datamodule, ReplayDataModule)
        self.learner, self.data = self.model, self.datamodule

    def run(self) -> None:
        """Run it."""
        super()._run_subcommand("fit")

    def after_fit(self) -> None:
        """Print no summary: the caller reads the results from the agent."""


def _as_setting(value: object) -> object:
    """Return a class, a partial of one, or a list of them as a config names them; anything else as it is.

    Raises:
        ConfigurationError: If it is an object whose settings ``config.yaml`` couldn't name.
    """
    if isinstance(value, list):
        return [_as_setting(item) for item in value]
    if isinstance(value, Sampler | ExplorationBonus):
        name, setting = type(value).__name__, "sampler" if isinstance(value, Sampler) else "exploration_bonus"
        raise ConfigurationError(f"{setting} is an object; it must be {name}, or functools.partial({name}, ...)")
    if isinstance(value, EpsilonSchedule) and dataclasses.is_dataclass(value):
        return {"class_path": _class_path(type(value)), "init_args": dataclasses.asdict(value)}
    maker, keywords = value, {}
    if isinstance(value, functools.partial) and not value.args:
        maker, keywords = value.func, value.keywords
    if not isinstance(maker, type) or "<locals>" in maker.__qualname__:
        return value
    return {"class_path": _class_path(maker), "init_args": {name: _as_setting(item) for name, item in keywords.items()}}


def _class_path(cls: str | type[Any]) -> str:
    return cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__qualname__}"
