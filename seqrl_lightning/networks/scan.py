"""A linear recurrence, computed in parallel over time."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def linear_scan(decay: Tensor, inputs: Tensor, initial: Tensor) -> Tensor:
    """Compute ``h[t] = decay[t] * h[t - 1] + inputs[t]`` for all t, in ``O(log T)`` steps and ``O(T)`` work.

    Args:
        decay: [T, ...] float; zero where earlier values are forgotten.
        inputs: [T, ...] float.
        initial: [1, ...] float, ``h[-1]``.

    Returns:
        h, [T, ...] float.
    """
    outputs: Tensor = _LinearScan.apply(decay, inputs, initial)  # type: ignore[no-untyped-call]
    return outputs


class _LinearScan(torch.autograd.Function):
    """A scan whose gradient is a scan backward in time."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, inputs: Tensor, initial: Tensor) -> Tensor:
        first = torch.addcmul(inputs[:1], decay[:1], initial)
        outputs = _scan(decay, torch.cat([first, inputs[1:]]))
        ctx.save_for_backward(decay, outputs, initial)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        decay, outputs, initial = ctx.saved_tensors
        backward_decay = torch.cat([torch.zeros_like(decay[:1]), decay[1:].flip(0)])
        grad_inputs = _scan(backward_decay, grad.flip(0)).flip(0)
        previous = torch.cat([initial, outputs[:-1]])
        return grad_inputs * previous, grad_inputs, grad_inputs[:1] * decay[:1]


def _scan(decay: Tensor, inputs: Tensor) -> Tensor:
    """Merge pairs of steps: odd outputs come from a scan of half the length, and even outputs from them."""
    if len(inputs) == 1:
        return inputs
    even, odd = inputs[::2], inputs[1::2]
    pairs = len(odd)
    odd_outputs = _scan(decay[1::2] * decay[: 2 * pairs : 2], torch.addcmul(odd, decay[1::2], even[:pairs]))
    outputs = torch.empty_like(inputs)
    outputs[0] = inputs[0]
    outputs[1::2] = odd_outputs
    outputs[2::2] = torch.addcmul(even[1:], decay[2::2], odd_outputs[: len(even) - 1])
    return outputs
