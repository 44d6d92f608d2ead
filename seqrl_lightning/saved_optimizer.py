"""Check the state of optimizers and schedulers that a checkpoint restores: it must be one of this run's.

``Optimizer.load_state_dict`` takes settings and tensors as they are. A learning rate of -1 would train away from the
optimum, and a fused kernel, which compares no shapes, would write beyond the end of a tensor that is too small.
"""

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer, SparseAdam
from torch.optim.lr_scheduler import LRScheduler

from seqrl_lightning.saved_state import StateError, require_alike, require_saved, saved

_LARGEST_RATE = 1e6  # of the run's own learning rates: what a scheduler makes of them stays far below
_CYCLED = ("betas", "momentum")  # what OneCycleLR and CyclicLR also change
_MOVING = ("last_epoch", "T_cur", "T_i")  # what a scheduler changes, besides attributes with an underscore
_STAYING = ("_schedule_phases",)  # of those with an underscore, which otherwise change
_OF_ANY_FORM = (LBFGS, SparseAdam)  # optimizers whose state follows from more than the parameters' forms
_OF_CALLBACKS = ("initial_lr", "swa_lr")  # rates that StochasticWeightAveraging adds in the midst of a run
_OF_EARLIER_TORCH = ("verbose",)


def require_optimization(
    checkpoint: Mapping[str, Any], optimizers: Sequence[Optimizer], schedulers: Sequence[LRScheduler]
) -> None:
    """Refuse a checkpoint whose states of optimizers and schedulers this run can't have left.

    Args:
        checkpoint: Its ``optimizer_states`` and ``lr_schedulers``.
        optimizers: This run's own, before they restore anything.
        schedulers: Those of the optimizers.

    Raises:
        StateError: If there is one, or one too many or too few.
    """
    optimizer_states = _each(checkpoint["optimizer_states"], len(optimizers), "optimizer_states")
    for i, (state, optimizer) in enumerate(zip(optimizer_states, optimizers, strict=True)):
        require_optimizer_state(state, optimizer, f"optimizer_states[{i}]")
    scheduler_states = saved(checkpoint["lr_schedulers"], list, "lr_schedulers")
    has_all = len(scheduler_states) >= len(schedulers)  # more: StochasticWeightAveraging adds one in mid-run
    many = f"a list of {len(scheduler_states)}"
    require_saved(has_all, "lr_schedulers", many, f"a list of {len(schedulers)}, as this run has")
    for i, (state, scheduler) in enumerate(zip(scheduler_states, schedulers, strict=False)):
        require_scheduler_state(state, scheduler, f"lr_schedulers[{i}]")


def _each(states: object, number: int, name: str) -> list[object]:
    found = saved(states, list, name)
    require_saved(len(found) == number, name, f"a list of {len(found)}", f"a list of {number}, as this run has")
    return found


def require_optimizer_state(state: object, own: Optimizer, name: str) -> None:
    """Refuse a saved state that an optimizer of this run can't have left.

    Its settings must be the run's own, except for those that schedulers change: learning rates, and what is cycled
    with them. Those must be numbers that can be trained with. An optimizer of the user's own may change all of its
    settings and keep what it likes; of these, learning rates are checked, and what a fused kernel reads.

    Args:
        state: What ``state_dict()`` of an optimizer returned.
        own: This run's optimizer, with its scheduler, before it restores anything.
        name: What the state is, for the error.

    Raises:
        StateError: If it is anything else.
    """
    found, fresh = saved(state, dict, name), own.state_dict()
    groups = _each(found.get("param_groups"), len(fresh["param_groups"]), f"{name}.param_groups")
    is_known = type(own).__module__.startswith("torch.") and not isinstance(own, _OF_ANY_FORM)
    for i, (group, own_group) in enumerate(zip(groups, fresh["param_groups"], strict=True)):
        _require_settings(group, own_group, is_known, f"{name}.param_groups[{i}]")
    entries = saved(found.get("state"), dict, f"{name}.state")
    parameters = [parameter for group in own.param_groups for parameter in group["params"]]
    for number in entries:
        is_parameter = type(number) is int and 0 <= number < len(parameters)
        require_saved(is_parameter, f"a key of {name}.state", number, "the number of a parameter")
    if is_known:
        expected = _entries_after_a_step(own)
    elif any(saved(group, dict, name).get("fused") for group in groups):
        expected = {number: _as_fused(entries[number], parameters[number]) for number in entries}
    else:
        return
    for number, entry in entries.items():
        where = f"{name}.state[{number}]"
        require_alike(entry, expected[number], where)
        for key, value in entry.items():
            if isinstance(value, Tensor):
                _require_usable(value, expected[number][key], f"{where}.{key}")


def require_scheduler_state(state: object, own: LRScheduler, name: str) -> None:
    """Refuse a saved state that a scheduler of this run can't have left; see :func:`require_optimizer_state`.

    Other schedulers than torch's restore what they like.
    """
    found = saved(state, dict, name)
    if not type(own).__module__.startswith("torch."):
        return
    most = _LARGEST_RATE * max(_rates(own.optimizer.param_groups))
    _require_scheduler(found, own.state_dict(), most, name)


def _require_scheduler(state: Mapping[str, Any], own: Mapping[str, Any], most: float, name: str) -> None:
    for key in own:
        is_there = key in state or key.startswith("_")  # versions of torch differ in these
        require_saved(is_there, name, f"one without {key}", f"one of {sorted(own)}")
    for key, value in state.items():
        what = f"{name}.{key}"
        if key not in own:
            require_saved(key in _OF_EARLIER_TORCH, f"a key of {name}", key, f"one of {sorted(own)}")
        elif isinstance(key, str) and key.endswith(("_lr", "_lrs")):
            require_alike(value, own[key], what)
            for rate in value if isinstance(value, list) else [value]:
                _require_rate(rate, most, what)
        elif key in _MOVING or (key.startswith("_") and key not in _STAYING):
            require_alike(value, own[key], what)
        else:
            _require_own(value, own[key], what)


def _require_settings(saved_group: object, own: Mapping[str, Any], is_known: bool, name: str) -> None:
    group, most = saved(saved_group, dict, name), _LARGEST_RATE * max(_rates([own]), default=1.0)
    _require_own(group.get("params"), own["params"], f"{name}.params")
    for key in own.keys() | group.keys() if is_known else own.keys() & group.keys() & {"lr"}:
        what = f"{name}.{key}"
        if key not in group:  # an earlier version of torch hadn't the option, which is off
            is_off = own[key] is None or own[key] is False
            require_saved(is_off, what, None, f"the run's {own[key]!r}")
            continue
        is_known_key = key in own or key in _OF_CALLBACKS
        require_saved(is_known_key, f"a key of {name}", key, f"one of {sorted(own)}")
        if key == "lr" or key.endswith("_lr"):
            _require_rate(group[key], most, what)
        elif key in _CYCLED and "max_momentum" in own:
            require_alike(group[key], own[key], what)
            for number in group[key] if isinstance(group[key], list | tuple) else [group[key]]:
                require_saved(0.0 <= number <= 1.0, what, group[key], "in [0, 1]")
        else:
            _require_own(group[key], own[key], what)


def _require_own(value: object, own: object, name: str) -> None:
    """Refuse a setting that isn't this run's own; a tuple may be saved as a list."""
    if isinstance(own, Tensor):
        require_alike(value, own, name)
        return
    require_saved(_as_lists(value) == _as_lists(own), name, value, f"the run's {own!r}")


def _as_lists(value: object) -> object:
    """Return a setting in a form that compares: a tuple as a list, and a tensor, which no setting is, as its text."""
    if isinstance(value, dict):
        return {key: _as_lists(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_lists(item) for item in value]
    return repr(value) if isinstance(value, Tensor) else value


def _require_rate(value: object, most: float, name: str) -> None:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    rate = saved(value, float, name)
    require_saved(0.0 <= rate <= most, name, rate, f"in [0, {most:g}], by the run's own")


def _rates(groups: list[Mapping[str, Any]] | list[dict[str, Any]]) -> list[float]:
    """Return the learning rates that groups of parameters name: the present ones, first ones, largest ones."""
    return [float(value) for group in groups for key, value in group.items() if key == "lr" or key.endswith("_lr")]


def _require_usable(value: Tensor, own: Tensor, name: str) -> None:
    if not (value.is_contiguous() or value.stride() == own.stride()):
        raise StateError(f"{name} in the checkpoint has the strides {value.stride()}; it must be dense")
    require_saved(not bool(value.isnan().any()), name, value, "without NaN")
    if not value.dim():  # a count of steps
        require_saved(bool(value.isfinite()) and bool(value >= 0), name, value.item(), "finite, and 0 or more")


def _as_fused(entry: object, parameter: Tensor) -> dict[str, Any]:
    """Return the only form in which a fused kernel may read an entry: counts of steps, and else the parameter's."""
    step = torch.zeros((), dtype=torch.float32)
    return {key: step if key == "step" else parameter for key in entry} if isinstance(entry, dict) else {}


def _entries_after_a_step(own: Optimizer) -> dict[int, dict[str, Any]]:
    """Return what an optimizer keeps of each parameter, by the parameter's number, once it has made a step.

    A copy of it makes one, along no gradient and from parameters of its own.
    """
    probe = copy.copy(own)  # of its settings and state alone; not of hooks
    probe.state = defaultdict(dict)
    probe.param_groups = []
    for group in own.param_groups:
        zeros = [torch.zeros_like(parameter, requires_grad=True) for parameter in group["params"]]
        for zero, parameter in zip(zeros, group["params"], strict=True):
            zero.grad = torch.zeros_like(zero)
            if parameter in own.state:  # some begin with a state
                probe.state[zero] = copy.deepcopy(own.state[parameter])
        probe.param_groups.append({**group, "params": zeros})
    probe.step()
    found: dict[int, dict[str, Any]] = probe.state_dict()["state"]
    return {number: found.get(number, {}) for number in range(sum(len(group["params"]) for group in own.param_groups))}
