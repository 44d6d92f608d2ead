"""An optimizer's state fits its parameters, or is refused: a fused kernel would write beyond its end."""

from typing import Any

import pytest
import torch
from torch import nn

from seqrl_lightning.saved_state import StateError, require_fitting_state

OPTIMIZERS: dict[str, dict[str, Any]] = {
    **{f"Adam {setting}": {setting: True} for setting in ("fused", "amsgrad", "foreach")},
    "SGD": {"lr": 0.1, "momentum": 0.9, "fused": True},
    "Adagrad": {"fused": True},
    **{name: {} for name in ("Adafactor", "NAdam", "ASGD", "Rprop")},
}


def stepped(name: str, settings: dict[str, Any]) -> tuple[torch.optim.Optimizer, nn.Linear]:
    layer = nn.Linear(3, 2)
    optimizer = getattr(torch.optim, name.split()[0])(layer.parameters(), **settings)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return optimizer, layer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizers_own_state_fits(name: str) -> None:
    optimizer, _ = stepped(name, OPTIMIZERS[name])
    again, _ = stepped(name, OPTIMIZERS[name])
    again.load_state_dict(optimizer.state_dict())
    require_fitting_state(again)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exp_avg", torch.zeros(0)),
        ("exp_avg", torch.zeros(1)),
        ("exp_avg_sq", torch.zeros(3, 2)),
        ("exp_avg", torch.zeros(6).as_strided((2, 3), (0, 0), 5)),
        ("step", torch.zeros(0)),
    ],
)
def test_another_state_is_refused_where_the_step_is_fused(name: str, value: Any) -> None:
    optimizer, _ = stepped("Adam", {"fused": True})
    state = optimizer.state_dict()
    state["state"][0][name] = value
    optimizer.load_state_dict(state)
    with pytest.raises(StateError, match=f"the optimizer's {name} in the checkpoint"):
        require_fitting_state(optimizer)


def test_a_step_is_counted_in_float32_whatever_the_weights_are() -> None:
    layer = nn.Linear(3, 2, dtype=torch.float64)
    optimizer = torch.optim.Adam(layer.parameters(), fused=True)
    layer(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
    optimizer.step()
    require_fitting_state(optimizer)


def test_a_file_may_say_itself_that_the_step_is_fused() -> None:
    optimizer, _ = stepped("Adam", {})
    state = optimizer.state_dict()
    state["param_groups"][0]["fused"] = True
    state["state"][0]["exp_avg"] = torch.zeros(0)
    optimizer.load_state_dict(state)
    with pytest.raises(StateError, match="the optimizer's exp_avg in the checkpoint"):
        require_fitting_state(optimizer)
