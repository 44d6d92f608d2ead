"""The state of an optimizer and its scheduler is one of the run's own, or is refused in a line that names the key."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from seqrl_lightning.saved_optimizer import require_optimization, require_optimizer_state, require_scheduler_state
from seqrl_lightning.saved_state import StateError

OPTIMIZERS: dict[str, dict[str, Any]] = {
    **{f"Adam {setting}": {setting: True} for setting in ("fused", "amsgrad", "foreach")},
    "SGD": {},
    "SGD momentum": {"momentum": 0.9, "fused": True},
    "RMSprop": {"centered": True, "momentum": 0.5},
    "Adagrad": {"fused": True},
    **{name: {} for name in ("AdamW", "Adamax", "RAdam", "Adafactor", "NAdam", "ASGD", "Rprop", "Adadelta")},
}
SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 3),
    "LinearLR": lr_scheduler.LinearLR,
    "ExponentialLR": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.9),
    "CosineAnnealingWarmRestarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 2),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, 50),
    "MultiStepLR": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [2, 4]),
}


def made(name: str, scheduler: str = "StepLR", num_steps: int = 0, **settings: Any) -> tuple[Any, Any]:
    """An optimizer and its scheduler, after so many steps."""
    layer = nn.Linear(3, 2)
    optimizer = getattr(torch.optim, name.split()[0])(layer.parameters(), lr=0.1, **settings)
    schedule = SCHEDULERS[scheduler](optimizer)
    for _ in range(num_steps):
        optimizer.zero_grad()
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        schedule.step()
    return optimizer, schedule


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizers_own_state_fits(name: str) -> None:
    saved, _ = made(name, num_steps=3, **OPTIMIZERS[name])
    own, _ = made(name, **OPTIMIZERS[name])
    before = copy.deepcopy(own.state_dict())
    require_optimizer_state(saved.state_dict(), own, "it")
    assert str(own.state_dict()) == str(before)
    own.load_state_dict(saved.state_dict())


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("name", ["Adam", "SGD momentum"])
def test_every_schedulers_own_state_fits(name: str, scheduler: str) -> None:
    settings = OPTIMIZERS.get(name, {})
    saved, own = made(name, scheduler, 5, **settings), made(name, scheduler, **settings)
    states = {"optimizer_states": [saved[0].state_dict()], "lr_schedulers": [saved[1].state_dict()]}
    require_optimization(states, [own[0]], [own[1]])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr", -1),
        ("lr", 1e30),
        ("lr", float("nan")),
        ("lr", None),
        ("lr", True),
        ("initial_lr", float("inf")),
        ("eps", 1e30),
        ("eps", torch.zeros(2)),
        ("betas", (0.9, 1.5)),
        ("betas", [0.9]),
        ("weight_decay", float("nan")),
        ("weight_decay", -1),
        ("fused", False),
        ("params", [0, 0]),
        ("more", 1),
    ],
)
def test_settings_that_arent_the_runs_are_refused(key: str, value: Any) -> None:
    saved, _ = made("Adam", num_steps=1, fused=True)
    own, _ = made("Adam", fused=True)
    state = copy.deepcopy(saved.state_dict())
    state["param_groups"][0][key] = value
    with pytest.raises(StateError, match=rf"it\.param_groups\[0\].*{key}.* in the checkpoint|a key of it.*{key}"):
        require_optimizer_state(state, own, "it")


@pytest.mark.parametrize("value", [(0.9, -1), (2.0, 0.9), (float("nan"), 0.9)])
def test_what_a_scheduler_cycles_stays_in_its_range(value: Any) -> None:
    saved, own = made("Adam", "OneCycleLR", 5)[0].state_dict(), made("Adam", "OneCycleLR")[0]
    assert saved["param_groups"][0]["betas"] != own.param_groups[0]["betas"]
    require_optimizer_state(saved, own, "it")
    saved["param_groups"][0]["betas"] = value
    with pytest.raises(StateError, match=r"it\.param_groups\[0\]\.betas"):
        require_optimizer_state(saved, own, "it")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exp_avg", torch.zeros(0)),
        ("exp_avg", torch.zeros(1)),
        ("exp_avg", torch.full((2, 3), float("nan"))),
        ("exp_avg_sq", torch.zeros(3, 2)),
        ("exp_avg", torch.zeros(6).as_strided((2, 3), (0, 0), 5)),
        ("step", torch.zeros(0)),
        ("step", torch.tensor(-1.0)),
        ("step", torch.tensor(float("inf"))),
        ("step", 3),
    ],
)
@pytest.mark.parametrize("fused", [True, False])
def test_an_entry_of_another_form_is_refused(fused: bool, name: str, value: Any) -> None:
    """A fused kernel, which compares no shapes, would write beyond its end."""
    saved, _ = made("Adam", num_steps=1, fused=fused)
    own, _ = made("Adam", fused=fused)
    state = saved.state_dict()
    state["state"][0][name] = value
    with pytest.raises(StateError, match=rf"it\.state\[0\]\.{name} in the checkpoint"):
        require_optimizer_state(state, own, "it")


def test_an_optimizer_of_the_users_own_keeps_what_it_likes_unless_it_is_fused() -> None:
    kind = type("Own", (torch.optim.Adam,), {"__module__": "their_module"})
    layer = nn.Linear(3, 2)
    state = made("Adam", num_steps=1)[0].state_dict()
    state["param_groups"][0]["mine"] = 3
    state["state"][0]["mine"] = "text"
    require_optimizer_state(state, kind(layer.parameters(), lr=0.1), "it")
    state["param_groups"][0]["fused"] = True  # which a file may say by itself
    with pytest.raises(StateError, match=r"it\.state\[0\]\.mine in the checkpoint"):
        require_optimizer_state(state, kind(layer.parameters(), lr=0.1), "it")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gamma", 1e30),
        ("step_size", -1),
        ("base_lrs", [-1.0]),
        ("_last_lr", [1e30]),
        ("last_epoch", -5),
        ("last_epoch", "text"),
        ("step", "text"),
        ("optimizer", None),
    ],
)
def test_a_schedulers_state_that_isnt_the_runs_is_refused(key: str, value: Any) -> None:
    saved, own = made("Adam", num_steps=5)[1].state_dict(), made("Adam")[1]
    saved[key] = value
    with pytest.raises(StateError, match=rf"it\.{key} in the checkpoint|a key of it in the checkpoint is '{key}'"):
        require_scheduler_state(saved, own, "it")


def test_a_step_is_counted_in_float32_whatever_the_weights_are() -> None:
    layer = nn.Linear(3, 2, dtype=torch.float64)
    optimizer = torch.optim.Adam(layer.parameters(), fused=True)
    layer(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
    optimizer.step()
    require_optimizer_state(optimizer.state_dict(), torch.optim.Adam(layer.parameters(), fused=True), "it")
