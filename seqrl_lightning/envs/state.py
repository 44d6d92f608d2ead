"""The state of environments, read and restored, so that a run resumes in the middle of its episodes."""

from collections import deque
from typing import Any, Protocol, TypeGuard, runtime_checkable

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.classic_control import AcrobotEnv, CartPoleEnv, MountainCarEnv
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.envs.toy_text import BlackjackEnv, CliffWalkingEnv, FrozenLakeEnv, TaxiEnv
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.wrappers import transform_action, transform_observation, transform_reward
from gymnasium.wrappers import vector as vector_wrappers

from seqrl_lightning.envs.derived import is_ours, own_attributes, set_own_attributes
from seqrl_lightning.envs.memoryless import has_no_memory
from seqrl_lightning.envs.wrappers import FlattenMultiDiscreteAction
from seqrl_lightning.saved_state import require_alike, require_saved, restore_stream, saved

_CHECKED_BY_THE_LAYER = ("own", "task", "start")  # parts of a layer's state that only it can check

# Wrappers that carry nothing from step to step, checkers included. Their subclasses may add state.
_TRANSFORMS = (gym.wrappers.TransformAction, gym.wrappers.TransformObservation, gym.wrappers.TransformReward)
_VECTOR_TRANSFORMS = (
    vector_wrappers.VectorizeTransformAction,
    vector_wrappers.VectorizeTransformObservation,
    vector_wrappers.VectorizeTransformReward,
)
_STATELESS = {
    gym.wrappers.OrderEnforcing,
    gym.wrappers.PassiveEnvChecker,
    FlattenMultiDiscreteAction,
    *(
        wrapper
        for module in (transform_action, transform_observation, transform_reward)
        for wrapper in vars(module).values()
        if isinstance(wrapper, type) and issubclass(wrapper, _TRANSFORMS)
    ),
    *(
        wrapper
        for wrapper in vars(vector_wrappers).values()
        if isinstance(wrapper, type) and issubclass(wrapper, _VECTOR_TRANSFORMS) and wrapper not in _VECTOR_TRANSFORMS
    ),
}
# The changing attributes of Gymnasium's own layers. The state of any other layer is unknown without a ``state_dict``.
_CHANGING_ATTRIBUTES: dict[type, tuple[str, ...]] = {
    gym.wrappers.TimeLimit: ("_elapsed_steps",),
    gym.wrappers.FrameStackObservation: ("obs_queue",),
    gym.wrappers.TimeAwareObservation: ("timesteps",),
    AcrobotEnv: ("state",),
    CartPoleEnv: ("state", "steps_beyond_terminated"),
    MountainCarEnv: ("state",),
    BlackjackEnv: ("dealer", "player", "dealer_top_card_suit", "dealer_top_card_value_str"),
    CliffWalkingEnv: ("s", "lastaction"),
    FrozenLakeEnv: ("s", "lastaction"),
    TaxiEnv: ("s", "lastaction", "fickle_step", "taxi_orientation"),
    CartPoleVectorEnv: ("state", "steps", "prev_done", "low", "high"),
}
# Their attributes that are texts, with what these may be: of Blackjack's, the name of a picture's file is made.
_TEXTS = {
    "dealer_top_card_suit": ("C", "D", "H", "S"),
    "dealer_top_card_value_str": ("A", "J", "Q", "K", *map(str, range(2, 10))),
}


Layered = gym.Env[Any, Any] | VectorEnv[Any, Any, Any]
"""An environment, with or without wrappers around it, single or vectorized."""


@runtime_checkable
class Stateful(Protocol):
    """The interface by which a user's own task or wrapper takes part in resuming."""

    def state_dict(self) -> dict[str, Any] | None:
        """Return the state as tensors, numbers, texts and collections of them; None if it is unknown."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""


def env_state(env: Layered) -> dict[str, Any] | None:
    """Return the state of an environment's layers, outermost first, and of its random stream; None if it is unknown.

    A user's own task or wrapper takes part by the methods of :class:`Stateful`.
    """
    stack = layers(env)
    states = [_layer_state(layer) for layer in stack]
    stream = stack[-1]._np_random  # None if nothing was drawn; `np_random` would make one
    is_known = stream is None or _is_of_gymnasium(stream)
    if not is_known or any(state is None for state in states):
        return None
    return {"layers": states, "rng": None if stream is None else stream.bit_generator.state}


def set_env_state(env: Layered, state: dict[str, Any]) -> None:
    """Restore an environment, which has been reset, to what ``env_state`` returned."""
    stack = layers(env)
    saved_layers = saved(saved(state, dict, "the environment's state").get("layers"), list, "the environment's layers")
    is_whole = len(saved_layers) == len(stack)
    require_saved(is_whole, "the environment's layers", f"{len(saved_layers)} states", f"{len(stack)} states")
    for layer, layer_state in zip(stack, saved_layers, strict=True):
        saved(layer_state, dict, _name_of(layer))
        if _is_stateful(layer):
            _require_ours(layer, layer_state)
            layer.load_state_dict(layer_state)
            if _is_derived(layer):  # last, since the lookups above may have changed these attributes
                set_own_attributes(layer, layer_state.get("own", {}))
        else:
            _set_changing_attributes(layer, layer_state)
    require_saved("rng" in state, "the environment's state", sorted(state), "with rng")
    if state["rng"] is not None:
        restore_stream(stack[-1].np_random, state["rng"], "the task's random stream")


def _set_changing_attributes(layer: Layered, state: dict[str, Any]) -> None:
    """Set those attributes of one of Gymnasium's layers that change, and no others, whatever the checkpoint holds."""
    for name in _CHANGING_ATTRIBUTES.get(type(layer), ()):
        value, before, what = arrays(state.get(name)), getattr(layer, name), f"{name} in {_name_of(layer)}"
        if name in _TEXTS:
            require_saved(value in _TEXTS[name], what, value, "what the task sets it to")
        elif before is None or isinstance(before, int | float | np.generic):
            require_alike(value, plain(before), what)
        else:
            _require_numbers(value, before, what)
        setattr(layer, name, deque(value, before.maxlen) if isinstance(before, deque) else value)


def _require_numbers(value: object, before: Any, name: str) -> None:
    """Refuse anything but numbers in the shape that Gymnasium keeps; a list (a hand of cards) may vary in length."""
    try:
        found = np.asarray(value)
    except ValueError:  # of lists of different lengths
        found = np.asarray(None)
    rows = found.shape[:1] if isinstance(before, list) else np.shape(before)[:1]
    is_numeric = found.dtype.kind in "biuf" and bool(np.isfinite(found).all())
    fits = is_numeric and len(found.shape) > 0 and found.shape == (*rows, *np.shape(before)[1:])
    require_saved(fits, name, value, f"finite numbers of shape {np.shape(before)}")


def _require_ours(layer: Stateful, state: dict[str, Any]) -> None:
    """Refuse a state that one of this package's own layers can't have left; a user's own layer restores what it likes.

    What a user's class adds to one of ours is checked where it is restored.
    """
    own = layer.state_dict() if is_ours(type(layer)) or _is_derived(layer) else None
    if own is not None:
        kept, given = (
            {key: value for key, value in part.items() if key not in _CHECKED_BY_THE_LAYER} for part in (own, state)
        )
        require_alike(given, plain(kept), _name_of(layer))


def _name_of(layer: object) -> str:
    return f"the state of {type(layer).__name__}"


def _is_of_gymnasium(stream: object) -> bool:
    """Return whether a random stream is of the kind that Gymnasium makes: another environment's takes its state."""
    return isinstance(stream, np.random.Generator) and isinstance(stream.bit_generator, np.random.PCG64)


def _layer_state(layer: Layered) -> dict[str, Any] | None:
    if _is_stateful(layer):
        state, own = layer.state_dict(), own_attributes(layer) if _is_derived(layer) else {}
        if state is None or own is None:
            return None
        return {**{name: plain(value) for name, value in state.items()}, **({"own": own} if own else {})}
    if type(layer) in _STATELESS and _has_plain_function(layer):
        return {}
    names = None if _drew_its_map(layer) else _CHANGING_ATTRIBUTES.get(type(layer))
    return None if names is None else {name: plain(getattr(layer, name)) for name in names}


def _has_plain_function(layer: Layered) -> bool:
    """Return whether a transform's function is Gymnasium's, or keeps no state between calls."""
    if not (isinstance(layer, _TRANSFORMS) and type(layer) in _TRANSFORMS):
        return True
    return has_no_memory(layer.func)


def _drew_its_map(layer: Layered) -> bool:
    """Return whether a FrozenLake drew its map when it was made, so that another one has another map."""
    if type(layer) is not FrozenLakeEnv or layer.spec is None:
        return False
    settings = {"map_name": "4x4", "desc": None, **layer.spec.kwargs}
    return settings["map_name"] is None and settings["desc"] is None


def _is_stateful(layer: object) -> TypeGuard[Stateful]:
    """Return whether a layer returns its own state, or is a task derived from one of this package.

    A user's wrapper derived from one of this package may have state that this package's class doesn't know.
    """
    kind = type(layer)
    if not issubclass(kind, Stateful):  # its class: a wrapper may hand on its environment's attributes
        return False
    return not (_is_derived(layer) and issubclass(kind, gym.Wrapper | VectorWrapper))


def _is_derived(layer: object) -> bool:
    """Return whether a user's layer returns its state by the method of this package's class that it derives from."""
    kind = type(layer)
    return not is_ours(kind) and is_ours(next(base for base in kind.__mro__ if "state_dict" in vars(base)))


def layers(env: Layered) -> list[Layered]:
    """Return an environment's wrappers, the outermost first, and the environment itself."""
    layers: list[Layered] = [env]
    while isinstance(env, gym.Wrapper | VectorWrapper):
        env = env.env
        layers.append(env)
    return layers


def plain(value: object) -> Any:  # of the value's own structure
    """Turn arrays into tensors, NumPy's numbers into Python's and tuples into lists: loading those runs no code."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple | deque) else value


def arrays(value: object) -> Any:  # of the value's own structure
    """Turn tensors into arrays with memory of their own."""
    if isinstance(value, torch.Tensor):
        return value.numpy().copy()
    if isinstance(value, dict):
        return {key: arrays(item) for key, item in value.items()}
    return [arrays(item) for item in value] if isinstance(value, list) else value
