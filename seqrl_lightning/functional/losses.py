"""Losses between predicted and target values."""

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrl_lightning.functional.policies import softmax_policy


def huber_losses(prediction: Tensor, target: Tensor, delta: float | None) -> Tensor:
    """Return the Huber loss of each error e: ``e^2 / 2`` where ``|e| <= delta``, else ``delta * (|e| - delta / 2)``.

    Args:
        prediction: [...] float.
        target: [...] float, of the same shape.
        delta: The error at which the parabola turns into a line; None for half the squared error everywhere.

    Returns:
        [...] float.

    >>> huber_losses(torch.tensor([0.5, -3.0]), torch.zeros(2), delta=1.0)
    tensor([0.1250, 2.5000])
    """
    assert prediction.shape == target.shape
    if delta is None:
        return 0.5 * F.mse_loss(prediction, target, reduction="none")
    return F.huber_loss(prediction, target, delta=delta, reduction="none")


def choice_losses(preferences: Tensor, action: Tensor, action_mask: Tensor | None = None) -> Tensor:
    """Return ``log sum_a' exp(p(s, a')) - p(s, a)``, the negative log-likelihood of choices under ``softmax(p)``.

    If the preferences p are a policy's logits, this is the loss of behavior cloning. If they are Q-values, it is what
    conservative Q-learning adds to the loss, CQL(H), which lowers the values of actions that were not chosen (Kumar et
    al., arXiv:2006.04779, eq. 4).

    Args:
        preferences: [..., A] float.
        action: [...] int64, the choices; allowed ones.
        action_mask: [..., A] bool, true where an action is allowed; None allows all.

    Returns:
        [...] float, 0 or more.

    Of two actions that are preferred alike, each has probability 1/2, and a loss of log 2:

    >>> choice_losses(torch.tensor([[1.0, 1.0], [0.0, 9.0]]), torch.tensor([0, 0]))
    tensor([0.6931, 9.0001])
    """
    assert preferences.shape[:-1] == action.shape
    _, log_policy = softmax_policy(preferences, action_mask)
    return -log_policy.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def weighted_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean of ``weight * losses`` over entries with a weight (0 if none has one), or the plain mean.

    Args:
        losses: [...] float.
        weight: [...] float, 0 for entries that don't count; or None.

    Returns:
        [] float.

    >>> weighted_mean(torch.tensor([1.0, 3.0, 8.0]), torch.tensor([1.0, 0.5, 0.0]))
    tensor(1.2500)
    """
    if weight is None:
        return losses.mean()
    assert losses.shape == weight.shape
    return (losses * weight).sum() / torch.count_nonzero(weight).clamp(min=1)
