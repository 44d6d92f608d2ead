"""The short step is the optimizer's own, bit for bit."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from seqrl_lightning.speed.fused_adam import FusedAdamStep


def train(optimizer_class: type[Adam], short: bool, steps: int = 5, **kwargs: Any) -> tuple[nn.Module, Optimizer, int]:
    """Returns the trained network, its optimizer and how often the post hook was called."""
    torch.manual_seed(3)
    network, inputs = nn.Linear(4, 2), torch.randn(8, 4)
    optimizer = optimizer_class(network.parameters(), 0.1, fused=True, **kwargs)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    calls: list[object] = []
    optimizer.register_step_post_hook(lambda *args: calls.append(args))
    step: Any = FusedAdamStep(optimizer) if short else optimizer.step
    for i in range(steps):
        network.zero_grad()
        network(inputs).square().mean().backward()
        if i == 3:
            network.bias.grad = None  # Adam leaves such a parameter, and its moments, alone
        step()
        scheduler.step()
    return network, optimizer, len(calls)


@pytest.mark.parametrize(
    ("optimizer_class", "kwargs"),
    [
        (Adam, {}),
        (Adam, {"weight_decay": 0.1, "betas": (0.5, 0.9)}),
        (Adam, {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
        (AdamW, {"eps": 1e-3}),
    ],
)
def test_the_same_weights_and_state(optimizer_class: type[Adam], kwargs: dict[str, Any]) -> None:
    expected, expected_optimizer, expected_calls = train(optimizer_class, short=False, **kwargs)
    network, optimizer, calls = train(optimizer_class, short=True, **kwargs)
    assert FusedAdamStep.fits(optimizer)
    assert calls == expected_calls == 5
    for parameter, other in zip(network.parameters(), expected.parameters(), strict=True):
        assert torch.equal(parameter, other)
    for index, state in expected_optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, optimizer.state_dict()["state"][index][name]) for name, value in state.items())


@pytest.mark.parametrize(
    ("optimizer_class", "kwargs"),
    [
        (SGD, {}),
        (SGD, {"fused": True}),
        (Adam, {}),
        (Adam, {"fused": True, "amsgrad": True}),
        (Adam, {"fused": True, "lr": torch.tensor(0.1)}),
    ],
)
def test_other_optimizers_do_not_fit(optimizer_class: type[Optimizer], kwargs: dict[str, Any]) -> None:
    assert not FusedAdamStep.fits(optimizer_class(nn.Linear(4, 2).parameters(), **kwargs))


def test_a_hook_before_the_step_or_a_second_group_does_not_fit() -> None:
    network = nn.Linear(4, 2)
    hooked = Adam(network.parameters(), fused=True)
    hooked.register_step_pre_hook(lambda *args: None)
    assert not FusedAdamStep.fits(hooked)
    assert not FusedAdamStep.fits(Adam([{"params": network.weight}, {"params": network.bias}], fused=True))
