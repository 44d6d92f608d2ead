"""The vectorised environments agree with the single ones, step for step."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
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
    ("seqrl/Recall-v0", {"length": 3, "order": "reverse", "num_symbols": 3}),
    ("seqrl/Chunks-v0", {"chunks": ["ABC", "CAB"]}),
    ("seqrl/SerialReaction-v0", {"pattern": "BAC", "trials": 7}),
    ("seqrl/HiddenSequence-v0", {"objects": "ABC", "trials": 2, "max_picks": 9}),
    ("seqrl/ContextSequence-v0", {"objects": "ABC", "contexts": ["ABC", "CAB"], "backtrack": "first"}),
    ("seqrl/ContextSequence-v0", {"objects": "ABC", "contexts": ["ABC", "reversed", "swap_1_2"]}),
    ("seqrl/BlockSwitch-v0", {"objects": "ABC", "switch": "reversed", "episodes_per_block": 2}),
]


def twins(env_id: str, num_envs: int, **kwargs: Any) -> tuple[gym.vector.VectorEnv[Any, Any, Any], ...]:
    modes = ("sync", "vector_entry_point")
    return tuple(gym.make_vec(env_id, num_envs=num_envs, vectorization_mode=mode, **kwargs) for mode in modes)


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, tuple):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("env_id", "kwargs"), TASKS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31), num_envs=st.integers(1, 4), skill=st.floats(0.3, 1.0))
def test_twins_agree(env_id: str, kwargs: dict[str, Any], seed: int, num_envs: int, skill: float) -> None:
    sync, native = twins(env_id, num_envs, **kwargs)
    assert sync.single_observation_space == native.single_observation_space
    assert sync.single_action_space == native.single_action_space
    rng = np.random.default_rng(seed)
    one, other = sync.reset(seed=seed), native.reset(seed=seed)
    assert_same(one, other)
    infos = one[1]
    for t in range(45):
        if t == 30:
            options = {"block": getattr(native, "num_blocks", 1) - 1}  # the last one, or none in a task without blocks
            one, other = (envs.reset(options=options) for envs in (sync, native))
            assert_same(one, other)
        random = rng.integers(native.single_action_space.n, size=num_envs)  # type: ignore[attr-defined]
        action = np.where(rng.random(num_envs) < skill, np.maximum(infos["correct_action"], 0), random)
        one, other = sync.step(action), native.step(action)
        assert_same(one, other)
        infos = one[4]


@pytest.mark.parametrize(("env_id", "kwargs"), TASKS)
def test_pictures_agree(env_id: str, kwargs: dict[str, Any]) -> None:
    sync, native = twins(env_id, 2, render_mode="ansi", **kwargs)
    for envs in (sync, native):
        envs.reset(seed=0)
        envs.step(np.array([1, 0]))
    assert sync.render() == native.render()


@pytest.mark.parametrize(("env_id", "kwargs"), TASKS)
def test_a_native_environment_goes_on_from_its_state(env_id: str, kwargs: dict[str, Any]) -> None:
    envs, copy = (gym.make_vec(env_id, num_envs=3, **kwargs) for _ in range(2))
    envs.reset(seed=0)
    copy.reset(seed=9)
    actions = np.random.default_rng(0).integers(3, size=(80, 3))
    for action in actions[:37]:
        envs.step(action)
    copy.load_state_dict(envs.state_dict())  # type: ignore[attr-defined]
    for action in actions[37:]:
        assert_same(envs.step(action), copy.step(action))
