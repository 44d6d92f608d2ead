"""Targets of the Bellman equation."""

from torch import Tensor


def max_q_values(q_values: Tensor) -> Tensor:
    """``max_a Q(s, a)``: the value of acting greedily.

    Args:
        q_values: [..., A] float.

    Returns:
        [...] float.
    """
    return q_values.amax(-1)


def double_q_values(q_values: Tensor, selector_q_values: Tensor) -> Tensor:
    """``Q(s, argmax_a Q'(s, a))``: one network selects the action, the other values it.

    Double Q-learning (van Hasselt et al., arXiv:1509.06461, eq. 4).

    Args:
        q_values: [..., A] float, of the network that values (the target network).
        selector_q_values: [..., A] float, of the network that selects (the policy network).

    Returns:
        [...] float.
    """
    best_action = selector_q_values.argmax(-1, keepdim=True)
    return q_values.gather(-1, best_action).squeeze(-1)


def one_step_targets(reward: Tensor, terminated: Tensor, next_state_values: Tensor, gamma: float) -> Tensor:
    """``r + gamma * V(s')``, where nothing follows a terminal state.

    Mnih et al., arXiv:1312.5602, eq. 3. A truncated episode is not terminated: it bootstraps from its final state.

    Args:
        reward: [...] float.
        terminated: [...] bool.
        next_state_values: [...] float.
        gamma: The discount factor, in [0, 1].

    Returns:
        [...] float.
    """
    return reward.add(next_state_values.masked_fill(terminated, 0.0), alpha=gamma)
