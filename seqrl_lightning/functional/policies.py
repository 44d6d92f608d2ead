"""Policies as functions of Q-values."""

import torch
from torch import Tensor


def mask_actions(q_values: Tensor, action_mask: Tensor | None) -> Tensor:
    """Set the values of forbidden actions to the smallest finite number, so that no policy takes them.

    Args:
        q_values: [..., A] float.
        action_mask: [..., A] bool, true where an action is allowed; None allows all.

    Returns:
        [..., A] float.

    >>> mask_actions(torch.tensor([1.0, 9.0]), torch.tensor([True, False])).argmax()
    tensor(0)
    """
    if action_mask is None:
        return q_values
    assert q_values.shape == action_mask.shape
    return q_values.masked_fill(~action_mask, torch.finfo(q_values.dtype).min)


def epsilon_greedy_policy(q_values: Tensor, epsilon: Tensor, action_mask: Tensor | None = None) -> Tensor:
    """Return the greedy action with probability ``1 - epsilon``, else any allowed one (Sutton and Barto, section 2.2).

    A terminal state may allow no action at all; its policy, which nothing depends on, is that of all actions.

    Args:
        q_values: [..., A] float.
        epsilon: [...] float, in [0, 1].
        action_mask: [..., A] bool, true where an action is allowed; None allows all.

    Returns:
        [..., A] float, probabilities.

    >>> epsilon_greedy_policy(torch.tensor([1.0, 3.0]), torch.tensor(0.5))
    tensor([0.2500, 0.7500])
    """
    assert q_values.shape[:-1] == epsilon.shape
    allowed = torch.ones_like(q_values)
    if action_mask is not None:
        action_mask = action_mask | ~action_mask.any(-1, keepdim=True)
        allowed = action_mask.to(q_values.dtype)
    greedy = torch.nn.functional.one_hot(mask_actions(q_values, action_mask).argmax(-1), q_values.shape[-1])
    uniform = allowed / allowed.sum(-1, keepdim=True)
    return torch.lerp(greedy.to(q_values.dtype), uniform, epsilon.unsqueeze(-1))


def soft_policy(q_values: Tensor, temperature: float, action_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return ``pi = softmax(q / tau)`` and ``tau log pi`` (Vieillard et al., arXiv:2007.14430, section 3).

    ``tau log pi`` is computed as in their appendix B.1, without dividing differences by a small tau twice. It is 0
    for forbidden actions, which have probability 0, so that expectations over the policy leave them out.

    Args:
        q_values: [..., A] float.
        temperature: tau, positive.
        action_mask: [..., A] bool, true where an action is allowed; None allows all.

    Returns:
        Probabilities [..., A] float, and the scaled log-probabilities [..., A] float.

    >>> soft_policy(torch.tensor([2.0, 2.0, 7.0]), 1.0, torch.tensor([True, True, False]))
    (tensor([0.5000, 0.5000, 0.0000]), tensor([-0.6931, -0.6931,  0.0000]))
    """
    advantage = q_values - mask_actions(q_values, action_mask).amax(-1, keepdim=True)
    logits = mask_actions(advantage / temperature, action_mask)
    scaled_log_policy = advantage - temperature * logits.logsumexp(-1, keepdim=True)
    if action_mask is not None:
        scaled_log_policy = scaled_log_policy.masked_fill(~action_mask, 0.0)
    return logits.softmax(-1), scaled_log_policy


def softmax_policy(logits: Tensor, action_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the policy that an actor's logits stand for, and its logarithm.

    The logarithm is 0 for forbidden actions, which have probability 0.

    Args:
        logits: [..., A] float.
        action_mask: [..., A] bool, true where an action is allowed; None allows all.

    Returns:
        Probabilities [..., A] float, and their logarithms [..., A] float.

    >>> softmax_policy(torch.tensor([2.0, 2.0, 7.0]), torch.tensor([True, True, False]))
    (tensor([0.5000, 0.5000, 0.0000]), tensor([-0.6931, -0.6931,  0.0000]))
    """
    log_policy = mask_actions(logits, action_mask).log_softmax(-1)
    policy = log_policy.exp()
    return policy, log_policy if action_mask is None else log_policy.masked_fill(~action_mask, 0.0)
