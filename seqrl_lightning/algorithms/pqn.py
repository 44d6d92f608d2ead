"""PQN: Q-learning from many environments at once, without a replay memory and without a target network."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqrl_lightning.algorithms.dqn import DQN
from seqrl_lightning.algorithms.reading import read_next
from seqrl_lightning.functional import huber_losses, lambda_returns, mask_actions, value_of, weighted_mean
from seqrl_lightning.replay import RolloutSampler
from seqrl_lightning.types import Cadence, ConfigurationError, TransitionBatch, require


class PQN(DQN):
    """Parallelised Q-network (Gallici et al., arXiv:2407.04811, algorithm 1).

    A training step takes the newest steps of all environments ([T, N], ``data.sampler: RolloutSampler``), fixes their
    lambda-returns once, and runs ``epochs`` epochs of minibatches of ``data.batch_size`` over them. Give the network
    layer normalisation, which is what keeps it stable without a target network (section 3).

    A network that remembers reads whole rollouts: a minibatch is those of some environments, each from the state that
    the agent's network had where it starts, and ``data.batch_size`` still counts transitions.

    Args:
        args: See :class:`DQN`; ``double``, ``munchausen_alpha`` and ``updates_per_step`` have no meaning here.
        lambda_: How far the returns look ahead, in [0, 1].
        epochs: How often each transition is learned from.
        kwargs: See :class:`DQN`.

    Raises:
        ConfigurationError: If a setting can't work.
    """

    def __init__(self, *args: Any, lambda_: float = 0.65, epochs: int = 4, **kwargs: Any) -> None:
        require(0 <= lambda_ <= 1, "model.lambda_", lambda_, "in [0, 1]")
        require(epochs > 0, "model.epochs", epochs, "at least 1")
        super().__init__(*args, **kwargs)
        require(not self.use_double_q, "model.double", True, "false: there is one network only")
        alpha, updates = self.munchausen_alpha, self.updates_per_step
        require(alpha == 0.0, "model.munchausen_alpha", alpha, "0: there is one network only")
        require(updates == 1, "model.updates_per_step", updates, "left out: it follows from epochs and minibatches")
        self.lambda_ = lambda_
        self.epochs = epochs
        self.target_net = self.policy_net
        self.automatic_optimization = False

    def setup(self, stage: str) -> None:
        """Counts the updates of a training step.

        Raises:
            ConfigurationError: If rollouts don't divide into minibatches.
        """
        if stage == "fit":
            self.updates_per_step = self.epochs * (self._rollout_size() // self._data.batch_size)
        super().setup(stage)

    @property
    def cadence(self) -> Cadence | None:
        """One rollout for each training step; None outside a Trainer."""
        if self._trainer is None:
            return None
        rollout = self._rollout_size()
        updates = self.epochs * (rollout // self._data.batch_size)
        return Cadence(rollout, rollout / updates, updates)

    @property
    def _data(self) -> Any:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def _rollout_size(self) -> int:
        """The transitions of a rollout, which have to divide into minibatches."""
        data = self._data
        sampler = data.sampler
        if not isinstance(sampler, RolloutSampler):
            raise ConfigurationError(f"data.sampler is {type(sampler).__name__!r}; it must be RolloutSampler")
        length = sampler.length
        rollout: int = length * data.num_envs
        would_do = f"a divisor of data.sampler.length * data.num_envs = {rollout}"
        require(rollout % data.batch_size == 0, "data.batch_size", data.batch_size, would_do)
        would_do = f"a multiple of data.sampler.length = {length}: a network that remembers reads whole rollouts"
        is_whole = data.batch_size % length == 0 or not self.remembers
        require(is_whole, "data.batch_size", data.batch_size, would_do)
        return rollout

    def training_step(self, batch: TransitionBatch, batch_idx: int) -> dict[str, Tensor]:
        """Learns from one rollout, [T, N]."""
        rollout = self._learnable(batch)
        updates_left = self.updates_per_step
        if self.trainer.max_steps != -1:
            updates_left = min(updates_left, self.trainer.max_steps - self.trainer.global_step)
        order = torch.cat([torch.randperm(rollout.actions.shape[1]) for _ in range(self.epochs)])
        # As many minibatches whatever the number of final observations in the rollout: the agent counts updates.
        for indices in order.tensor_split(self.updates_per_step)[:updates_left]:
            outputs = self._step(rollout.columns(indices))
        return outputs

    def optimize_model(self, batch: "Rollout") -> dict[str, Tensor]:  # type: ignore[override]
        """One update from a minibatch of a rollout, whose targets are fixed. Returns what :meth:`summary` does."""
        q_values, _ = self.policy_net(batch.states, batch.network_state, batch.is_first)
        state_action_values = value_of(q_values, batch.actions)
        losses = huber_losses(state_action_values, batch.targets, self.huber_delta)
        return {
            "loss": weighted_mean(losses, batch.weights),
            "state_action_values": state_action_values.detach(),
            "expected_state_action_values": batch.targets,
        }

    def _learnable(self, batch: TransitionBatch) -> "Rollout":
        """The rollout with its lambda-returns: as it is for a network that remembers, else its transitions in a row."""
        assert batch.weight_batch is not None
        assert batch.is_first_batch is not None
        is_transition = batch.weight_batch > 0
        with torch.no_grad():
            q_values = read_next(self.policy_net, batch)
            next_state_values = mask_actions(q_values, batch.next_action_mask_batch).amax(-1)
        is_last = torch.ones_like(is_transition)
        is_last[:-1] = ~is_transition[1:]  # what follows is a final observation
        targets = lambda_returns(
            batch.reward_batch.squeeze(-1),
            batch.terminated_batch,
            is_last,
            next_state_values,
            self.gamma,
            self.lambda_,
        )
        if self.remembers:
            is_first = batch.is_first_batch[:-1]
            return Rollout(
                batch.state_batch, batch.action_batch, targets, batch.weight_batch, is_first, batch.network_state
            )
        columns = (batch.state_batch, batch.action_batch, targets)
        return Rollout(*(column[is_transition][None] for column in columns))


class Rollout(NamedTuple):
    """What is learned from: B sequences side by side, or as many single transitions (T = 1)."""

    states: Tensor  # [T, B, *obs]
    actions: Tensor  # [T, B] int64
    targets: Tensor  # [T, B] float32
    weights: Tensor | None = None  # [T, B] float32, 0 where there is nothing to learn from; None: nowhere
    is_first: Tensor | None = None  # [T, B] bool
    network_state: Tensor | None = None  # [S, B, ...]

    def columns(self, indices: Tensor) -> "Rollout":
        """Some of them. ``indices``: [b] int64."""
        return Rollout(*(None if column is None else column[:, indices] for column in self))  # type: ignore[arg-type]
