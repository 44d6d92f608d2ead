"""The datamodule: which environments, which replay memory, and the loaders over them."""

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from jsonargparse.typing import register_type
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from seqrl_lightning.envs import SoloVectorEnv, TrackedEnv, action_mask_of, discard, tracked
from seqrl_lightning.random_streams import random_stream
from seqrl_lightning.replay import ReplayDataset, RingBuffer, Sampler, UniformSampler
from seqrl_lightning.trainer_access import attributes_of, learner_of
from seqrl_lightning.types import (
    Batch,
    ConfigurationError,
    EvaluationTask,
    Learner,
    Progress,
    Transitions,
    Windows,
    keep_plain,
    require,
)

# Of data.wrappers, Gymnasium's RescaleObservation asks for NumPy's numbers, which a config can't write.
register_type(np.floating, serializer=float, deserializer=float)

WrapperCallable = Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]
EnvsT = TypeVar("EnvsT", gym.Env[Any, Any], VectorEnv[Any, Any, Any])


class ReplayDataModule(LightningDataModule):
    """Environments to learn in, the replay memory they fill, and environments of their own to evaluate in.

    Args:
        env_id: Gymnasium id of the task; ``package:Id`` imports a package first.
        num_envs: Environments that the agent steps side by side.
        env_kwargs: Arguments of the task.
        vectorization_mode: ``sync``, ``async`` or ``vector_entry_point``; by default a single environment is
            stepped directly, and several by the task's own vectorised implementation where it has one, else ``sync``.
        wrappers: Gymnasium wrappers around each single environment, in this order, like
            ``{class_path: TimeLimit, init_args: {max_episode_steps: 200}}``, or ``PreviousActionReward`` and
            ``FlattenMultiDiscreteAction`` from :mod:`seqrl_lightning.envs.wrappers`. Environments are then made one by
            one, also those to evaluate in.
        batch_size: Transitions in a batch, which is what one update of the network learns from.
        capacity: Slots of the replay memory, over all environments.
        frame_stack: k > 1 shows the last k observations as one (Gymnasium's ``FrameStackObservation``, outside
            ``wrappers``); the replay memory keeps each of them once.
        sampler: Which transitions make a batch.
        batches_per_epoch: Batches in an epoch; evaluation comes at the end of an epoch.
        mmap_dir: A folder for the stored observations, as a memory-mapped file; None keeps them in memory.
        buffer_device: Where stored observations are kept: in the CPU's memory, or on the Trainer's device (``auto``;
            ``cuda`` insists that it is a GPU), where batches of them are put together without a transfer.
        save_replay: Whether checkpoints hold the replay memory. Without it they are small, and a run that goes on
            fills the memory anew before it learns.
        eval_episodes: Greedy episodes of an evaluation.
        eval_num_envs: Environments that an evaluation plays side by side; by default one for each episode.
        eval_seed: Evaluation episode i starts from the seed ``eval_seed + i``.

    Attributes:
        obs_shape: Shape of one observation.
        n_actions: Number of actions.
        ring: The replay memory.
        envs: The environments to learn in (from ``setup("fit")`` on).
        eval_envs: The environments to evaluate in (from ``setup`` on).
        progress: How far the run is. Written by the agent, read by everyone else.
        has_action_masks: Whether the task says which actions it allows (``info["action_mask"]``).
        tells_correct_action: Whether the task says which action is right (``info["correct_action"]``).

    Raises:
        ConfigurationError: If a setting can't work with this task.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        env_kwargs: dict[str, Any] | None = None,
        vectorization_mode: str | None = None,
        wrappers: list[WrapperCallable] | None = None,
        frame_stack: int = 1,
        batch_size: int = 128,
        capacity: int = 10_000,
        sampler: Sampler | None = None,
        batches_per_epoch: int = 1000,
        mmap_dir: str | None = None,
        buffer_device: str = "cpu",
        save_replay: bool = True,
        eval_episodes: int = 10,
        eval_num_envs: int | None = None,
        eval_seed: int = 1_000_000,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        keep_plain(self.hparams)
        for name, value in (
            ("num_envs", num_envs),
            ("frame_stack", frame_stack),
            ("batch_size", batch_size),
            ("batches_per_epoch", batches_per_epoch),
            ("eval_episodes", eval_episodes),
        ):
            require(value > 0, f"data.{name}", value, "at least 1")
        require(batch_size <= capacity, "data.batch_size", batch_size, f"at most data.capacity = {capacity}")
        modes = (None, *(mode.value for mode in gym.VectorizeMode))
        require(vectorization_mode in modes, "data.vectorization_mode", vectorization_mode, f"one of {modes}")
        would_do = "sync or async with data.wrappers, which wrap single environments"
        is_native = vectorization_mode == gym.VectorizeMode.VECTOR_ENTRY_POINT.value
        wraps = bool(wrappers) or frame_stack > 1
        require(not (wraps and is_native), "data.vectorization_mode", vectorization_mode, would_do)
        require(buffer_device in ("auto", "cpu", "cuda"), "data.buffer_device", buffer_device, "auto, cpu or cuda")
        would_do = "cpu with data.mmap_dir, which is for what doesn't fit into memory"
        require(mmap_dir is None or buffer_device == "cpu", "data.buffer_device", buffer_device, would_do)
        self.eval_num_envs = eval_num_envs or eval_episodes
        require(
            eval_episodes % self.eval_num_envs == 0,
            "data.eval_num_envs",
            eval_num_envs,
            f"a divisor of data.eval_episodes = {eval_episodes}",
        )
        self.env_id = env_id
        self.num_envs = num_envs
        self.env_kwargs = env_kwargs or {}
        self.vectorization_mode = vectorization_mode
        self.wrappers = list(wrappers or [])
        if frame_stack > 1:
            self.wrappers.append(functools.partial(gym.wrappers.FrameStackObservation, stack_size=frame_stack))
        self.batch_size = batch_size
        self.capacity = capacity
        self.sampler = copy.deepcopy(sampler) or UniformSampler()  # its own: priorities are those of one memory
        self.batches_per_epoch = batches_per_epoch
        self.buffer_device = buffer_device
        self.save_replay = save_replay
        self.eval_episodes = eval_episodes
        self.eval_seed = eval_seed
        self.progress = Progress()
        self._rng = random_stream("replay")

        probe = self.make_envs(1)
        _report_flattening(probe, env_id)
        self.obs_shape, self.obs_dtype, self.n_actions = _spaces(probe, env_id)
        self.num_blocks = _num_blocks(probe)
        _, infos = probe.reset(seed=0)
        self.has_action_masks = action_mask_of(infos) is not None
        self.tells_correct_action = "correct_action" in infos
        probe.close()
        num_masked_actions = self.n_actions if self.has_action_masks else 0
        self.ring = RingBuffer(
            capacity, num_envs, self.obs_shape, self.obs_dtype, mmap_dir, num_masked_actions, frame_stack
        )

    @classmethod
    def of(cls, trainer: Trainer) -> "ReplayDataModule":
        """Return the Trainer's datamodule.

        Raises:
            ConfigurationError: If it isn't a ``ReplayDataModule``.
        """
        datamodule = attributes_of(trainer).datamodule
        if isinstance(datamodule, cls):
            return datamodule
        raise ConfigurationError(f"datamodule is {type(datamodule).__name__!r}; it must be a ReplayDataModule")

    def make_envs(self, num_envs: int, vectorization_mode: str | None = None) -> VectorEnv[Any, Any, Any]:
        """Makes ``num_envs`` environments of the task.

        Raises:
            ConfigurationError: If there is no such task, it refuses its arguments or a wrapper, or it resets at once.
        """
        kwargs = self.env_kwargs
        has_single_env = _has_single_env(self.env_id)
        would_do = f"left out: {self.env_id} has no single environments"
        require(has_single_env or not self.wrappers, "data.wrappers", self.wrappers, would_do)
        try:
            if num_envs == 1 and vectorization_mode is None and has_single_env:
                return SoloVectorEnv(self.make_env())
            mode = vectorization_mode or (gym.VectorizeMode.SYNC if self.wrappers else None)
            in_processes = mode == gym.VectorizeMode.ASYNC.value
            wrappers = (*self.wrappers, *((TrackedEnv,) if in_processes else ()))
            envs = gym.make_vec(self.env_id, num_envs, mode, wrappers=wrappers, **kwargs)
        except ConfigurationError:
            raise
        except (gym.error.Error, ModuleNotFoundError) as error:
            raise ConfigurationError(
                f"data.env_id is {self.env_id!r}, which can't be made: {_one_line(error)}"
            ) from error
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"data.env_kwargs is {kwargs}, which {self.env_id} refuses: {_one_line(error)}"
            ) from error
        resets = envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        require(resets == AutoresetMode.NEXT_STEP, "autoreset_mode of data.env_id", resets, "AutoresetMode.NEXT_STEP")
        return _flattened(tracked(envs), gym.wrappers.vector.FlattenObservation)

    def make_env(self, **env_kwargs: Any) -> gym.Env[Any, Any]:
        """Makes one environment, wrapped and flattened as those to learn in; ``env_kwargs`` add to the task's own."""
        env = self._wrapped(gym.make(self.env_id, **{**self.env_kwargs, **env_kwargs}))
        return _flattened(env, gym.wrappers.FlattenObservation)

    @functools.cached_property
    def task(self) -> Any:
        """The task itself, one environment without its wrappers (the vector environment if there is no other)."""
        single = self.make_env() if _has_single_env(self.env_id) else self.make_envs(1)
        single.close()
        return single.unwrapped

    def _wrapped(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        for k, wrapper in enumerate(self.wrappers):
            try:
                env = wrapper(env)
            except (AssertionError, TypeError, ValueError, gym.error.Error) as error:
                raise ConfigurationError(f"data.wrappers[{k}] can't wrap {self.env_id}: {_one_line(error)}") from error
        return env

    def setup(self, stage: str) -> None:
        """Makes the environments that ``stage`` needs."""
        if stage == "fit":
            self._rng = random_stream("replay", self._rank)
            self._choose_buffer_device()
            self.envs = self.make_envs(self.num_envs, self.vectorization_mode)
        self.eval_envs = self.make_envs(self.eval_num_envs, self.vectorization_mode)

    def _choose_buffer_device(self) -> None:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        would_do = f"cpu or auto: the Trainer's device is {device}"
        require(self.buffer_device != "cuda" or device.type == "cuda", "data.buffer_device", "cuda", would_do)
        if self.buffer_device != "cpu" and device.type != "cpu":
            self.ring.move_observations(device)

    def remake_envs(self) -> None:
        """Makes the environments to learn in anew: one of them is broken."""
        discard(self.envs)
        self.envs = self.make_envs(self.num_envs, self.vectorization_mode)

    def teardown(self, stage: str) -> None:
        """Closes the environments."""
        self.eval_envs.close()
        if stage == "fit":
            self.envs.close()

    @property
    def _learner(self) -> Learner | None:
        """The learner that batches are drawn for; None outside a Trainer."""
        return learner_of(self.trainer) if self.trainer else None

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches from the replay memory."""
        learner = self._learner
        batch_size = self.batch_size * (learner.updates_per_step if learner else 1)
        dataset = ReplayDataset(
            self.ring,
            self.sampler,
            batch_size,
            self.batches_per_epoch,
            self._rng,
            self.progress,
            next_actions=learner is not None and learner.needs_next_action,
            epsilon=learner is not None and learner.needs_epsilon,
        )
        return _loader(dataset)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves transitions without waiting for the device; evaluation tasks stay as they are."""
        if device.type == "cpu" or not isinstance(batch, Transitions | Windows):
            return batch

        def move(column: Tensor) -> Tensor:  # only from pinned memory a copy goes on by itself
            needs_pinning = device.type == "cuda" and column.device.type == "cpu"
            return (column.pin_memory() if needs_pinning else column).to(device, non_blocking=True)

        return batch.map(move)._replace(slot_batch=batch.slot_batch)

    def val_dataloader(self) -> DataLoader[EvaluationTask]:
        """The greedy episodes of an evaluation: each block's rule, or the task as it is."""
        return _loader(_EvaluationTasks(self))

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader

    def evaluation_names(self) -> tuple[str, ...]:
        """What the results of an evaluation are called (see :class:`EvaluationTask`)."""
        return ("", *(f"block_{k}/" for k in range(self.num_blocks)))

    def state_dict(self) -> dict[str, Any]:
        """The replay memory, its sampler's random stream and the run's progress, as tensors and primitives."""
        state = {"rng": self._rng.bit_generator.state, "progress": asdict(self.progress)}
        if not self.save_replay:
            return state
        return {**state, "ring": self.ring.state_dict(), "sampler": self.sampler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        self.progress = Progress(**state_dict["progress"])
        if "ring" in state_dict:
            self.ring.load_state_dict(state_dict["ring"])
            self.sampler.load_state_dict(state_dict["sampler"])
        self._rng.bit_generator.state = state_dict["rng"]


class _EvaluationTasks(IterableDataset[EvaluationTask]):
    """The evaluation of one moment. Iterable, so that every process plays all tasks, from seeds of its own."""

    def __init__(self, data: ReplayDataModule) -> None:
        self.data = data
        self.num_batches = data.eval_episodes // data.eval_num_envs

    def __len__(self) -> int:
        return self.num_batches * max(1, self.data.num_blocks)

    def __iter__(self) -> Iterator[EvaluationTask]:
        data = self.data
        first_seed = data.eval_seed + data._rank * data.eval_episodes
        for batch in range(self.num_batches):
            seed = first_seed + batch * data.eval_num_envs
            if not data.num_blocks:
                yield EvaluationTask(seed, None, ("",))
            for block in range(data.num_blocks):
                names = (f"block_{block}/", "") if block == data.progress.block else (f"block_{block}/",)
                yield EvaluationTask(seed, {"block": block}, names)


def _loader(dataset: IterableDataset[Any]) -> DataLoader[Any]:
    # The generator keeps the loader from drawing on torch's global stream; batches come whole, so nothing to collate.
    return DataLoader(dataset, batch_size=None, num_workers=0, generator=torch.Generator(), collate_fn=_identity)


def _identity(batch: Any) -> Any:
    return batch


def _flattened(envs: EnvsT, wrapper: Callable[[EnvsT], EnvsT]) -> EnvsT:
    """Discrete observations become one-hot, composed ones flat, by Gymnasium's own wrapper."""
    space = envs.single_observation_space if isinstance(envs, VectorEnv) else envs.observation_space
    return envs if isinstance(space, gym.spaces.Box) else wrapper(envs)


def _report_flattening(envs: VectorEnv[Any, Any, Any], env_id: str) -> None:
    flattened = envs.env if isinstance(envs, SoloVectorEnv) else envs
    if isinstance(flattened, gym.wrappers.FlattenObservation):
        original = flattened.env.observation_space
    elif isinstance(flattened, gym.wrappers.vector.FlattenObservation):
        original = flattened.env.single_observation_space
    else:
        return
    shape = envs.single_observation_space.shape
    rank_zero_info(f"The observations of {env_id}, {original}, are flattened to {shape}, what is Discrete one-hot.")


def _has_single_env(env_id: str) -> bool:
    """Whether the task has an environment besides a vectorised one (as far as it is known before it is imported)."""
    spec = gym.registry.get(env_id.rpartition(":")[2])
    return spec is None or spec.entry_point is not None


def _spaces(envs: VectorEnv[Any, Any, Any], env_id: str) -> tuple[tuple[int, ...], str, int]:
    observation_space, action_space = envs.single_observation_space, envs.single_action_space
    if isinstance(action_space, gym.spaces.MultiDiscrete):
        raise ConfigurationError(
            f"data.env_id is {env_id!r}, whose actions are {action_space}; "
            "data.wrappers [FlattenMultiDiscreteAction] makes one action of each combination"
        )
    if not isinstance(action_space, gym.spaces.Discrete):
        raise ConfigurationError(
            f"data.env_id is {env_id!r}, whose actions are {action_space}; "
            "value-based learning needs a Discrete action space"
        )
    require(action_space.start == 0, "the first action of data.env_id", int(action_space.start), "0")
    shape = observation_space.shape
    assert shape is not None
    dtype = np.dtype(observation_space.dtype)
    # Networks compute in float32: storing more would only cost memory.
    return tuple(shape), ("float32" if dtype == np.float64 else dtype.name), int(action_space.n)


def _num_blocks(envs: VectorEnv[Any, Any, Any]) -> int:
    """How many blocks the task has; 0 for a task in which one rule holds throughout."""
    task: Any = envs.unwrapped
    if isinstance(task, SoloVectorEnv):
        task = task.env.unwrapped
    num_blocks = int(getattr(task, "num_blocks", 1))
    return num_blocks if num_blocks > 1 else 0


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
