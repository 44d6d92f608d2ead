"""On-policy learning: about the policy that acts, exploration included."""

import torch
from torch import Tensor

from seqrl_lightning.algorithms.dqn import DQN
from seqrl_lightning.functional import epsilon_greedy_policy, expected_value, value_of
from seqrl_lightning.types import TransitionBatch


class SARSA(DQN):
    """``Q(s, a) <- r + gamma Q(s', a')`` with the action a' that was taken in s' (Sutton and Barto, section 6.4).

    A transition is learned from once its next action is known. A truncated episode has none in its final state: it is
    drawn from the behaviour policy. Learn online (``data.sampler: LatestSampler``): a replay memory would hold the
    next actions of policies of the past.
    """

    needs_next_action = True
    needs_epsilon = True

    def follow_policy(self, values: Tensor, q_values: Tensor, batch: TransitionBatch) -> Tensor:
        """The value of the action that was taken next. [T, B] or [T, B, atoms]."""
        assert batch.epsilon_batch is not None
        assert batch.next_action_batch is not None
        policy = epsilon_greedy_policy(q_values, batch.epsilon_batch, batch.next_action_mask_batch)
        drawn = torch.multinomial(policy.flatten(0, -2), 1).view(batch.next_action_batch.shape)
        return value_of(values, torch.where(batch.next_action_batch < 0, drawn, batch.next_action_batch))


class ExpectedSARSA(DQN):
    """``Q(s, a) <- r + gamma sum_a' pi(a' | s') Q(s', a')``, pi being the policy that acts (Sutton and Barto, 6.6).

    Epsilon comes with the batch: the behaviour policy's at present.
    """

    needs_epsilon = True

    def follow_policy(self, values: Tensor, q_values: Tensor, batch: TransitionBatch) -> Tensor:
        """The mean value of the next action. [T, B] or [T, B, atoms]."""
        assert batch.epsilon_batch is not None
        policy = epsilon_greedy_policy(q_values, batch.epsilon_batch, batch.next_action_mask_batch)
        return expected_value(values, policy)
