"""Deep Q-learning."""

import copy
import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from lightning.pytorch.cli import LRSchedulerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from seqrl_lightning.algorithms.evaluation import GreedyEvaluation
from seqrl_lightning.algorithms.finite import FiniteUpdates
from seqrl_lightning.algorithms.manual import LightningStep, PlainStep
from seqrl_lightning.algorithms.reading import read, read_next
from seqrl_lightning.functional import (
    bootstrap_discounts,
    bootstrapped_targets,
    expected_value,
    huber_losses,
    mask_actions,
    n_step_returns,
    rescale_values,
    soft_policy,
    unscale_values,
    value_of,
    weighted_mean,
)
from seqrl_lightning.networks import MLP, NetworkCallable
from seqrl_lightning.types import (
    Array,
    BoolArray,
    ConfigurationError,
    State,
    TransitionBatch,
    keep_plain,
    require,
)

OptimizerCallable = Callable[[Iterable[Tensor], float], Optimizer]


class DQN(GreedyEvaluation):
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
        munchausen_alpha: How much of the scaled log-policy is added to the reward (Munchausen DQN, arXiv:2007.14430;
            0.9 there); 0 for none. The policy that is learned about is then the softmax of the target network.
        munchausen_temperature: That softmax's temperature.
        munchausen_clip: The least that is added to the reward, before ``munchausen_alpha``.
        value_rescaling: The epsilon of R2D2's rescaling of values, ``h(x) = sign(x) (sqrt(|x| + 1) - 1) + epsilon x``
            (arXiv:1805.11593; 1e-3 there): the network learns rescaled values. None for none.
        clip_grad_value: Largest absolute value of a gradient's element; None for no limit.
        clip_grad_norm: Largest norm of the whole gradient; None for no limit.
        updates_per_step: Updates of the network in one ``training_step``, each with a batch of its own, all drawn
            before the first. More than 1 spends the Trainer's fixed cost of a step once for all of them; it turns
            automatic optimization off, so that the Trainer can't accumulate or clip gradients.
        compile: Whether ``torch.compile`` compiles the loss, and with ``updates_per_step`` above 1 its gradient too, in
            the first seconds of training. What can't be compiled (the steps of a recurrent network) is run as ever.

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
        munchausen_alpha: float = 0.0,
        munchausen_temperature: float = 0.03,
        munchausen_clip: float = -1.0,
        value_rescaling: float | None = None,
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
            ("value_rescaling", value_rescaling),
            ("clip_grad_value", clip_grad_value),
            ("clip_grad_norm", clip_grad_norm),
        ):
            require(value is None or value > 0, f"model.{name}", value, "positive, or null for none")
        require(0 <= munchausen_alpha <= 1, "model.munchausen_alpha", munchausen_alpha, "in [0, 1]")
        tau = munchausen_temperature
        require(tau > 0, "model.munchausen_temperature", tau, "positive")
        require(munchausen_clip <= 0, "model.munchausen_clip", munchausen_clip, "0 or less")
        would_do = "false with munchausen_alpha, which has a policy of its own"
        require(not (double and munchausen_alpha), "model.double", double, would_do)
        require(updates_per_step > 0, "model.updates_per_step", updates_per_step, "at least 1")
        self.automatic_optimization = updates_per_step == 1
        self.updates_per_step = updates_per_step
        self.use_compile = compile  # `compile` is nn.Module's method
        self.obs_shape = tuple(obs_shape)
        self.n_actions = n_actions
        self.learning_rate = learning_rate
        self.gamma = gamma
        self.huber_delta = huber_delta
        self.use_double_q = double  # `double` is nn.Module's cast to float64
        self.munchausen_alpha = munchausen_alpha
        self.munchausen_temperature = munchausen_temperature
        self.munchausen_clip = munchausen_clip
        self.value_rescaling = value_rescaling
        self.clip_grad_value = clip_grad_value
        self.clip_grad_norm = clip_grad_norm
        self.finite_updates = FiniteUpdates()
        self._optimizer = optimizer
        self._lr_scheduler = lr_scheduler

        self.policy_net = self.build_network(network)
        self.target_net = copy.deepcopy(self.policy_net).requires_grad_(False)

    # What the network puts out: the two methods that change with it

    def build_network(self, network: NetworkCallable) -> nn.Module:
        """Builds the network, here one that puts out Q-values ``[T, B, A]``, and tries it on one observation."""
        return build_network(network, self.obs_shape, (self.n_actions,))

    def q_values(self, outputs: Tensor) -> Tensor:
        """The Q-values ``[..., A]`` in the network's outputs, here the same."""
        return outputs

    @functools.cached_property
    def remembers(self) -> bool:
        """Whether the network carries something from step to step."""
        with torch.no_grad():
            return self.policy_net(torch.zeros(1, 1, *self.obs_shape))[1] is not None

    # Learning

    reads_windows = True  # whether a network that remembers can be trained

    def setup(self, stage: str) -> None:
        """Refuses what can't be learned from, and checkpoints in the middle of a training step.

        Raises:
            ConfigurationError: If the sampler doesn't fit the network or the algorithm, or a ``ModelCheckpoint`` counts
                steps that aren't a multiple of ``updates_per_step``.
        """
        if stage == "fit":
            self._check_sampler(self.trainer.datamodule.sampler)  # type: ignore[attr-defined]
        for callback in self.trainer.checkpoint_callbacks:
            every = getattr(callback, "_every_n_train_steps", 0)
            would_do = f"a multiple of model.updates_per_step = {self.updates_per_step}"
            require(every % self.updates_per_step == 0, "checkpoint.every_n_train_steps", every, would_do)

    def _check_sampler(self, sampler: Any) -> None:
        """A network that remembers has to read what happened in order, and single transitions have no order."""
        remembers, algorithm = self.remembers, type(self).__name__
        would_do = f"one without memory: {algorithm} learns from single steps"
        require(self.reads_windows or not remembers, "model.network", "a network that remembers", would_do)
        would_do = "SequenceSampler for a network that remembers"
        require(sampler.gives_windows or not remembers, "data.sampler", type(sampler).__name__, would_do)

    def training_step(self, batch: TransitionBatch, batch_idx: int) -> dict[str, Tensor]:
        """One update, by Lightning: it zeroes the gradients, goes backward from the loss and steps the optimizer.

        With ``updates_per_step`` K > 1: K updates, each from its part of the batch ([T, K * B]).
        """
        return self.optimize_model(batch) if self.automatic_optimization else self._update_many(batch)

    def _update_many(self, batch: TransitionBatch) -> dict[str, Tensor]:
        """Does by hand what automatic optimization does for one update. Returns what the last one showed."""
        max_steps = self.trainer.max_steps
        updates_left = max_steps - self.trainer.global_step if max_steps != -1 else self.updates_per_step
        priorities = []
        for part in itertools.islice(batch.split(self.updates_per_step), updates_left):
            outputs = self._step(part)
            if "priority_batch" in outputs:
                priorities.append(outputs["priority_batch"])
        if priorities:
            outputs["priority_batch"] = torch.cat(priorities, dim=1)
        return outputs

    def optimize_model(self, batch: TransitionBatch) -> dict[str, Tensor]:
        """The seed's update: the loss between predicted Q-values and those of the Bellman equation.

        Args:
            batch: Transitions, [T, B].

        Returns:
            See :meth:`summary`.
        """
        outputs, next_outputs = read(self.policy_net, batch, next_states=self.use_double_q)
        state_action_values = value_of(outputs, batch.action_batch)
        with torch.no_grad():
            expected_state_action_values = self.targets(batch, self.next_state_values(batch, next_outputs))
        losses = huber_losses(state_action_values, expected_state_action_values, self.huber_delta)
        return self.summary(batch, losses, state_action_values, expected_state_action_values)

    def targets(self, batch: TransitionBatch, next_state_values: Tensor) -> Tensor:
        """The values that the Bellman equation expects, from those of the next states. [T, B] or [T, B, atoms]."""
        if self.value_rescaling is not None:
            next_state_values = unscale_values(next_state_values, self.value_rescaling)
        targets = bootstrapped_targets(self.returns(batch), self.discounts(batch), next_state_values)
        return targets if self.value_rescaling is None else rescale_values(targets, self.value_rescaling)

    def returns(self, batch: TransitionBatch) -> Tensor:
        """The rewards up to the next state, discounted, with Munchausen's addition to the first. [T, B]."""
        returns = n_step_returns(batch.reward_batch, self.gamma)
        if self.munchausen_alpha == 0.0:
            return returns
        q_values = self.q_values(read(self.target_net, batch)[0])
        _, scaled_log_policy = soft_policy(q_values, self.munchausen_temperature, batch.action_mask_batch)
        bonus = value_of(scaled_log_policy, batch.action_batch).clamp(self.munchausen_clip, 0.0)
        return returns + self.munchausen_alpha * bonus

    def discounts(self, batch: TransitionBatch) -> Tensor:
        """The factor of the next state's value: gamma^n, and 0 after a terminal state. [T, B]."""
        return bootstrap_discounts(batch.terminated_batch, batch.num_steps_batch, self.gamma)

    def next_state_values(self, batch: TransitionBatch, policy_outputs: Tensor | None) -> Tensor:
        """What the next states are worth, as the target network sees it.

        Args:
            batch: The transitions.
            policy_outputs: What the policy network makes of the next states, [T, B, ...]; only for double Q-learning.

        Returns:
            [T, B], or [T, B, atoms].
        """
        outputs = read_next(self.target_net, batch)
        selector = policy_outputs if self.use_double_q and policy_outputs is not None else outputs
        return self.follow_policy(outputs, self.q_values(selector), batch)

    def follow_policy(self, values: Tensor, q_values: Tensor, batch: TransitionBatch) -> Tensor:
        """The value of the next states under the policy that is learned about: here the greedy one.

        With Munchausen it is the softmax, whose entropy is worth something too (arXiv:2007.14430, eq. 3).

        Args:
            values: [T, B, A] or [T, B, A, atoms] float, of the next states' actions.
            q_values: [T, B, A] float, which make the policy.
            batch: The transitions.

        Returns:
            [T, B] or [T, B, atoms] float.
        """
        mask = batch.next_action_mask_batch
        if self.munchausen_alpha == 0.0:
            return value_of(values, mask_actions(q_values, mask).argmax(-1))
        policy, scaled_log_policy = soft_policy(q_values, self.munchausen_temperature, mask)
        entropy = -expected_value(scaled_log_policy, policy)
        state_values = expected_value(values, policy)
        return state_values + (entropy if state_values.dim() == entropy.dim() else entropy.unsqueeze(-1))

    def summary(
        self,
        batch: TransitionBatch,
        losses: Tensor,
        state_action_values: Tensor,
        expected_state_action_values: Tensor,
        priority: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """What an update returns.

        Args:
            batch: The transitions that were learned from.
            losses: [T, B] float, of each transition.
            state_action_values: [T, B] float.
            expected_state_action_values: [T, B] float.
            priority: [T, B] float, of each transition; None for the TD error's size.

        Returns:
            ``loss``: [] float, the mean over the batch by its weights; ``state_action_values`` and
            ``expected_state_action_values``: [T, B] float, detached; for prioritized replay ``priority_batch``:
            [T, B] float, detached.
        """
        outputs = {
            "loss": weighted_mean(losses, batch.weight_batch),
            "state_action_values": state_action_values.detach(),
            "expected_state_action_values": expected_state_action_values,
        }
        if batch.slot_batch is not None:
            error = expected_state_action_values - outputs["state_action_values"]
            outputs["priority_batch"] = (error if priority is None else priority.detach()).abs()
        return outputs

    def on_train_start(self) -> None:
        """Chooses how batches become new weights where ``training_step`` sees to it itself, and what is compiled."""
        is_plain = not self.automatic_optimization and PlainStep.fits(self.trainer)
        if self.use_compile:
            torch.compiler.reset()  # a process compiles a function for so many learners only
        if not self.automatic_optimization:
            self._step = PlainStep(self, self.use_compile) if is_plain else LightningStep(self)
        if self.use_compile and not is_plain:
            self.optimize_model = torch.compile(self.optimize_model)  # type: ignore[method-assign]

    def on_train_end(self) -> None:
        """Gives ``optimize_model`` back as it was."""
        self.__dict__.pop("optimize_model", None)

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
        """Refuses gradients that aren't finite; limits them by the module's settings, then by the Trainer's flags."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        precision = getattr(self._trainer, "precision_plugin", None)
        if getattr(precision, "scaler", None) is None:  # a gradient scaler sees to it itself
            self.finite_updates(optimizer, parameters)
        if self.clip_grad_value is not None:
            nn.utils.clip_grad_value_(parameters, self.clip_grad_value)
        if self.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.clip_grad_norm)
        if gradient_clip_val is not None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    # Acting

    def act_values(
        self, observation: Array, state: State = None, is_first: BoolArray | None = None
    ) -> tuple[Array, State]:
        """The value of each action, whatever the network puts out: everyone acts through this.

        A network that offers ``forward_numpy`` is asked through it on the CPU.

        Args:
            observation: [N, *obs] of N environments.
            state: What the network carries; None at the start.
            is_first: [N] bool, where an episode starts, so that the state there is forgotten; None: nowhere.

        Returns:
            [N, n_actions] float32 and the next state.
        """
        forward_numpy: Any = getattr(self.policy_net, "forward_numpy", None)
        if forward_numpy is not None and self.device.type == "cpu" and self.dtype == torch.float32:
            return forward_numpy(observation), state
        with torch.inference_mode():
            observation_batch = torch.from_numpy(np.asarray(observation)).to(self.device).unsqueeze(0)
            is_first_batch = None if is_first is None else torch.from_numpy(is_first).to(self.device).unsqueeze(0)
            outputs, state = self.policy_net(observation_batch, state, is_first_batch)
            return self.q_values(outputs).squeeze(0).float().cpu().numpy(), state

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what the hyperparameters don't say, so that a checkpoint alone rebuilds its policy."""
        checkpoint["policy"] = {
            "algorithm": f"{type(self).__module__}:{type(self).__qualname__}",
            "obs_dtype": self.trainer.datamodule.obs_dtype,  # type: ignore[attr-defined]
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another task, before its weights fail to fit.

        Raises:
            ConfigurationError: If the checkpoint's task isn't the datamodule's.
        """
        datamodule = getattr(self._trainer, "datamodule", None)
        saved = checkpoint.get("datamodule_hyper_parameters", {}).get("env_id")
        if datamodule is not None and saved is not None:
            require(datamodule.env_id == saved, "data.env_id", datamodule.env_id, f"the checkpoint's {saved!r}")


def build_network(network: NetworkCallable, obs_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> nn.Module:
    """Builds a network and tries it on one observation.

    Raises:
        ConfigurationError: If it doesn't turn observations of ``obs_shape`` into outputs of ``out_shape``.
    """
    fits = f"a network that turns observations of shape {obs_shape} into outputs of shape {out_shape}"
    name = getattr(network, "__name__", "the network")
    try:
        net = network(obs_shape, out_shape)
        with torch.no_grad():
            outputs, _ = net(torch.zeros(1, 1, *obs_shape))
    except ConfigurationError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"model.network does not fit data.env_id: it must be {fits} ({reason})") from error
    require(tuple(outputs.shape) == (1, 1, *out_shape), "model.network", name, f"{fits}, not {tuple(outputs.shape)}")
    return net
