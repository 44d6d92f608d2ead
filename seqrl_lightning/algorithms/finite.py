"""Guard against updates that aren't finite."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class FiniteUpdates:
    """Keep an optimizer from stepping along a gradient with NaN or infinity in it, and count how often that happens.

    On the CPU the gradients are removed: an optimizer leaves parameters without a gradient, and its own state of them,
    unchanged. On other devices nothing waits for the answer: a fused optimizer skips the step on the device (as under
    a gradient scaler), and any other one gets zeros.

    Attributes:
        num_refused: [] int64, on the gradients' device; reading it waits for the device.
    """

    def __init__(self) -> None:
        self.num_refused: Tensor | int = 0  # counted in place on a device: a CUDA graph adds to the same memory

    def __call__(self, optimizer: Optimizer, parameters: list[Tensor]) -> None:
        """Check the gradients right before the step."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients:
            return
        if gradients[0].device.type == "cpu":
            # A sum is NaN or infinite if an element is, in a fourth of _foreach_norm's time. Half precision would
            # overflow in it.
            if not all(math.isfinite(gradient.sum(dtype=torch.float32)) for gradient in gradients):
                self.num_refused += 1
                for parameter in parameters:
                    parameter.grad = None
            return
        # On a device one kernel for all is faster than one for each.
        is_refused = ~torch.stack(torch._foreach_norm(gradients, float("inf"))).max().isfinite()
        if not isinstance(self.num_refused, Tensor):
            self.num_refused = torch.full((), self.num_refused, device=is_refused.device)
        self.num_refused += is_refused
        stepper: Any = optimizer  # fused ones read two attributes that torch declares nowhere
        if all(group.get("fused") for group in optimizer.param_groups):
            stepper.grad_scale, stepper.found_inf = None, is_refused.float()  # FusedAdamStep reads them, too
        else:
            for gradient in gradients:
                gradient.masked_fill_(is_refused, 0.0)
