"""What a policy makes of Q-values."""

import torch
from torch import Tensor


def mask_actions(q_values: Tensor, action_mask: Tensor | None) -> Tensor:
    """Q-values in which forbidden actions are worth the least there is, so that no policy takes them.

    Args:
        q_values: [..., A] float.
        action_mask: [..., A] bool, true where an action is allowed; None allows all.

    Returns:
        [..., A] float.
    """
    if action_mask is None:
        return q_values
    return q_values.masked_fill(~action_mask, torch.finfo(q_values.dtype).min)


def epsilon_greedy_policy(q_values: Tensor, epsilon: Tensor, action_mask: Tensor | None = None) -> Tensor:
    """The greedy action with ``1 - epsilon``, any allowed one with ``epsilon`` (Sutton and Barto, section 2.2).

    Args:
        q_values: [..., A] float.
        epsilon: [...] float, in [0, 1].
        action_mask: [..., A] bool, true where an action is allowed; None allows all.

    Returns:
        [..., A] float, probabilities.
    """
    masked = mask_actions(q_values, action_mask)
    greedy = torch.nn.functional.one_hot(masked.argmax(-1), q_values.shape[-1])
    allowed = torch.ones_like(q_values) if action_mask is None else action_mask.to(q_values.dtype)
    uniform = allowed / allowed.sum(-1, keepdim=True)
    return torch.lerp(greedy.to(q_values.dtype), uniform, epsilon.unsqueeze(-1))


def soft_policy(q_values: Tensor, temperature: float, action_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``pi = softmax(q / tau)`` and ``tau log pi`` (Vieillard et al., arXiv:2007.14430, section 3).

    ``tau log pi`` is computed as they do (appendix B.1), without dividing differences by a small tau twice. It is 0
    for forbidden actions, which have probability 0, so that expectations over the policy leave them out.

    Args:
        q_values: [..., A] float.
        temperature: tau, positive.
        action_mask: [..., A] bool, true where an action is allowed; None allows all.

    Returns:
        Probabilities [..., A] float, and the scaled log-probabilities [..., A] float.
    """
    advantage = q_values - mask_actions(q_values, action_mask).amax(-1, keepdim=True)
    logits = mask_actions(advantage / temperature, action_mask)
    scaled_log_policy = advantage - temperature * logits.logsumexp(-1, keepdim=True)
    if action_mask is not None:
        scaled_log_policy = scaled_log_policy.masked_fill(~action_mask, 0.0)
    return logits.softmax(-1), scaled_log_policy
