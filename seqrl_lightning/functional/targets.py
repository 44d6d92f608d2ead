"""Targets of the Bellman equation.

``values`` are Q-values ``[..., A]``, or distributions over returns ``[..., A, atoms]``.
"""

from functools import lru_cache

import torch
from torch import Tensor


def value_of(values: Tensor, action: Tensor) -> Tensor:
    """``Q(s, a)``: what belongs to one action of each state.

    Args:
        values: [*batch, A] or [*batch, A, atoms] float.
        action: [*batch] int64.

    Returns:
        [*batch] or [*batch, atoms] float.
    """
    if values.dim() == action.dim() + 1:
        return values.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    index = action[..., None, None].expand(*action.shape, 1, values.shape[-1])
    return values.gather(-2, index).squeeze(-2)


def expected_value(values: Tensor, policy: Tensor) -> Tensor:
    """``sum_a pi(a | s) Q(s, a)`` (Sutton and Barto, eq. 3.14 with 4.4).

    Args:
        values: [*batch, A] or [*batch, A, atoms] float.
        policy: [*batch, A] float, probabilities.

    Returns:
        [*batch] or [*batch, atoms] float.
    """
    if values.dim() == policy.dim():
        return (values * policy).sum(-1)
    return (values * policy.unsqueeze(-1)).sum(-2)


def n_step_returns(reward: Tensor, gamma: float) -> Tensor:
    """``sum_k gamma^k r_k`` (Sutton and Barto, eq. 7.1, without the bootstrap).

    Args:
        reward: [..., n] float, 0 where no more reward counts.
        gamma: The discount factor, in [0, 1].

    Returns:
        [...] float.
    """
    n_step = reward.shape[-1]
    return reward.squeeze(-1) if n_step == 1 else reward @ _powers(gamma, n_step, reward.dtype, reward.device)


@lru_cache(maxsize=16)
def _powers(gamma: float, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return gamma ** torch.arange(count, dtype=dtype, device=device)


def bootstrap_discounts(terminated: Tensor, num_steps: Tensor | None, gamma: float) -> Tensor:
    """``gamma^n``, the factor of the next state's value; 0 where the episode terminated, as nothing follows.

    A truncated episode is not terminated: it bootstraps from its final state.

    Args:
        terminated: [...] bool.
        num_steps: [...] int64, how many steps the next state lies ahead; None for one.
        gamma: The discount factor, in [0, 1].

    Returns:
        [...] float.
    """
    if num_steps is None:
        return (~terminated) * gamma
    return (gamma**num_steps).masked_fill_(terminated, 0.0)


def bootstrapped_targets(returns: Tensor, discounts: Tensor, next_state_values: Tensor) -> Tensor:
    """``G + gamma^n V(s')``; with n = 1 this is Mnih et al., arXiv:1312.5602, eq. 3.

    Args:
        returns: [...] float, from :func:`n_step_returns`.
        discounts: [...] float, from :func:`bootstrap_discounts`.
        next_state_values: [...] or [..., atoms] float.

    Returns:
        Like ``next_state_values``.
    """
    if next_state_values.dim() > returns.dim():
        returns, discounts = returns.unsqueeze(-1), discounts.unsqueeze(-1)
    return torch.addcmul(returns, discounts, next_state_values)


def lambda_returns(
    reward: Tensor, terminated: Tensor, is_last: Tensor, next_state_values: Tensor, gamma: float, lambda_: float
) -> Tensor:
    """Peng's Q(lambda) along a rollout: ``G_t = r_t + gamma ((1 - lambda) V(s_t+1) + lambda G_t+1)``.

    PQN (Gallici et al., arXiv:2407.04811, eq. 5). At an episode's end, and at the rollout's, it falls back to
    ``r_t + gamma V(s_t+1)``, of which the second term is 0 after a terminal state.

    Args:
        reward: [T, B] float.
        terminated: [T, B] bool.
        is_last: [T, B] bool, whether the step is its episode's last (terminated or truncated).
        next_state_values: [T, B] float, of the state after each step.
        gamma: The discount factor, in [0, 1].
        lambda_: How far the returns look ahead, in [0, 1].

    Returns:
        [T, B] float.
    """
    one_step = reward + gamma * next_state_values.masked_fill(terminated, 0.0)
    returns = one_step.clone()
    for t in range(len(reward) - 2, -1, -1):
        further = gamma * lambda_ * (returns[t + 1] - next_state_values[t])
        returns[t] += further.masked_fill(is_last[t], 0.0)
    return returns
