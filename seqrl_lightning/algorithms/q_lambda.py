"""Peng's Q(lambda): deep Q-learning whose targets look ahead along a window."""

from typing import Any

from torch import Tensor

from seqrl_lightning.algorithms.dqn import DQN
from seqrl_lightning.batches import Batch, Windows
from seqrl_lightning.functional import q_lambda_target
from seqrl_lightning.networks import MLP, NetworkCallable
from seqrl_lightning.parts import ObsShape
from seqrl_lightning.replay import Sampler, SequenceSampler
from seqrl_lightning.types import require


class QLambda(DQN):
    """Peng's Q(lambda) on windows (Peng and Williams, ICML 1994; with deep networks Kozuno et al., arXiv:2103.00107).

    Lambda-returns along the rest of the window take the place of the sampler's n-step returns. They are uncorrected:
    actions that explored count as if they had been greedy.

    Args:
        obs_shape: Shape of one observation (the CLI takes it from the task).
        n_actions: Number of actions (the CLI takes it from the task).
        network: Builds the Q-network from ``obs_shape`` and ``(n_actions,)``.
        lambda_: How far the target looks ahead, in [0, 1]: 0 for a single step, 1 to the window's end.
        dqn: The settings of :class:`DQN`, except Munchausen's, whose bonus belongs to a single step.

    Raises:
        ConfigurationError: If a setting can't work, or the network doesn't fit the task.
    """

    def __init__(
        self,
        obs_shape: ObsShape,
        n_actions: int,
        network: NetworkCallable = MLP,
        lambda_: float = 0.7,
        **dqn: Any,
    ) -> None:
        super().__init__(
            obs_shape,
            n_actions,
            network,
            munchausen_alpha=0.0,
            munchausen_temperature=0.03,
            munchausen_clip=-1.0,
            **dqn,
        )
        require(0 <= lambda_ <= 1, "model.lambda_", lambda_, "in [0, 1]")
        self.lambda_ = lambda_

    def check_sampler(self, sampler: Sampler) -> None:
        """Refuse single transitions and n-step returns.

        Raises:
            ConfigurationError: If the sampler gives no windows, or doesn't fit the network or the updates.
        """
        super().check_sampler(sampler)
        must_be = "SequenceSampler with QLambda, which looks ahead along windows"
        require(sampler.gives_windows, "data.sampler", type(sampler).__name__, must_be)
        if isinstance(sampler, SequenceSampler):
            must_be = "1 with QLambda, which looks ahead by itself"
            require(sampler.n_step == 1, "data.sampler.n_step", sampler.n_step, must_be)

    def target(self, batch: Batch, next_selector_outputs: Tensor | None) -> Tensor:
        """Return the lambda-returns, [T, B] float, that the network should output for the actions taken.

        Args:
            batch: [T, B] windows.
            next_selector_outputs: The policy network's outputs for the next states, in double Q-learning.
        """
        assert isinstance(batch, Windows)
        next_outputs, next_mask = batch.read_next_states(self.target_net)
        target = q_lambda_target(
            batch.reward_batch.squeeze(-1),
            batch.terminated_batch,
            batch.is_last_batch,
            self.to_values(next_outputs),
            self.gamma,
            self.lambda_,
            next_mask,
            None if next_selector_outputs is None else self.q_values(next_selector_outputs),
        )
        return self.to_outputs(target)
