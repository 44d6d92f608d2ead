"""Deep Q-learning."""

import copy
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from seqrl_lightning.algorithms.manual import LightningStep, PlainStep
from seqrl_lightning.envs.rollout import Step, rollout
from seqrl_lightning.exploration import greedy
from seqrl_lightning.functional import double_q_values, huber_loss, max_q_values, one_step_targets
from seqrl_lightning.metrics import EpisodeStatistics
from seqrl_lightning.networks import MLP, NetworkCallable
from seqrl_lightning.types import (
    Array,
    ConfigurationError,
    EvaluationTask,
    IntArray,
    State,
    TransitionBatch,
    keep_plain,
    require,
)

OptimizerCallable = Callable[[Iterable[Tensor], float], Optimizer]


class DQN(LightningModule):
    """Deep Q-Network (Mnih et al., arXiv:1312.5602; with a target network as in Nature 518, 2015).

    It learns from batches of transitions and never sees an environment: ``AgentCallback`` acts through
    ``act_values``, ``TargetSync`` brings ``target_net`` after ``policy_net``.

    Args:
        obs_shape: Shape of one observation (the CLI takes it from the task).
        n_actions: Number of actions (the CLI takes it from the task).
        network: Builds the Q-network from ``obs_shape`` and ``n_actions``.
        optimizer: Builds the optimizer from the parameters and ``learning_rate``.
        lr_scheduler: Builds a scheduler from the optimizer; it is stepped after every update.
        learning_rate: The optimizer's learning rate.
        gamma: Discount factor, in [0, 1].
        huber_delta: Where the Huber loss turns from a parabola into a line; None for half the squared error.
        double: Whether the policy network selects the action that the target network values (arXiv:1509.06461).
        clip_grad_value: Largest absolute value of a gradient's element; None for no limit.
        clip_grad_norm: Largest norm of the whole gradient; None for no limit.
        updates_per_step: Updates of the network in one ``training_step``, each with a batch of its own, all drawn
            before the first. More than 1 spends the Trainer's fixed cost of a step once for all of them; it turns
            automatic optimization off, so that the Trainer can't accumulate or clip gradients.
        compile: Whether ``torch.compile`` compiles the networks; it pays for large ones only.

    Raises:
        ConfigurationError: If a setting can't work, or the network doesn't fit the task.
    """

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        n_actions: int,
        network: NetworkCallable = MLP,
        optimizer: OptimizerCallable = lambda params, lr: torch.optim.Adam(params, lr, fused=True),
        lr_scheduler: LRSchedulerCallable | None = None,
        learning_rate: float = 1e-3,
        gamma: float = 0.99,
        huber_delta: float | None = 1.0,
        double: bool = False,
        clip_grad_value: float | None = None,
        clip_grad_norm: float | None = None,
        updates_per_step: int = 1,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        keep_plain(self.hparams)
        require(learning_rate > 0, "model.learning_rate", learning_rate, "positive")
        require(0 <= gamma <= 1, "model.gamma", gamma, "in [0, 1]")
        for name, value in (
            ("huber_delta", huber_delta),
            ("clip_grad_value", clip_grad_value),
            ("clip_grad_norm", clip_grad_norm),
        ):
            require(value is None or value > 0, f"model.{name}", value, "positive, or null for none")
        require(updates_per_step > 0, "model.updates_per_step", updates_per_step, "at least 1")
        self.automatic_optimization = updates_per_step == 1
        self.updates_per_step = updates_per_step
        self.obs_shape = tuple(obs_shape)
        self.n_actions = n_actions
        self.learning_rate = learning_rate
        self.gamma = gamma
        self.huber_delta = huber_delta
        self.use_double_q = double  # `double` is nn.Module's cast to float64
        self.clip_grad_value = clip_grad_value
        self.clip_grad_norm = clip_grad_norm
        self._optimizer = optimizer
        self._lr_scheduler = lr_scheduler

        self.policy_net = _build_network(network, self.obs_shape, n_actions)
        self.target_net = copy.deepcopy(self.policy_net).requires_grad_(False)
        if compile:
            self.policy_net.compile()
            self.target_net.compile()
        self.episode_statistics: dict[str, EpisodeStatistics] = {}

    # Learning

    def setup(self, stage: str) -> None:
        """Refuses checkpoints in the middle of a training step.

        Raises:
            ConfigurationError: If a ``ModelCheckpoint`` counts steps that aren't a multiple of ``updates_per_step``.
        """
        for callback in self.trainer.checkpoint_callbacks:
            every = getattr(callback, "_every_n_train_steps", 0)
            would_do = f"a multiple of model.updates_per_step = {self.updates_per_step}"
            require(every % self.updates_per_step == 0, "checkpoint.every_n_train_steps", every, would_do)

    def training_step(self, batch: TransitionBatch, batch_idx: int) -> dict[str, Tensor]:
        """One update, by Lightning: it zeroes the gradients, goes backward from the loss and steps the optimizer.

        With ``updates_per_step`` K > 1: K updates, each from its part of the batch ([T, K * B]).
        """
        return self.optimize_model(batch) if self.automatic_optimization else self._update_many(batch)

    def _update_many(self, batch: TransitionBatch) -> dict[str, Tensor]:
        """Does by hand what automatic optimization does for one update. Returns what the last one showed."""
        parts = zip(*(column.chunk(self.updates_per_step, dim=1) for column in batch), strict=True)
        max_steps = self.trainer.max_steps
        updates_left = max_steps - self.trainer.global_step if max_steps != -1 else self.updates_per_step
        for part in itertools.islice(parts, updates_left):
            outputs = self.optimize_model(TransitionBatch(*part))
            self._step(outputs["loss"])
        return {**outputs, "loss": outputs["loss"].detach()}

    def optimize_model(self, batch: TransitionBatch) -> dict[str, Tensor]:
        """The seed's update: the loss between predicted Q-values and those of the Bellman equation.

        Args:
            batch: Transitions, [T, B].

        Returns:
            ``loss``: [] float; ``state_action_values`` and ``expected_state_action_values``: [T, B] float, detached.
        """
        q_values, _ = self.policy_net(batch.state_batch, None)
        state_action_values = q_values.gather(-1, batch.action_batch.unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():
            next_state_values = self.next_state_values(batch.next_state_batch)
            expected_state_action_values = one_step_targets(
                batch.reward_batch, batch.terminated_batch, next_state_values, self.gamma
            )
        loss = huber_loss(state_action_values, expected_state_action_values, self.huber_delta)
        return {
            "loss": loss,
            "state_action_values": state_action_values.detach(),
            "expected_state_action_values": expected_state_action_values,
        }

    def next_state_values(self, next_state_batch: Tensor) -> Tensor:
        """What the next states are worth to an agent that goes on greedily. ``[T, B, *obs] -> [T, B]``."""
        q_values, _ = self.target_net(next_state_batch, None)
        if not self.use_double_q:
            return max_q_values(q_values)
        selector_q_values, _ = self.policy_net(next_state_batch, None)
        return double_q_values(q_values, selector_q_values)

    def on_train_start(self) -> None:
        """Chooses how losses become new weights where ``training_step`` sees to it itself."""
        if not self.automatic_optimization:
            self._step = PlainStep(self) if PlainStep.fits(self.trainer) else LightningStep(self)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer over ``policy_net`` and, where one is set, its scheduler, stepped after every update."""
        try:
            optimizer = self._optimizer(self.policy_net.parameters(), self.learning_rate)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ConfigurationError(f"model.optimizer can't be built: {error}") from error
        if self._lr_scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self._lr_scheduler(optimizer), "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Limits the gradients by the module's settings, then by the Trainer's flags."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if self.clip_grad_value is not None:
            for gradient in (p.grad for p in parameters if p.grad is not None):  # half the time of clip_grad_value_
                gradient.clamp_(-self.clip_grad_value, self.clip_grad_value)
        if self.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.clip_grad_norm)
        if gradient_clip_val is not None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    # Acting

    def act_values(self, observation: Array, state: State = None) -> tuple[Array, State]:
        """The value of each action, whatever the network puts out: everyone acts through this.

        A network that offers ``forward_numpy`` is asked through it on the CPU.

        Args:
            observation: [N, *obs] of N environments.
            state: What the network carries; None at the start.

        Returns:
            [N, n_actions] float32 and the next state.
        """
        forward_numpy: Any = getattr(self.policy_net, "forward_numpy", None)
        if forward_numpy is not None and self.device.type == "cpu" and self.dtype == torch.float32:
            return forward_numpy(observation), state
        with torch.inference_mode():
            observation_batch = torch.from_numpy(np.asarray(observation)).to(self.device).unsqueeze(0)
            q_values, state = self.policy_net(observation_batch, state)
            return q_values.squeeze(0).float().cpu().numpy(), state

    def act(self, observation: Array, state: State = None) -> tuple[IntArray, State]:
        """The greedy policy. ``[N, *obs] -> [N]``."""
        q_values, state = self.act_values(observation, state)
        return greedy(q_values), state

    # Evaluation

    def validation_step(self, batch: EvaluationTask, batch_idx: int) -> None:
        """Plays greedy episodes in the datamodule's evaluation environments."""
        self._evaluate(batch)

    def test_step(self, batch: EvaluationTask, batch_idx: int) -> None:
        """The same as ``validation_step``."""
        self._evaluate(batch)

    def predict_step(self, batch: EvaluationTask, batch_idx: int) -> list[Step]:
        """Plays greedy episodes and returns their steps."""
        return list(self._rollout(batch))

    def on_validation_epoch_start(self) -> None:
        """Begins new statistics, for the same names in every process."""
        names = self.trainer.datamodule.evaluation_names()  # type: ignore[attr-defined]
        self.episode_statistics = {name: EpisodeStatistics().to(self.device) for name in names}

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/return_mean`` and the like, for the block that training is in and for every block."""
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Logs ``test/return_mean`` and the like."""
        self._log_evaluation("test")

    def _rollout(self, task: EvaluationTask) -> Any:
        envs = self.trainer.datamodule.eval_envs  # type: ignore[attr-defined]
        return rollout(self.act, envs, task.seed, task.options)

    def _evaluate(self, task: EvaluationTask) -> None:
        steps = [(step.reward * step.is_playing, step.is_playing) for step in self._rollout(task)]
        returns, lengths = (torch.from_numpy(np.sum(column, axis=0)) for column in zip(*steps, strict=True))
        for name in task.names:
            self.episode_statistics[name].update(returns.to(self.device), lengths.to(self.device))

    def _log_evaluation(self, stage: str) -> None:
        # While fitting, EnvStepLogger writes what is logged here, with the env steps as x axis.
        to_logger = self.trainer.state.fn != "fit"
        for name, statistics in self.episode_statistics.items():
            values = {f"{stage}/{name}{key}": value for key, value in statistics.compute().items()}
            self.log_dict(values, logger=to_logger)

    # Checkpoints

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another task, before its weights fail to fit.

        Raises:
            ConfigurationError: If the checkpoint's task isn't the datamodule's.
        """
        datamodule = getattr(self._trainer, "datamodule", None)
        saved = checkpoint.get("datamodule_hyper_parameters", {}).get("env_id")
        if datamodule is not None and saved is not None:
            require(datamodule.env_id == saved, "data.env_id", datamodule.env_id, f"the checkpoint's {saved!r}")


def _build_network(network: NetworkCallable, obs_shape: tuple[int, ...], n_actions: int) -> nn.Module:
    """Builds the network and tries it on one observation."""
    fits = f"a network that turns observations of shape {obs_shape} into {n_actions} values"
    name = getattr(network, "__name__", "the network")
    try:
        net = network(obs_shape, n_actions)
        with torch.no_grad():
            outputs, _ = net(torch.zeros(1, 1, *obs_shape), None)
    except ConfigurationError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"model.network does not fit data.env_id: it must be {fits} ({reason})") from error
    require(
        tuple(outputs.shape) == (1, 1, n_actions),
        "model.network",
        name,
        f"{fits}, not {tuple(outputs.shape)}",
    )
    return net
