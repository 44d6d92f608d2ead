"""The base of every datamodule: a replay memory, the batches from it, and environments to evaluate in."""

import copy
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Self, TypeVar

import numpy as np
import torch
from jsonargparse.typing import register_type
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, IterableDataset

from seqrl_lightning.batches import Batch, Transitions, Windows, on_device
from seqrl_lightning.collect import EvaluationTasks
from seqrl_lightning.data.task_report import report_changed_returns, report_facts
from seqrl_lightning.env_ids import EnvMaker, id_of
from seqrl_lightning.envs import Border, EnvFactory, EnvFault, Wrapper
from seqrl_lightning.envs.bare import BareTask
from seqrl_lightning.envs.faults import close_quietly
from seqrl_lightning.metrics import TaskFacts
from seqrl_lightning.random_streams import random_stream
from seqrl_lightning.replay import (
    ReplayDataset,
    RingBuffer,
    Sampler,
    UniformSampler,
)
from seqrl_lightning.saved_state import restore_stream, saved
from seqrl_lightning.trainer_access import attributes_of, learner_of
from seqrl_lightning.types import ConfigurationError, EvaluationTask, Learner, Progress, RunError, keep_plain, require

T = TypeVar("T")

# Of data.wrappers, Gymnasium's RescaleObservation is annotated with NumPy's numbers, which a config can't write.
register_type(np.floating, serializer=float, deserializer=float)


class LearnerDataModule(LightningDataModule):
    """Batches for a learner, from a replay memory that a subclass fills, and environments to evaluate the learner in.

    Args:
        env_id: Gymnasium id of the task (``package:Id`` imports a package first), or ``my_module:Name``, an environment
            class or a function that returns an environment; from Python, also the class or function itself. None for
            no task.
        env_kwargs: Arguments of the task.
        vectorization_mode: ``sync``, ``async`` or ``vector_entry_point``; by default a single environment is
            stepped directly, and several by the task's own vectorized implementation where it has one, else ``sync``.
        autoreset_mode: When a task that exists only in vectorized form resets an environment whose episode has ended,
            if its ``metadata`` doesn't state it: ``NextStep``, ``SameStep`` or ``Disabled``.
        wrappers: Gymnasium wrappers around each single environment, in this order, like
            ``{class_path: TimeLimit, init_args: {max_episode_steps: 200}}``, or ``PreviousActionReward`` and
            ``FlattenMultiDiscreteAction`` from :mod:`seqrl_lightning.envs.wrappers`. Environments are then
            made one by one, also for evaluation, unless ``vectorization_mode`` is ``vector_entry_point``.
        frame_stack: k > 1 shows the last k observations as one (Gymnasium's ``FrameStackObservation``, outside
            ``wrappers``); the replay memory stores each of them once.
        flatten_observations: Whether observations with parts (Dict, Tuple) are flattened to one vector; otherwise
            their parts are read by a ``Composed`` network. By default those without a picture are flattened.
        batch_size: Transitions in a batch, from which one update of the network learns.
        sampler: Picks the transitions of a batch.
        batches_per_epoch: Batches in an epoch; evaluation comes at the end of an epoch.
        buffer_device: Where observations are stored: in the CPU's memory, or on the Trainer's device (``auto``;
            ``cuda`` insists that it is a GPU), where batches of them are put together without a transfer.
        eval_episodes: Greedy episodes of an evaluation.
        eval_num_envs: Environments that an evaluation plays side by side; by default one for each episode.
        eval_seed: Evaluation episode i starts from the seed ``eval_seed + i``.
        eval_max_steps: Env steps after which an evaluation cuts an episode off, and counts it with its return so far.

    Attributes:
        obs_shape: Shape of one observation; a :class:`~seqrl_lightning.parts.PackedShape` if it has parts.
        obs_dtype: NumPy's name of its dtype.
        obs_is_binary: Whether its entries are 0 and 1, as those of a one-hot state are.
        n_actions: Number of actions.
        num_blocks: Number of blocks; 0 for a task in which one rule holds throughout.
        tells_correct_action: Whether the task says which action is right (``info["correct_action"]``).
        ring: The replay memory.
        progress: How far the run is. The agent writes it; everyone else reads it.
        take_rollout: Takes the env steps that the next batch holds; None if they are taken in other hooks.
        eval_envs: The environments to evaluate in (from ``setup`` on).

    Raises:
        ConfigurationError: If a setting can't work with this task.
    """

    has_agent: bool = True
    """Whether an agent acts in the task and fills the replay memory."""

    ring: RingBuffer
    eval_envs: Border
    obs_shape: tuple[int, ...]
    obs_dtype: str
    obs_is_binary: bool
    n_actions: int
    num_envs: int
    capacity: int

    def __init__(
        self,
        env_id: str | EnvMaker | None = None,
        env_kwargs: dict[str, Any] | None = None,
        vectorization_mode: str | None = None,
        autoreset_mode: str | None = None,
        wrappers: list[Wrapper] | None = None,
        frame_stack: int = 1,
        flatten_observations: bool | None = None,
        batch_size: int = 128,
        sampler: Sampler | None = None,
        batches_per_epoch: int = 1000,
        buffer_device: str = "cpu",
        eval_episodes: int = 10,
        eval_num_envs: int | None = None,
        eval_seed: int = 1_000_000,
        eval_max_steps: int = 27_000,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="max_gib", logger=False)  # BoardPages writes them; limits are no file's to set
        env_id = None if env_id is None else id_of(env_id)
        self.save_hyperparameters({"env_id": env_id}, logger=False)
        keep_plain(self.hparams)
        for name, value in (
            ("frame_stack", frame_stack),
            ("batch_size", batch_size),
            ("batches_per_epoch", batches_per_epoch),
            ("eval_episodes", eval_episodes),
            ("eval_max_steps", eval_max_steps),
        ):
            require(value > 0, f"data.{name}", value, "at least 1")
        require(buffer_device in ("auto", "cpu", "cuda"), "data.buffer_device", buffer_device, "auto, cpu or cuda")
        self.eval_num_envs = eval_num_envs or eval_episodes
        must_be = f"a divisor of data.eval_episodes = {eval_episodes}"
        require(eval_episodes % self.eval_num_envs == 0, "data.eval_num_envs", eval_num_envs, must_be)
        self.env_id = env_id
        self.frame_stack = frame_stack
        self.batch_size = batch_size
        self.sampler = copy.deepcopy(sampler) or UniformSampler()  # its own: priorities are those of one memory
        self.batches_per_epoch = batches_per_epoch
        self.buffer_device = buffer_device
        self.eval_episodes = eval_episodes
        self.eval_seed = eval_seed
        self.eval_max_steps = eval_max_steps
        self.progress = Progress()
        self.num_blocks = 0
        self.tells_correct_action = False
        self.take_rollout: Callable[[], None] | None = None
        self._rng = random_stream("replay")
        self._open_envs: list[Border] = []
        self._on_eval_fault: Callable[[EnvFault], int] | None = None  # from check_eval_envs on
        self._factory: EnvFactory | None = None
        if env_id is not None:
            modes = vectorization_mode, autoreset_mode, flatten_observations
            self._factory = EnvFactory(env_id, env_kwargs, wrappers or (), frame_stack, *modes)
            self._read_task(self._factory)

    def _read_task(self, factory: EnvFactory) -> None:
        """Read the facts that the task states, and report changes of its spaces and its limitations."""
        facts = factory.read_facts()
        self.obs_shape, self.obs_dtype, self.n_actions = facts.obs_shape, facts.obs_dtype, facts.n_actions
        self.obs_is_binary = facts.obs_is_binary
        self.num_blocks = facts.num_blocks
        self.tells_correct_action = facts.tells_correct_action
        report_facts(factory.env_id, facts)
        report_changed_returns(factory.env_id, factory.settings_of_returns())

    @classmethod
    def of(cls, trainer: Trainer) -> Self:
        """Return the Trainer's datamodule.

        Raises:
            ConfigurationError: If it is of another class.
        """
        datamodule = attributes_of(trainer).datamodule
        if isinstance(datamodule, cls):
            return datamodule
        raise ConfigurationError(f"datamodule is {type(datamodule).__name__!r}; it must be a {cls.__name__}")

    def setup(self, stage: str) -> None:
        """Make the environments that ``stage`` needs."""
        if stage == "fit":
            self._rng = random_stream("replay", self._rank)
            self._place_observations()
        if self._factory is not None:
            self.eval_envs = self._open(self.eval_num_envs, "data.eval_num_envs")

    def _open(self, num_envs: int, setting: str = "data.num_envs") -> Border:
        envs = self.factory.make_envs(num_envs, setting)
        envs.tells_correct_action = self.tells_correct_action
        self._open_envs.append(envs)
        return envs

    def _place_observations(self) -> None:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        must_be = f"cpu or auto: the Trainer's device is {device}"
        require(self.buffer_device != "cuda" or device.type == "cuda", "data.buffer_device", "cuda", must_be)
        if self.buffer_device != "cpu" and device.type != "cpu":
            self.ring.move_observations(device)

    def check_eval_envs(self, check_bounds: bool, on_fault: Callable[[EnvFault], int]) -> None:
        """Turn errors of evaluation's environments into faults.

        Args:
            check_bounds: Whether an observation outside its space's bounds is a fault.
            on_fault: Ends the run, or calls :meth:`remake_eval_envs` and returns another seed.
        """
        self.eval_envs.check_bounds = check_bounds
        self._on_eval_fault = on_fault

    def remake_eval_envs(self) -> Border:
        """Replace the environments to evaluate in, of which one is broken, and return the new ones."""
        self._discard(self.eval_envs)
        self.eval_envs = self._open(self.eval_num_envs, "data.eval_num_envs")
        return self.eval_envs

    def on_eval_fault(self, fault: EnvFault) -> int:
        """Continue after a fault in an evaluation. Returns the seed from which its episodes are played again.

        Raises:
            RunError: If the run has to end.
        """
        if self._on_eval_fault is None:  # without an agent
            raise RunError(f"{self.env_id}: environment {fault.env} of an evaluation broke: {fault.reason}") from fault
        return self._on_eval_fault(fault)

    def _discard(self, envs: Border) -> None:
        self._open_envs.remove(envs)
        envs.discard()

    def teardown(self, stage: str) -> None:
        """Close the environments."""
        while self._open_envs:
            close_quietly(self._open_envs.pop())

    def discard_envs(self) -> None:
        """Close the environments after an error, which may have left them broken."""
        while self._open_envs:
            self._open_envs.pop().discard()

    @property
    def _learner(self) -> Learner | None:
        """The learner that batches are drawn for; None outside a Trainer."""
        return learner_of(self.trainer) if self.trainer else None

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of batches from the replay memory."""
        learner = self._learner
        num_updates = 1 if learner is None else learner.updates_per_step
        dataset = ReplayDataset(
            self.ring,
            self.sampler,
            self.batch_size * num_updates,  # a training step's updates are drawn at once
            self.batches_per_epoch,
            self._rng,
            self.progress,
            next_actions=learner is not None and learner.needs_next_action,
            epsilon=learner is not None and learner.needs_epsilon,
            before_batch=self._before_batch,
        )
        return _loader(dataset)

    def _before_batch(self) -> None:
        if self.take_rollout is not None:
            self.take_rollout()

    def transfer_batch_to_device(self, batch: object, device: torch.device, dataloader_idx: int) -> object:
        """Move transitions without waiting for the device; evaluation tasks stay as they are."""
        return on_device(batch, device) if isinstance(batch, Transitions | Windows) else batch

    def val_dataloader(self) -> DataLoader[EvaluationTask] | list[DataLoader[EvaluationTask]]:
        """Return the loader of an evaluation's greedy episodes: each block's rule, or the task as it is.

        There is none without a task.
        """
        if self._factory is None:
            return []
        first_seed = self.eval_seed + self._rank * self.eval_episodes
        num_rounds = self.eval_episodes // self.eval_num_envs
        return _loader(EvaluationTasks(first_seed, num_rounds, self.eval_num_envs, self.num_blocks, self.progress))

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader

    @property
    def factory(self) -> EnvFactory:
        """Makes environments of the task."""
        assert self._factory is not None
        return self._factory

    @property
    def task(self) -> BareTask:
        """The task itself: an environment without its wrappers, or a vector environment if there is no other."""
        return self.factory.task

    @property
    def task_facts(self) -> TaskFacts:
        """Facts that the task states about itself; none if there is no task."""
        return TaskFacts() if self._factory is None else TaskFacts.of(self.task)

    def evaluation_names(self) -> tuple[str, ...]:
        """Return the names of an evaluation's results (see :class:`EvaluationTask`)."""
        return ("", *(f"block_{k}/" for k in range(self.num_blocks)))

    def state_dict(self) -> dict[str, Any]:
        """Return the run's progress, and the part of the memory that is saved, as tensors and primitives."""
        state = {"rng": self._rng.bit_generator.state, "progress": asdict(self.progress)}
        return {**state, **self._memory_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        progress = saved(state_dict.get("progress"), Progress, "the progress")
        for name, value in asdict(progress).items():  # in place: others hold the same object
            setattr(self.progress, name, value)
        self._load_memory(state_dict)
        restore_stream(self._rng, state_dict.get("rng"), "the datamodule's random stream")

    @abstractmethod
    def _memory_state(self) -> dict[str, Any]:
        """Return the parts of the replay memory and the sampler that a checkpoint holds."""

    @abstractmethod
    def _load_memory(self, state: dict[str, Any]) -> None:
        """Restore the entries that :meth:`_memory_state` returned; ``state`` also has others."""

    def _load_sampler(self, state: dict[str, Any]) -> None:
        is_alike = state.keys() == self.sampler.state_dict().keys()
        require(is_alike, "data.sampler", type(self.sampler).__name__, "the one that the checkpoint was saved with")
        self.sampler.load_state_dict(state, self.ring)


def _loader(dataset: IterableDataset[Any]) -> DataLoader[Any]:
    # A separate generator keeps the loader off torch's global stream; batches come whole, so nothing is collated.
    return DataLoader(dataset, batch_size=None, num_workers=0, generator=torch.Generator(), collate_fn=_identity)


def _identity(batch: T) -> T:
    return batch
