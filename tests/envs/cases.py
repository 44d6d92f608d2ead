"""Settings of the tasks that tests go through, and how results are compared."""

from typing import Any

import gymnasium as gym
import numpy as np
from hypothesis import strategies as st

BLOCKS = [{"sequence": "ABC", "episodes": 2}, {"sequence": "reversed", "episodes": 1}, {"sequence": "swap_1_2"}]
TASKS: list[tuple[str, dict[str, Any]]] = [
    ("seqrl/Sequence-v0", {"objects": "ABC", "blocks": BLOCKS, "max_trials": 4}),
    ("seqrl/SequenceDistractor-v0", {"objects": "ABC", "distractors": "YZ", "blocks": BLOCKS, "max_errors": 3}),
    ("seqrl/SequenceDistractor-v0", {"objects": "ABC", "blocks": BLOCKS, "backtrack": "first"}),
    ("seqrl/SequenceDistractor-v0", {"objects": "ABC", "blocks": BLOCKS, "backtrack": "none"}),
    ("seqrl/DelayedRecall-v0", {"delay": 3, "num_symbols": 3}),
    ("seqrl/MemoryChain-v0", {"memory_length": 5, "num_symbols": 3}),
    ("seqrl/NBack-v0", {"n": 2, "trials": 4, "num_symbols": 3}),
    ("seqrl/PictureCue-v0", {"num_choices": 3, "size": 5, "trials": 4}),
    ("seqrl/PictureRecall-v0", {"delay": 2, "size": 5}),
    ("seqrl/Recall-v0", {"length": 3, "order": "reverse", "num_symbols": 3}),
    ("seqrl/Chunks-v0", {"chunks": ["ABC", "CAB"]}),
    ("seqrl/SerialReaction-v0", {"pattern": "BAC", "trials": 7}),
    ("seqrl/HiddenSequence-v0", {"objects": "ABC", "trials": 2, "max_picks": 9}),
    ("seqrl/ContextSequence-v0", {"objects": "ABC", "contexts": ["ABC", "CAB"], "backtrack": "first"}),
    ("seqrl/ContextSequence-v0", {"objects": "ABC", "contexts": ["ABC", "reversed", "swap_1_2"]}),
    ("seqrl/BlockSwitch-v0", {"objects": "ABC", "switch": "reversed", "episodes_per_block": 2}),
]

_few = st.integers(1, 4)
_objects = st.integers(2, 6).map(lambda n: "ABCDEF"[:n])
_distractors = st.integers(0, 3).map(lambda n: "XYZ"[:n])
_backtrack = st.sampled_from(["none", "first", "every"])
_num_symbols = st.integers(2, 5)


def _orders(objects: str, min_size: int) -> Any:
    order = st.sampled_from(["reversed", "swap_1_2"]) | st.permutations(objects).map("".join)
    return st.lists(order, min_size=min_size, max_size=4)


@st.composite
def _ordered(draw: Any, **settings: Any) -> dict[str, Any]:
    kwargs: dict[str, Any] = {"objects": draw(_objects)}
    orders = draw(_orders(kwargs["objects"], min_size=1))
    kwargs["blocks"] = [{"sequence": order, "episodes": draw(_few)} for order in orders]
    return {**kwargs, **{name: draw(values) for name, values in settings.items()}}


@st.composite
def _contexts(draw: Any) -> dict[str, Any]:
    kwargs = {"objects": draw(_objects), "distractors": draw(_distractors), "backtrack": draw(_backtrack)}
    return {**kwargs, "contexts": draw(_orders(kwargs["objects"], min_size=2)), "max_errors": draw(_few)}


@st.composite
def _grammar(draw: Any) -> list[list[float]]:
    rng = np.random.default_rng(draw(st.integers(0, 100)))
    matrix: list[list[float]] = rng.dirichlet([0.3] * 3, size=draw(st.sampled_from([3, 9, 27]))).tolist()
    return matrix


def _symbols(**settings: Any) -> Any:
    return st.fixed_dictionaries({"previous_action_reward": st.booleans(), **settings})


SETTINGS: dict[str, Any] = {
    "seqrl/Sequence-v0": _ordered(max_trials=st.integers(1, 12)),
    "seqrl/SequenceDistractor-v0": _ordered(distractors=_distractors, backtrack=_backtrack, max_errors=_few),
    "seqrl/BlockSwitch-v0": st.fixed_dictionaries(
        {
            "objects": _objects,
            "distractors": _distractors,
            "switch": st.sampled_from(["reversed", "swap_1_2"]),
            "episodes_per_block": _few,
            "num_blocks": _few,
            "backtrack": _backtrack,
            "max_errors": _few,
        }
    ),
    "seqrl/ContextSequence-v0": _contexts(),
    "seqrl/HiddenSequence-v0": st.fixed_dictionaries({"objects": _objects, "trials": _few}),
    "seqrl/DelayedRecall-v0": _symbols(num_symbols=_num_symbols, delay=st.integers(0, 20)),
    "seqrl/MemoryChain-v0": _symbols(num_symbols=_num_symbols, memory_length=st.integers(1, 20)),
    "seqrl/NBack-v0": _symbols(num_symbols=_num_symbols, n=_few, trials=_few),
    "seqrl/PictureCue-v0": st.fixed_dictionaries(
        {"num_choices": _num_symbols, "size": st.integers(4, 9), "trials": st.integers(1, 5)}
    ),
    "seqrl/PictureRecall-v0": st.fixed_dictionaries({"delay": st.integers(0, 5), "size": st.integers(4, 9)}),
    "seqrl/Recall-v0": _symbols(num_symbols=_num_symbols, length=_few, order=st.sampled_from(["copy", "reverse"])),
    "seqrl/Chunks-v0": _symbols(chunks=st.sampled_from([("ABC", "BAC", "CDB"), ("AB", "BA"), ("AA", "AA")])),
    "seqrl/SerialReaction-v0": _symbols(
        pattern=st.sampled_from(["ACBD", "BAC"]), grammar=st.none() | _grammar(), trials=st.integers(1, 12)
    ),
}


def single_and_native(env_id: str, num_envs: int, **kwargs: Any) -> tuple[gym.vector.VectorEnv[Any, Any, Any], ...]:
    """A task's single environments, stepped one after the other, and its own vector environment."""
    modes = ("sync", "vector_entry_point")
    return tuple(gym.make_vec(env_id, num_envs=num_envs, vectorization_mode=mode, **kwargs) for mode in modes)


def assert_same(one: Any, other: Any) -> None:
    """Equal to the last bit, and of the same type."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, tuple):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert type(one) is type(other)
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_array_equal(one, other)
