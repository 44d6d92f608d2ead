"""Training: a learner's settings, and the way from a batch of the dataset to its updates."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Generic

import numpy as np
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LRSchedulerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim import Optimizer

from seqrl_lightning import speed
from seqrl_lightning.algorithms.acting import ActingModule
from seqrl_lightning.algorithms.finite import FiniteUpdates
from seqrl_lightning.algorithms.optimization import Optimization, OptimizerCallable
from seqrl_lightning.algorithms.settings import require_count
from seqrl_lightning.algorithms.trainer_settings import (
    require_gpu_for_graphs,
    require_monitored,
    require_own_clipping,
    require_precise_weights,
)
from seqrl_lightning.algorithms.updates import LightningStep, last_of, without_cached_casts
from seqrl_lightning.batches import Batch, BatchT, Update
from seqrl_lightning.networks import MLP, NetworkCallable
from seqrl_lightning.parts import ObsShape, PackedShape
from seqrl_lightning.replay import RolloutSampler, Sampler
from seqrl_lightning.saved_optimizer import require_optimization
from seqrl_lightning.types import Cadence, CompileMode, ConfigurationError, keep_plain, require

_RENAMED_METHODS = {
    "follow_policy": "optimize_model of a LearnerModule, or target of a DQN",
    "next_state_values": "optimize_model of a LearnerModule, or target of a DQN",
    "targets": "optimize_model of a LearnerModule, or target of a DQN",
    "discounts": "returns_and_discounts",
    "cadence": "required_cadence()",
}


class TrainingModule(ActingModule, Generic[BatchT]):
    """A learner in training: it divides each batch of the dataset into updates, and makes them.

    ``BatchT`` is the type of what one update learns from, which :meth:`minibatches` makes of a batch and
    :meth:`optimize_model` takes.

    Args:
        obs_shape: Shape of one observation (the CLI takes it from the task).
        n_actions: Number of actions (the CLI takes it from the task).
        network: Builds the network from ``obs_shape`` and the shape of its outputs for one observation.
        optimizer: Builds the optimizer from the parameters and ``learning_rate``.
        lr_scheduler: Builds a scheduler from the optimizer; it is stepped after every update.
        learning_rate: Learning rate of the optimizer.
        gamma: Discount factor, in [0, 1].
        value_rescaling: The epsilon of R2D2's rescaling of values, ``h(x) = sign(x) (sqrt(|x| + 1) - 1) + epsilon x``
            (arXiv:1805.11593; 1e-3 there): the network learns h(Q), and every rule is applied to Q. None for none.
        clip_grad_value: Largest absolute value of a gradient's element; None for no limit.
        clip_grad_norm: Maximum norm of the whole gradient; None for no limit.
        updates_per_step: Updates of the network in one ``training_step``, each from a batch of its own, all drawn
            before the first. With more than 1, all of them together incur the Trainer's fixed cost of a step once.
            Automatic optimization is then off, so that the Trainer can't accumulate or clip gradients.
        compile: Whether ``torch.compile`` compiles the loss, and with ``updates_per_step`` above 1 also its gradient,
            in the first seconds of training. Parts that can't be compiled (the steps of a recurrent network) run as
            they are. On a GPU, ``cuda_graphs`` launches an update's kernels all at once, as a CUDA graph, and
            ``compiled_cuda_graphs`` compiles the loss and its gradient first. Both need a fused Adam or AdamW, and
            ``updates_per_step`` above 1.
        normalize_observations: Whether the network reads each element of an observation minus its running mean,
            divided by its running standard deviation; of several parts, only those that are floats.
        normalize_rewards: Whether rewards are divided by the running standard deviation of the discounted return;
            values are then in units of the rescaled reward.

    Raises:
        ConfigurationError: If a setting can't work, or the network doesn't fit the task.
    """

    needs_next_action: bool = False
    """Whether batches have to hold the action that was taken in the next state."""

    needs_epsilon: bool = False
    """Whether batches have to hold the behavior policy's current epsilon."""

    is_on_policy: bool = False
    """Whether it learns about the policy that acts, so that it can't learn from a log of another one's steps."""

    _builders = (*ActingModule._builders, "optimization")

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Refuse a subclass that overrides a method which earlier versions called.

        Raises:
            ConfigurationError: If it does.
        """
        super().__init_subclass__(**kwargs)
        for old, new in _RENAMED_METHODS.items():
            if old in vars(cls):
                raise ConfigurationError(f"{cls.__name__}.{old} would never be called; it must be {new}")

    def __init__(
        self,
        obs_shape: ObsShape,
        n_actions: int,
        network: NetworkCallable = MLP,
        optimizer: OptimizerCallable = lambda params, lr: torch.optim.Adam(params, lr, fused=True),
        lr_scheduler: LRSchedulerCallable | None = None,
        learning_rate: float = 1e-3,
        gamma: float = 0.99,
        value_rescaling: float | None = None,
        clip_grad_value: float | None = None,
        clip_grad_norm: float | None = None,
        updates_per_step: int = 1,
        compile: CompileMode = False,
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
    ) -> None:
        super().__init__(
            obs_shape, n_actions, network, gamma, value_rescaling, normalize_observations, normalize_rewards
        )
        self.save_hyperparameters(logger=False)  # BoardPages writes them
        keep_plain(self.hparams)
        if isinstance(self.obs_shape, PackedShape):
            self.hparams["obs_shape"] = self.obs_shape.settings()  # as a checkpoint holds it
        require_count(updates_per_step=updates_per_step)
        self.automatic_optimization = updates_per_step == 1
        self.updates_per_step = updates_per_step
        self.compile_mode = compile  # `compile` is nn.Module's method
        self.optimization = Optimization(optimizer, lr_scheduler, learning_rate, clip_grad_value, clip_grad_norm)
        self.finite_updates = FiniteUpdates()
        self._step: Callable[[BatchT], Update] | None = None  # from a batch to an update, while training
        self._resumed: dict[str, Any] = {}  # of a checkpoint, until the optimizer is made

    @abstractmethod
    def minibatches(self, batch: Batch) -> Iterable[BatchT]:
        """Divide a batch of the dataset into what each of ``updates_per_step`` updates learns from.

        Args:
            batch: [T, K * B] transitions, for K updates.
        """

    @abstractmethod
    def optimize_model(self, batch: BatchT) -> Update:
        """Compute the loss of one update; the optimizer then steps along its gradient."""

    @abstractmethod
    def check_sampler(self, sampler: Sampler) -> None:
        """Refuse a sampler whose batches the learner can't learn from.

        Raises:
            ConfigurationError: If the sampler doesn't fit.
        """

    def required_cadence(self) -> Cadence | None:
        """Return the only cadence of env steps and updates that works; None leaves it to the agent's settings."""
        return None

    # Before training

    def configure_callbacks(self) -> list[Callback]:
        """Refuse settings of the Trainer that can't work, before Lightning looks at them; it calls this first.

        Returns:
            No callbacks.

        Raises:
            ConfigurationError: If the weights would have half precision, the Trainer was to clip or accumulate
                gradients of updates that the learner makes by hand, there can be no CUDA graphs, or a callback monitors
                what Lightning doesn't know.
        """
        require_precise_weights(self.trainer)
        require_own_clipping(self.trainer, self)
        require_gpu_for_graphs(self.trainer, self, self.compile_mode)
        require_monitored(self.trainer)
        return []

    def setup(self, stage: str) -> None:
        """Refuse what can't be learned from, and checkpoints in the middle of a training step.

        Raises:
            ConfigurationError: If the sampler doesn't fit the network, the algorithm or the replay memory, the
                observations don't fit the network or can't be normalized, or a ``ModelCheckpoint`` counts steps that
                aren't a multiple of ``updates_per_step``.
        """
        if stage == "fit":
            self.check_sampler(self.data.sampler)
            self._check_normalization()
            must_be = "one that reads numbers, like MLP: the observations are no one-hot states"
            require(self.data.obs_is_binary or not self.reads_states, "model.network", "Table", must_be)
            if isinstance(self.data.sampler, RolloutSampler):
                self.data.sampler.require_room(self.data.capacity, self.data.num_envs)
        for callback in self.trainer.checkpoint_callbacks:
            every = callback._every_n_train_steps if isinstance(callback, ModelCheckpoint) else 0
            must_be = f"a multiple of model.updates_per_step = {self.updates_per_step}"
            require(every % self.updates_per_step == 0, "checkpoint.every_n_train_steps", every, must_be)

    def _check_normalization(self) -> None:
        """Refuse to normalize pictures, which their networks scale, and one-hot states: neither are floats.

        A log has no env steps that running statistics could follow.
        """
        for name, given in (("observations", self.normalization.observations), ("rewards", self.normalization.rewards)):
            must_be = "false with LoggedTrials, where no agent shows what it sees"
            require(given is None or self.data.has_agent, f"model.normalize_{name}", True, must_be)
        norm, dtype = self.normalization.observations, self.data.obs_dtype
        must_be = f"false: the observations are no floats, but {dtype} of shape {self.obs_shape}"
        fits = norm is None or norm.layout is not None or np.issubdtype(dtype, np.floating)
        require(fits, "model.normalize_observations", True, must_be)

    # Updates

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what optimizer and scheduler of a resumed run are to restore; see :class:`CheckpointedModule`."""
        super().on_load_checkpoint(checkpoint)
        if self._trainer is not None and self._trainer.state.fn == "fit":  # an evaluation has no optimizer
            self._resumed = {name: checkpoint[name] for name in ("optimizer_states", "lr_schedulers")}

    def on_fit_start(self) -> None:
        """Refuse what a checkpoint holds for the optimizer and its scheduler, before Lightning restores it.

        Raises:
            StateError: If this run's can't have left it.
        """
        resumed, self._resumed = self._resumed, {}
        if resumed:
            schedulers = [config.scheduler for config in self.trainer.lr_scheduler_configs]
            require_optimization(resumed, self.trainer.optimizers, schedulers)

    def on_train_start(self) -> None:
        """Choose how an update is made, after the optimizer has its state."""
        self._step = self.choose_step()

    def on_train_end(self) -> None:
        """Release what :meth:`on_train_start` made."""
        self._step = None

    def choose_step(self) -> Callable[[BatchT], Update]:
        """Return how an update is made: the loss alone where Lightning does the rest, otherwise all of it."""
        if not self.automatic_optimization and (step := speed.plain_step(self, self.optimize_model, self.compile_mode)):
            return step
        is_compiled = self.compile_mode in (True, "compiled_cuda_graphs")
        optimize_model = speed.compiled_loss(self.optimize_model) if is_compiled else self.optimize_model
        return optimize_model if self.automatic_optimization else LightningStep(self, optimize_model)

    def training_step(self, batch: Batch, batch_idx: int) -> Update:
        """Make one update under automatic optimization, or ``updates_per_step`` = K updates by hand.

        Args:
            batch: [T, B] transitions; [T, K * B] for K updates, each of which learns from a part.
            batch_idx: Number of the training step in its epoch.
        """
        assert self._step is not None
        batch = self.normalization.batch(batch)
        most = None if self.automatic_optimization else self.updates_left  # Lightning counts its own updates
        with without_cached_casts():
            return last_of([self._step(minibatch) for minibatch in islice(self.minibatches(batch), most)])

    @property
    def updates_left(self) -> int | None:
        """Updates until ``trainer.max_steps``; None if that isn't set."""
        max_steps = self.trainer.max_steps
        return None if max_steps == -1 else max_steps - self.trainer.global_step

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer over ``policy_net`` and its scheduler, if there is one, stepped after every update."""
        return self.optimization.configure(self.policy_net.parameters())

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Refuse gradients that aren't finite; clip the others by the module's settings, then by the Trainer's."""
        precision = None if self._trainer is None else self._trainer.precision_plugin
        self.optimization.limit(optimizer, self.finite_updates, precision)
        if gradient_clip_val is not None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
