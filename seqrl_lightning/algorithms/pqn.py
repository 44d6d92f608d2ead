"""PQN: Q-learning from many environments at once, without a replay memory and without a target network."""

from typing import NamedTuple

import torch
from lightning.pytorch.cli import LRSchedulerCallable
from torch import Tensor

from seqrl_lightning.algorithms.learner import LearnerModule, OptimizerCallable, require_count, require_positive
from seqrl_lightning.functional import huber_losses, lambda_returns, mask_actions, value_of, weighted_mean
from seqrl_lightning.networks import MLP, NetworkCallable
from seqrl_lightning.parts import ObsShape
from seqrl_lightning.replay import RolloutSampler, Sampler
from seqrl_lightning.types import Batch, Cadence, Update, Windows, require


class PQN(LearnerModule):
    """Parallelized Q-network (Gallici et al., arXiv:2407.04811, algorithm 1).

    A training step takes the newest rows of all environments ([T, N], ``data.sampler: RolloutSampler``), computes
    their lambda-returns once, and learns from them in ``epochs`` epochs of minibatches of ``data.batch_size``. Layer
    normalization in the network keeps it stable without a target network (section 3).

    A network that remembers reads whole rollouts: a minibatch holds those of some environments, each from the state
    that the agent's network had at its start, and ``data.batch_size`` still counts transitions.

    Args:
        obs_shape: Shape of one observation (the CLI takes it from the task).
        n_actions: Number of actions (the CLI takes it from the task).
        network: Builds the Q-network from ``obs_shape`` and ``(n_actions,)``.
        optimizer: Builds the optimizer from the parameters and ``learning_rate``.
        lr_scheduler: Builds a scheduler from the optimizer; it is stepped after every update.
        learning_rate: Learning rate of the optimizer.
        gamma: Discount factor, in [0, 1].
        lambda_: How far the returns look ahead, in [0, 1].
        epochs: Number of times that each transition is learned from.
        huber_delta: The error at which the Huber loss turns from a parabola into a line; None for half the squared
            error.
        value_rescaling: See :class:`LearnerModule`.
        clip_grad_value: Largest absolute value of a gradient's element; None for no limit.
        clip_grad_norm: Largest norm of the whole gradient; None for no limit.
        compile: See :class:`LearnerModule`.

    Raises:
        ConfigurationError: If a setting can't work, or the network doesn't fit the task.
    """

    def __init__(
        self,
        obs_shape: ObsShape,
        n_actions: int,
        network: NetworkCallable = MLP,
        optimizer: OptimizerCallable = lambda params, lr: torch.optim.Adam(params, lr, fused=True),
        lr_scheduler: LRSchedulerCallable | None = None,
        learning_rate: float = 1e-3,
        gamma: float = 0.99,
        lambda_: float = 0.65,
        epochs: int = 4,
        huber_delta: float | None = 1.0,
        value_rescaling: float | None = None,
        clip_grad_value: float | None = None,
        clip_grad_norm: float | None = None,
        compile: bool = False,
    ) -> None:
        require(0 <= lambda_ <= 1, "model.lambda_", lambda_, "in [0, 1]")
        require_count(epochs=epochs)
        require_positive(huber_delta=huber_delta)
        super().__init__(
            obs_shape,
            n_actions,
            network,
            optimizer,
            lr_scheduler,
            learning_rate,
            gamma,
            value_rescaling,
            clip_grad_value,
            clip_grad_norm,
            compile=compile,
        )
        self.lambda_ = lambda_
        self.epochs = epochs
        self.huber_delta = huber_delta
        self.target_net = self.policy_net
        self.hparams.pop("updates_per_step", None)  # the base's argument, which isn't a setting here
        self.automatic_optimization = False

    def check_sampler(self, sampler: Sampler) -> None:
        """Refuse anything but rollouts.

        Raises:
            ConfigurationError: If the sampler is another one.
        """
        require(isinstance(sampler, RolloutSampler), "data.sampler", type(sampler).__name__, "RolloutSampler")

    def setup(self, stage: str) -> None:
        """Count the updates of a training step.

        Raises:
            ConfigurationError: If rollouts don't divide into minibatches.
        """
        if stage == "fit":
            self.updates_per_step = self.cadence.updates_per_collect
        super().setup(stage)

    @property
    def cadence(self) -> Cadence:
        """One rollout for each training step.

        Raises:
            ConfigurationError: If rollouts don't divide into minibatches.
        """
        data, sampler = self.data, self.data.sampler
        self.check_sampler(sampler)
        assert isinstance(sampler, RolloutSampler)
        length, rollout = sampler.length, sampler.length * data.num_envs
        slots = (sampler.max_rows + 1) * data.num_envs
        must_be = (
            f"at least {slots}: where episodes are short, a rollout of {rollout} env steps takes up to as many slots"
        )
        require(data.capacity >= slots, "data.capacity", data.capacity, must_be)
        must_be = f"a divisor of data.sampler.length * data.num_envs = {rollout}"
        require(rollout % data.batch_size == 0, "data.batch_size", data.batch_size, must_be)
        if self.remembers:
            must_be = f"a multiple of data.sampler.length = {length}: a network that remembers reads whole rollouts"
            require(data.batch_size % length == 0, "data.batch_size", data.batch_size, must_be)
        updates = self.epochs * (rollout // data.batch_size)
        return Cadence(rollout, rollout / updates, updates)

    def training_step(self, batch: Batch, batch_idx: int) -> Update:
        """Learn from one rollout, [T, N]."""
        assert isinstance(batch, Windows)
        assert self._step is not None
        rollout = self.fix_targets(batch)
        order = torch.cat([torch.randperm(rollout.actions.shape[1]) for _ in range(self.epochs)])
        # The same number of minibatches whatever the number of final observations, as the agent counts updates.
        minibatches = order.tensor_split(self.updates_per_step)[: self.updates_left]
        updates = [self._step(rollout.columns(indices)) for indices in minibatches]
        return updates[-1]

    def fix_targets(self, batch: Windows) -> "Minibatch":
        """Compute a rollout's lambda-returns, and lay it out for the network.

        Returns:
            The rollout as it is for a network that remembers, otherwise its transitions in a row.
        """
        is_transition = batch.weight_batch > 0
        with torch.no_grad():
            outputs, next_mask = batch.read_next_states(self.policy_net)
            next_state_values = mask_actions(self.q_values(outputs), next_mask).amax(-1)
        is_last = torch.ones_like(is_transition)
        is_last[:-1] = ~is_transition[1:]  # a final observation follows
        returns = lambda_returns(
            batch.reward_batch.squeeze(-1),
            batch.terminated_batch,
            is_last,
            next_state_values,
            self.gamma,
            self.lambda_,
        )
        columns = (batch.state_batch, batch.action_batch, self.to_outputs(returns))
        if self.remembers:
            return Minibatch(*columns, batch.weight_batch, batch.is_first[:-1], batch.network_state)
        return Minibatch(*(column[is_transition][None] for column in columns))

    def optimize_model(self, batch: "Minibatch") -> Update:  # type: ignore[override]  # its targets are fixed before
        """Compute the loss of a minibatch. Returns what :meth:`LearnerModule.summary` does."""
        q_values, _ = self.policy_net(batch.states, batch.network_state, batch.is_first)
        state_action_values = value_of(q_values, batch.actions)
        losses = huber_losses(state_action_values, batch.targets, self.huber_delta)
        return {
            "loss": weighted_mean(losses, batch.weights),
            "state_action_values": state_action_values.detach(),
            "expected_state_action_values": batch.targets,
        }


class Minibatch(NamedTuple):
    """Transitions with their targets: B sequences side by side, or B single transitions in a row (T = 1)."""

    states: Tensor  # [T, B, *obs]
    actions: Tensor  # [T, B] int64
    targets: Tensor  # [T, B] float32
    weights: Tensor | None = None  # [T, B] float32, 0 where no transition starts; None: all 1
    is_first: Tensor | None = None  # [T, B] bool
    network_state: Tensor | None = None  # [S, B, ...]

    def columns(self, indices: Tensor) -> "Minibatch":
        """Return some of the sequences. ``indices``: [b] int64."""
        return Minibatch._make(None if column is None else column[:, indices] for column in self)
