"""PQN: Q-learning from many environments at once, without a replay memory and without a target network."""

import math
from collections.abc import Iterator

import torch
from lightning.pytorch.cli import LRSchedulerCallable

from seqrl_lightning.algorithms.optimization import OptimizerCallable
from seqrl_lightning.algorithms.settings import require_count, require_positive
from seqrl_lightning.algorithms.trainer_settings import uses_cuda_graphs
from seqrl_lightning.algorithms.training import TrainingModule
from seqrl_lightning.batches import Batch, Minibatch, Update, Windows
from seqrl_lightning.functional import huber_losses, q_lambda_target, value_of, weighted_mean
from seqrl_lightning.networks import MLP, NetworkCallable
from seqrl_lightning.parts import ObsShape
from seqrl_lightning.replay import RolloutSampler, Sampler
from seqrl_lightning.types import Cadence, CompileMode, require

_GRAPH_ROWS = 16  # minibatches for CUDA graphs, of which each size has one, differ by this many transitions


class PQN(TrainingModule[Minibatch]):
    """Parallelized Q-network (Gallici et al., arXiv:2407.04811, algorithm 1).

    A training step takes the newest rows of all environments ([T, N], ``data.sampler: RolloutSampler``), computes
    their lambda-returns once, and learns from them in ``epochs`` epochs of minibatches of ``data.batch_size``. Layer
    normalization in the network keeps it stable without a target network (section 3). A rollout that the run's budget
    cuts short is learned from in fewer minibatches.

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
        value_rescaling: See :class:`TrainingModule`.
        clip_grad_value: Largest absolute value of a gradient's element; None for no limit.
        clip_grad_norm: Maximum norm of the whole gradient; None for no limit.
        compile: See :class:`TrainingModule`.
        normalize_observations: See :class:`TrainingModule`.
        normalize_rewards: See :class:`TrainingModule`.

    Raises:
        ConfigurationError: If a setting can't work, or the network doesn't fit the task.
    """

    is_on_policy = True

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
        compile: CompileMode = False,
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
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
            normalize_observations=normalize_observations,
            normalize_rewards=normalize_rewards,
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
            ConfigurationError: If the sampler is not of rollouts.
        """
        require(isinstance(sampler, RolloutSampler), "data.sampler", type(sampler).__name__, "RolloutSampler")

    def setup(self, stage: str) -> None:
        """Count the updates of a training step.

        Raises:
            ConfigurationError: If rollouts don't divide into minibatches.
        """
        if stage == "fit":
            self.updates_per_step = self.required_cadence().updates_per_collect
        super().setup(stage)

    def required_cadence(self) -> Cadence:
        """Return one rollout for each training step.

        Raises:
            ConfigurationError: If rollouts don't divide into minibatches.
        """
        data, sampler = self.data, self.data.sampler
        self.check_sampler(sampler)
        assert isinstance(sampler, RolloutSampler)
        length, rollout = sampler.length, sampler.length * data.num_envs
        must_be = f"a divisor of data.sampler.length * data.num_envs = {rollout}"
        require(rollout % data.batch_size == 0, "data.batch_size", data.batch_size, must_be)
        if self.remembers:
            must_be = f"a multiple of data.sampler.length = {length}: a network that remembers reads whole rollouts"
            require(data.batch_size % length == 0, "data.batch_size", data.batch_size, must_be)
        updates = self.epochs * (rollout // data.batch_size)
        return Cadence(rollout, rollout / updates, updates)

    def minibatches(self, batch: Batch) -> Iterator[Minibatch]:
        """Fix the targets of a rollout, [T, N], and divide it into the minibatches of all epochs, in random order."""
        assert isinstance(batch, Windows)  # check_sampler has seen that they are rollouts
        batch = self._without_learned(batch)
        rollout = self.fix_targets(batch)
        num_updates, num_columns = self._count_updates(batch), rollout.actions.shape[1]
        num_epochs = max(self.epochs, math.ceil(num_updates / num_columns))  # no minibatch is empty
        order = torch.cat([torch.randperm(num_columns) for _ in range(num_epochs)])
        parts = order.tensor_split(num_updates), order.to(self.device).tensor_split(num_updates)
        minibatches = (rollout.columns(*indices) for indices in zip(*parts, strict=True))
        if self.remembers or not uses_cuda_graphs(self.compile_mode):
            return minibatches
        return (minibatch.filled_up(self.data.batch_size, multiple=_GRAPH_ROWS) for minibatch in minibatches)

    def _without_learned(self, batch: Windows) -> Windows:
        """Return a rollout without a weight for the rows that were learned from before, if it was cut short."""
        sampler = self.data.sampler
        assert isinstance(sampler, RolloutSampler)
        num_old = len(batch.weight_batch) - sampler.num_new
        if not num_old:
            return batch
        is_new = torch.arange(len(batch.weight_batch), device=batch.weight_batch.device)[:, None] >= num_old
        return batch._replace(weight_batch=batch.weight_batch * is_new)

    def _count_updates(self, batch: Windows) -> int:
        """Return the number of minibatches of a rollout, the same in all processes.

        It is the same for all rollouts, whatever the number of their final observations, as the agent counts updates;
        but one that the run's budget cut short has as many as its share of a rollout's env steps.
        """
        num_steps, whole = batch.weight_batch.count_nonzero().float(), self.required_cadence().warmup_env_steps
        if self.trainer.world_size > 1:
            num_steps = torch.as_tensor(self.trainer.strategy.reduce(num_steps, reduce_op="mean"))
        if num_steps > whole - batch.weight_batch.shape[1]:  # environments step side by side
            return self.updates_per_step
        return max(1, math.ceil(self.updates_per_step * float(num_steps) / whole))

    def fix_targets(self, batch: Windows) -> Minibatch:
        """Compute a rollout's lambda-returns, and lay it out for the network.

        Returns:
            The rollout as it is for a network that remembers, otherwise its transitions in a row.
        """
        is_transition = batch.weight_batch > 0
        with torch.no_grad():
            outputs, next_mask = batch.read_next_states(self.policy_net)
        returns = q_lambda_target(
            batch.reward_batch.squeeze(-1),
            batch.terminated_batch,
            batch.is_last_batch,
            self.q_values(outputs),
            self.gamma,
            self.lambda_,
            next_mask,
        )
        columns = (batch.state_batch, batch.action_batch, self.to_outputs(returns))
        if self.remembers:
            return Minibatch(*columns, batch.weight_batch, batch.is_first[:-1], batch.network_state)
        if not is_transition.any():  # this process's share of the budget was used up before the others'
            states, actions, targets = (column[-1:] for column in columns)
            return Minibatch(states, actions, targets, batch.weight_batch[-1:])
        return Minibatch(*(column[is_transition][None] for column in columns))

    def optimize_model(self, batch: Minibatch) -> Update:
        """Compute the loss of a minibatch. Returns what :meth:`LearnerModule.summary` does."""
        q_values, _ = self.policy_net(batch.states, batch.network_state, batch.is_first)
        state_action_values = value_of(q_values, batch.actions)
        losses = huber_losses(state_action_values, batch.targets, self.huber_delta)
        return {
            "loss": weighted_mean(losses, batch.weights),
            "state_action_values": state_action_values.detach(),
            "expected_state_action_values": batch.targets,
        }
