"""Targets of the Bellman equation, one function for each learning rule.

Names carry the time: ``q_values`` belong to the state s that an action was taken in, ``next_q_values`` to the state s'
up to n steps later. ``returns`` are the rewards in between, G, and ``discounts`` the factor of what follows, gamma^n.
``values`` are Q-values ``[..., A]``, or distributions over returns ``[..., A, N]``.
"""

import torch
from torch import Tensor

from seqrl_lightning.functional.policies import mask_actions, soft_policy
from seqrl_lightning.functional.returns import lambda_returns

# Parts of all rules


def value_of(values: Tensor, action: Tensor) -> Tensor:
    """Pick ``Q(s, a)``, the value of one action of each state.

    Args:
        values: [..., A] or [..., A, N] float.
        action: [...] int64.

    Returns:
        [...] or [..., N] float.

    >>> value_of(torch.tensor([[1.0, 3.0], [4.0, 5.0]]), torch.tensor([1, 0]))
    tensor([3., 4.])
    """
    if values.dim() == action.dim() + 1:
        return values.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    index = action[..., None, None].expand(*action.shape, 1, values.shape[-1])
    return values.gather(-2, index).squeeze(-2)


def expected_value(values: Tensor, policy: Tensor) -> Tensor:
    """Return ``sum_a pi(a | s) Q(s, a)`` (Sutton and Barto, eq. 3.14 with 4.4).

    Args:
        values: [..., A] or [..., A, N] float.
        policy: [..., A] float, probabilities.

    Returns:
        [...] or [..., N] float.

    >>> expected_value(torch.tensor([4.0, 8.0]), torch.tensor([0.25, 0.75]))
    tensor(7.)
    """
    if values.dim() == policy.dim():
        return (values * policy).sum(-1)
    return (values * policy.unsqueeze(-1)).sum(-2)


def bellman_target(returns: Tensor, discounts: Tensor, next_state_values: Tensor) -> Tensor:
    """Return ``G + gamma^n V(s')``; with n = 1 this is Mnih et al., arXiv:1312.5602, eq. 3.

    Applied to atoms or quantiles of the next state's distribution, it moves each of them (Bellemare et al.,
    arXiv:1707.06887, section 3).

    Args:
        returns: [...] float, from :func:`n_step_returns`.
        discounts: [...] float, from :func:`bootstrap_discounts`.
        next_state_values: [...] or [..., N] float.

    Returns:
        Like ``next_state_values``.

    >>> bellman_target(torch.tensor([1.0]), torch.tensor([0.5]), torch.tensor([[2.0, 4.0]]))
    tensor([[2., 3.]])
    """
    if next_state_values.dim() > returns.dim():
        returns, discounts = returns.unsqueeze(-1), discounts.unsqueeze(-1)
    assert returns.shape == discounts.shape
    assert next_state_values.shape[: returns.dim() - 1] == returns.shape[:-1]
    return torch.addcmul(returns, discounts, next_state_values)


# The rules


def q_target(returns: Tensor, discounts: Tensor, next_values: Tensor, next_mask: Tensor | None = None) -> Tensor:
    """Return ``G + gamma^n max_a' Q(s', a')``, the target of Q-learning (Mnih et al., arXiv:1312.5602, eq. 3).

    For quantiles, those of the action with the largest mean take the place of the maximum (Dabney et al.,
    arXiv:1710.10044, algorithm 1).

    Args:
        returns: [...] float.
        discounts: [...] float.
        next_values: [..., A] or [..., A, N] float.
        next_mask: [..., A] bool, true where an action is allowed; None allows all.

    Returns:
        [...] or [..., N] float.

    Here 1 + 0.5 * 4, and a step that terminates:

    >>> q_target(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0]), torch.tensor([[3.0, 4.0], [5.0, 6.0]]))
    tensor([3., 2.])
    """
    if next_values.dim() > returns.dim() + 1:
        return double_q_target(returns, discounts, next_values, next_values.mean(-1), next_mask)
    assert next_values.shape[:-1] == returns.shape
    return bellman_target(returns, discounts, mask_actions(next_values, next_mask).amax(-1))


def double_q_target(
    returns: Tensor,
    discounts: Tensor,
    next_values: Tensor,
    next_selector_values: Tensor,
    next_mask: Tensor | None = None,
) -> Tensor:
    """Return ``G + gamma^n Q(s', argmax_a' Q_selector(s', a'))`` (van Hasselt et al., arXiv:1509.06461, eq. 4).

    Args:
        returns: [...] float.
        discounts: [...] float.
        next_values: [..., A] or [..., A, N] float, of the target network.
        next_selector_values: [..., A] float, of the network that selects the action.
        next_mask: [..., A] bool, true where an action is allowed; None allows all.

    Returns:
        [...] or [..., N] float.

    The selector prefers the first action, which is worth 3: 1 + 0.5 * 3.

    >>> double_q_target(
    ...     torch.tensor([1.0]), torch.tensor([0.5]), torch.tensor([[3.0, 4.0]]), torch.tensor([[9.0, 8.0]])
    ... )
    tensor([2.5000])
    """
    assert next_selector_values.shape[:-1] == returns.shape
    next_action = mask_actions(next_selector_values, next_mask).argmax(-1)
    return bellman_target(returns, discounts, value_of(next_values, next_action))


def sarsa_target(returns: Tensor, discounts: Tensor, next_q_values: Tensor, next_action: Tensor) -> Tensor:
    """Return ``G + gamma^n Q(s', a')`` with the action that was taken next (Sutton and Barto, section 6.4).

    Args:
        returns: [...] float.
        discounts: [...] float.
        next_q_values: [..., A] float.
        next_action: [...] int64.

    Returns:
        [...] float.

    >>> sarsa_target(torch.tensor([1.0]), torch.tensor([0.5]), torch.tensor([[3.0, 4.0]]), torch.tensor([0]))
    tensor([2.5000])
    """
    assert next_q_values.shape[:-1] == returns.shape == next_action.shape
    return bellman_target(returns, discounts, value_of(next_q_values, next_action))


def expected_sarsa_target(returns: Tensor, discounts: Tensor, next_q_values: Tensor, next_policy: Tensor) -> Tensor:
    """Return ``G + gamma^n sum_a' pi(a' | s') Q(s', a')`` (Sutton and Barto, eq. 6.9).

    Args:
        returns: [...] float.
        discounts: [...] float.
        next_q_values: [..., A] float.
        next_policy: [..., A] float, the probabilities by which the agent acts.

    Returns:
        [...] float.

    >>> expected_sarsa_target(
    ...     torch.tensor([1.0]), torch.tensor([0.5]), torch.tensor([[4.0, 8.0]]), torch.tensor([[0.25, 0.75]])
    ... )
    tensor([4.5000])
    """
    assert next_q_values.shape == next_policy.shape
    return bellman_target(returns, discounts, expected_value(next_q_values, next_policy))


def munchausen_target(
    returns: Tensor,
    discounts: Tensor,
    q_values: Tensor,
    action: Tensor,
    next_values: Tensor,
    next_q_values: Tensor,
    alpha: float,
    temperature: float,
    clip: float,
    mask: Tensor | None = None,
    next_mask: Tensor | None = None,
) -> Tensor:
    """Return the target of Munchausen DQN (Vieillard et al., arXiv:2007.14430, section 2).

    ``G + alpha [tau log pi(a | s)]_clip^0 + gamma^n sum_a' pi(a' | s') (Q(s', a') - tau log pi(a' | s'))`` with
    ``pi = softmax(Q / tau)``. For quantiles (M-IQN, appendix B.1), each of them takes the place of Q in the last term.

    Args:
        returns: [...] float.
        discounts: [...] float.
        q_values: [..., A] float, of the target network.
        action: [...] int64, the action that was taken.
        next_values: [..., A] or [..., A, N] float, of the target network: the same as ``next_q_values``, or quantiles.
        next_q_values: [..., A] float, of the target network.
        alpha: Weight of the scaled log-policy in the reward.
        temperature: tau, positive.
        clip: The smallest value of the scaled log-policy in the reward, 0 or less.
        mask: [..., A] bool, the actions that s allows; None allows all.
        next_mask: [..., A] bool, the actions that s' allows; None allows all.

    Returns:
        [...] or [..., N] float.

    With equal values both policies are uniform, so that tau log pi is -log 2 and the entropy is worth log 2. Here it
    is 1 - 0.5 log 2 + 0.5 (4 + log 2):

    >>> returns, discounts, action = torch.tensor([1.0]), torch.tensor([0.5]), torch.tensor([0])
    >>> equal = torch.tensor([[4.0, 4.0]])
    >>> munchausen_target(returns, discounts, equal, action, equal, equal, alpha=0.5, temperature=1.0, clip=-1.0)
    tensor([3.])
    """
    assert q_values.shape == next_q_values.shape == (*returns.shape, q_values.shape[-1])
    _, scaled_log_policy = soft_policy(q_values, temperature, mask)
    bonus = value_of(scaled_log_policy, action).clamp(clip, 0.0)
    next_policy, next_scaled_log_policy = soft_policy(next_q_values, temperature, next_mask)
    entropy = -expected_value(next_scaled_log_policy, next_policy)
    next_state_values = expected_value(next_values, next_policy)
    if next_state_values.dim() > entropy.dim():
        entropy = entropy.unsqueeze(-1)
    return bellman_target(returns + alpha * bonus, discounts, next_state_values + entropy)


def soft_q_target(
    returns: Tensor,
    discounts: Tensor,
    next_q_values: Tensor,
    next_policy: Tensor,
    next_log_policy: Tensor,
    temperature: Tensor,
) -> Tensor:
    """Return ``G + gamma^n sum_a' pi(a' | s') (Q(s', a') - tau log pi(a' | s'))`` (Christodoulou, arXiv:1910.07207).

    Args:
        returns: [...] float.
        discounts: [...] float.
        next_q_values: [..., A] float.
        next_policy: [..., A] float, probabilities.
        next_log_policy: [..., A] float, their logarithms; any finite number where the probability is 0.
        temperature: [] float, tau, positive.

    Returns:
        [...] float.

    A uniform policy over two actions of equal value has the entropy log 2, so with tau = 1 / log 2 it adds 1 to 4:

    >>> policy = torch.tensor([[0.5, 0.5]])
    >>> tau = 1 / torch.tensor(2.0).log()
    >>> soft_q_target(torch.tensor([1.0]), torch.tensor([0.5]), torch.tensor([[4.0, 4.0]]), policy, policy.log(), tau)
    tensor([3.5000])
    """
    assert next_q_values.shape == next_policy.shape == next_log_policy.shape
    soft_values = next_q_values - temperature * next_log_policy
    return bellman_target(returns, discounts, expected_value(soft_values, next_policy))


def q_lambda_target(
    reward: Tensor,
    terminated: Tensor,
    is_last: Tensor,
    next_values: Tensor,
    gamma: float,
    lambda_: float,
    next_mask: Tensor | None = None,
    next_selector_values: Tensor | None = None,
) -> Tensor:
    """Return Peng's Q(lambda) along consecutive steps (Peng and Williams, ICML 1994; Kozuno et al., arXiv:2103.00107).

    ``G_t = r_t + gamma ((1 - lambda) V(s_t+1) + lambda G_t+1)`` with ``V(s) = Q(s, argmax_a Q_selector(s, a))``. It is
    the target of Q-learning for lambda = 0, and the return of the steps that were taken for lambda = 1. No step is cut
    off where the action wasn't the greedy one (Watkins) or isn't likely any more (Retrace): while the
    policy that acts stays the same, the values become those of a mixture of it and the greedy one (arXiv:2103.00107).

    Args:
        reward: [T, B] float.
        terminated: [T, B] bool.
        is_last: [T, B] bool, whether the step is its episode's last (terminated or truncated).
        next_values: [T, B, A] float, of the state after each step.
        gamma: The discount factor, in [0, 1].
        lambda_: How far the returns look ahead, in [0, 1].
        next_mask: [T, B, A] bool, true where an action is allowed; None allows all.
        next_selector_values: [T, B, A] float, of the network that selects the action in double Q-learning; None for
            ``next_values``.

    Returns:
        [T, B] float.

    The greedy values are 4 and 8. The last step is worth 2 + 0.5 * 8 = 6, and the first 1 + 0.5 * (0.5 * 4 + 0.5 * 6):

    >>> no = torch.tensor([[False], [False]])
    >>> values = torch.tensor([[[4.0, 3.0]], [[7.0, 8.0]]])
    >>> q_lambda_target(torch.tensor([[1.0], [2.0]]), no, no, values, gamma=0.5, lambda_=0.5)
    tensor([[3.5000],
            [6.0000]])
    """
    selector_values = next_values if next_selector_values is None else next_selector_values
    assert next_values.shape == selector_values.shape == (*reward.shape, next_values.shape[-1])
    next_action = mask_actions(selector_values, next_mask).argmax(-1)
    return lambda_returns(reward, terminated, is_last, value_of(next_values, next_action), gamma, lambda_)
