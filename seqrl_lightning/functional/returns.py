"""Returns along the steps that were taken, and the discount of the value that follows them."""

from functools import lru_cache

import torch
from torch import Tensor


def n_step_returns(reward: Tensor, gamma: float) -> Tensor:
    """Return ``G = sum_k gamma^k r_k`` (Sutton and Barto, eq. 7.1, without the bootstrap).

    Args:
        reward: [..., n] float, 0 after the last step that counts.
        gamma: The discount factor, in [0, 1].

    Returns:
        [...] float.

    >>> n_step_returns(torch.tensor([[1.0, 2.0, 4.0], [8.0, 0.0, 0.0]]), gamma=0.5)
    tensor([3., 8.])
    """
    n_step = reward.shape[-1]
    if n_step == 1:
        return reward.squeeze(-1)
    # On a device a CUDA graph may read them, long after a cache has forgotten them.
    powers = _cached_powers if reward.device.type == "cpu" else _powers
    return reward @ powers(gamma, n_step, reward.dtype, reward.device)


def _powers(gamma: float, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return gamma ** torch.arange(count, dtype=dtype, device=device)


_cached_powers = lru_cache(maxsize=16)(_powers)


def bootstrap_discounts(terminated: Tensor, num_steps: Tensor | None, gamma: float) -> Tensor:
    """Return ``gamma^n``, the factor of the next state's value, or 0 where the episode terminated.

    A truncated episode hasn't terminated: it bootstraps from its final state.

    Args:
        terminated: [...] bool.
        num_steps: [...] int64, how many steps the next state lies ahead; None for one.
        gamma: The discount factor, in [0, 1].

    Returns:
        [...] float.

    >>> bootstrap_discounts(torch.tensor([False, True]), torch.tensor([3, 2]), gamma=0.5)
    tensor([0.1250, 0.0000])
    """
    if num_steps is None:
        return (~terminated) * gamma
    assert terminated.shape == num_steps.shape
    return (gamma**num_steps).masked_fill_(terminated, 0.0)


def lambda_returns(
    reward: Tensor, terminated: Tensor, is_last: Tensor, next_state_values: Tensor, gamma: float, lambda_: float
) -> Tensor:
    """Return lambda-returns along consecutive steps: ``G_t = r_t + gamma ((1 - lambda) V(s_t+1) + lambda G_t+1)``.

    At the end of an episode, and of the steps, it is ``r_t + gamma V(s_t+1)``, whose second term is 0 after a terminal
    state (Sutton and Barto, eq. 12.18 with a constant lambda).

    Args:
        reward: [T, B] float.
        terminated: [T, B] bool.
        is_last: [T, B] bool, whether the step is its episode's last (terminated or truncated).
        next_state_values: [T, B] float, of the state after each step.
        gamma: The discount factor, in [0, 1].
        lambda_: How far the returns look ahead, in [0, 1].

    Returns:
        [T, B] float.

    The last step is worth 2 + 0.5 * 8 = 6, and the first 1 + 0.5 * (0.5 * 4 + 0.5 * 6):

    >>> no = torch.tensor([[False], [False]])
    >>> lambda_returns(torch.tensor([[1.0], [2.0]]), no, no, torch.tensor([[4.0], [8.0]]), gamma=0.5, lambda_=0.5)
    tensor([[3.5000],
            [6.0000]])
    """
    assert reward.shape == terminated.shape == is_last.shape == next_state_values.shape
    one_step = reward + gamma * next_state_values.masked_fill(terminated, 0.0)
    returns = one_step.clone()
    for t in range(len(reward) - 2, -1, -1):
        further = gamma * lambda_ * (returns[t + 1] - next_state_values[t])
        returns[t] += further.masked_fill(is_last[t], 0.0)
    return returns
