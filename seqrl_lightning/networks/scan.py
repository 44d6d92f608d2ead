"""A linear recurrence over time."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def linear_scan(decay: Tensor, inputs: Tensor, initial: Tensor) -> Tensor:
    """Compute ``h[t] = decay[t] * h[t - 1] + inputs[t]`` for all t.

    On the CPU, where a small operation costs little, this is a loop over time in preallocated memory; elsewhere, and
    in compiled code, it takes ``O(log T)`` operations.

    Args:
        decay: [T, ...] float or complex, with 1 for a size along which it is constant; zero where earlier values are
            forgotten.
        inputs: [T, ...] float or complex.
        initial: [1, ...], ``h[-1]``, of the dtype to compute with.

    Returns:
        h, [T, ...], of that dtype.
    """
    decay, inputs = decay.to(initial.dtype), inputs.to(initial.dtype)  # sums over time need the precision
    if len(inputs) == 1:  # as when acting
        return decay * initial + inputs
    outputs: Tensor = _LinearScan.apply(decay, inputs, initial)  # type: ignore[no-untyped-call]  # torch's
    return outputs


class _LinearScan(torch.autograd.Function):
    """A scan whose gradient is a scan backward in time."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, inputs: Tensor, initial: Tensor) -> Tensor:  # torch's contexts have no type
        first = torch.addcmul(inputs[:1], decay[:1], initial)
        outputs = _scan(first, decay.expand_as(inputs)[1:], inputs[1:])
        ctx.save_for_backward(decay, outputs, initial)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        decay, outputs, initial = ctx.saved_tensors
        conjugate = decay.conj().resolve_conj()  # of real numbers they are themselves
        grad_inputs = _scan(grad[-1:], conjugate.expand_as(grad)[1:], grad[:-1], is_backward=True)
        grad_decay = torch.empty_like(grad_inputs)
        torch.mul(grad_inputs[:1], initial.conj(), out=grad_decay[:1])
        torch.mul(grad_inputs[1:], outputs[:-1].conj(), out=grad_decay[1:])
        return grad_decay.sum_to_size(decay.shape), grad_inputs, grad_inputs[:1] * conjugate[:1]


def _scan(first: Tensor, decay: Tensor, inputs: Tensor, is_backward: bool = False) -> Tensor:
    """Compute ``h[t] = decay[t - 1] * h[t - 1] + inputs[t - 1]`` from ``h[0] = first``, or all this backward in time.

    Args:
        first: [1, ...].
        decay: [T - 1, ...].
        inputs: [T - 1, ...].
        is_backward: Whether to begin with the last row of all of them; ``first`` becomes the last row of h.

    Returns:
        h, [T, ...].
    """
    if inputs.device.type == "cpu" and not torch.compiler.is_compiling():
        return _loop(first, decay, inputs, -1 if is_backward else 1)
    if is_backward:
        return _tree(decay.flip(0), torch.cat([inputs, first]).flip(0)).flip(0)
    return _tree(decay, torch.cat([first, inputs]))


def _loop(first: Tensor, decay: Tensor, inputs: Tensor, direction: int) -> Tensor:
    outputs = inputs.new_empty(len(inputs) + 1, *inputs.shape[1:])
    h, *rows = outputs.unbind(0)[::direction]
    h.copy_(first[0])
    for a, x, row in zip(decay.unbind(0)[::direction], inputs.unbind(0)[::direction], rows, strict=True):
        h = torch.addcmul(x, a, h, out=row)
    return outputs


def _tree(decay: Tensor, inputs: Tensor) -> Tensor:
    """Merge pairs of steps: odd outputs come from a scan of half the length, and even outputs from them.

    Args:
        decay: [T - 1, ...].
        inputs: [T, ...], the first of which is ``h[0]``.
    """
    if len(inputs) == 1:
        return inputs
    even, odd, decay_to_odd, decay_to_even = inputs[::2], inputs[1::2], decay[::2], decay[1::2]
    pairs = len(odd)
    pair_decay = decay_to_odd[1:] * decay_to_even[: pairs - 1]
    odd_outputs = _tree(pair_decay, torch.addcmul(odd, decay_to_odd, even[:pairs]))
    outputs = torch.empty_like(inputs)
    outputs[0] = inputs[0]
    outputs[1::2] = odd_outputs
    outputs[2::2] = torch.addcmul(even[1:], decay_to_even, odd_outputs[: len(even) - 1])
    return outputs
