"""The step of torch's fused Adam without the Python around it, which takes as long as its arithmetic."""

from typing import Any

import torch
from torch.optim import Adam, AdamW, Optimizer


class FusedAdamStep:
    """What ``optimizer.step()`` does, on lists of tensors that are looked up once rather than at every step.

    The tensors are the optimizer's own: its ``state_dict`` and its hooks see no difference.

    Args:
        optimizer: One that it ``fits``.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer: Any = optimizer
        (self.group,) = optimizer.param_groups
        self.parameters = self.group["params"]
        self.kernel: Any = torch._fused_adamw_ if self.group["decoupled_weight_decay"] else torch._fused_adam_
        self.states: list[list[Any]] = []  # of all parameters: first moments, second moments, step counts

    @staticmethod
    def fits(optimizer: Optimizer) -> bool:
        """Whether ``optimizer`` is a fused Adam or AdamW in its usual form."""
        if type(optimizer) not in (Adam, AdamW) or len(optimizer.param_groups) != 1:
            return False
        group, has_pre_hooks = optimizer.param_groups[0], bool(optimizer._optimizer_step_pre_hooks)
        if group["amsgrad"] or group["differentiable"] or has_pre_hooks:
            return False
        return bool(group["fused"]) and isinstance(group["lr"], float)

    @torch.no_grad()
    def __call__(self) -> None:
        """One step from the parameters' gradients."""
        gradients = [parameter.grad for parameter in self.parameters]
        if not self.states or any(gradient is None for gradient in gradients):
            self.optimizer.step()
            self._look_up_states()
            return
        group = self.group
        beta1, beta2 = group["betas"]
        first_moments, second_moments, step_counts = self.states
        torch._foreach_add_(step_counts, 1)
        self.kernel(
            self.parameters,
            gradients,
            first_moments,
            second_moments,
            [],
            step_counts,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=group["maximize"],
        )
        for hook in self.optimizer._optimizer_step_post_hooks.values():
            hook(self.optimizer, (), {})

    def _look_up_states(self) -> None:
        """Adam makes its state in a parameter's first step."""
        states = [self.optimizer.state[parameter] for parameter in self.parameters]
        if all(states):
            self.states = [[state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step")]
