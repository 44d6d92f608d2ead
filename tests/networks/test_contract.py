"""The contract that every exported network keeps; ``docs/own_network.md`` says it."""

import itertools

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from seqrl_lightning.types import State
from tests.networks.exported import CASES, OUT, B, T, build, remembers, shape_of, some_state, starts
from tests.running import skip_without_bfloat16_lstm

parametrize_all = pytest.mark.parametrize("case", CASES)


def of_column(state: State, column: int) -> State:
    """The state of one environment."""
    return None if state is None else state[:, column : column + 1]


def assert_same_state(state: State, expected: State) -> None:
    """Assert that two states are equal, or both None."""
    assert (state is None) == (expected is None)
    if state is not None:
        assert_close(state, expected, atol=1e-5, rtol=1e-5)


@parametrize_all
def test_the_contract(case: str) -> None:
    net, observation = build(case)
    outputs, state = net(observation)
    assert outputs.shape == (T, B, *OUT)
    features, same_state = net.torso(observation, None)
    assert features.shape == (T, B, net.feature_size)
    assert_close(net.head(features), outputs)
    assert_same_state(same_state, state)
    assert net.remembers == (state is not None)
    if state is not None:
        assert state.shape[1] == B
        assert state.dtype == torch.float32
        assert net(observation[:1], state)[1].shape == state.shape


@parametrize_all
def test_it_is_built_and_read_without_memory(case: str) -> None:
    """Like the networks of checkpoints, which are compared with the weights before memory is taken."""
    net, observation = build(case)
    network, settings = CASES[case]
    with torch.device("meta"):
        blank = network(shape_of(case), OUT, **settings)
        outputs, state = blank(torch.empty_like(observation, device="meta"))
    assert {name: tensor.shape for name, tensor in blank.state_dict().items()} == {
        name: tensor.shape for name, tensor in net.state_dict().items()
    }
    assert outputs.shape == (T, B, *OUT)
    expected = net(observation)[1]
    assert (None if state is None else state.shape) == (None if expected is None else expected.shape)


@pytest.mark.parametrize("case", [case for case in CASES if not remembers(case)])
def test_without_memory_the_state_is_passed_through(case: str) -> None:
    net, observation = build(case)
    state = torch.rand(1, B, 1)
    assert net(observation, state, starts())[1] is state


@parametrize_all
def test_a_packed_sequence_is_its_episodes_one_by_one(case: str) -> None:
    net, observation = build(case)
    is_first, start = starts(), some_state(net, observation)
    outputs, state = net(observation, start, is_first)
    for column in range(B):
        rows = [0, *(is_first[1:, column].nonzero().flatten() + 1).tolist(), T]
        for begin, end in itertools.pairwise(rows):
            carried = of_column(start, column) if begin == 0 and not is_first[0, column] else None
            expected, expected_state = net(observation[begin:end, column : column + 1], carried)
            assert_close(outputs[begin:end, column : column + 1], expected, atol=1e-5, rtol=1e-5)
        assert_same_state(of_column(state, column), expected_state)


@parametrize_all
def test_acting_step_by_step_is_the_packed_sequence(case: str) -> None:
    net, observation = build(case)
    is_first, start = starts(), some_state(net, observation)
    outputs, last_state = net(observation, start, is_first)
    state = start
    for t in range(T):
        step, state = net(observation[t : t + 1], state, is_first[t : t + 1])
        assert_close(step[0], outputs[t], atol=1e-5, rtol=1e-5)
    assert_same_state(state, last_state)


@parametrize_all
def test_what_comes_later_is_not_seen(case: str) -> None:
    net, observation = build(case)
    start, changed = some_state(net, observation), observation.clone()
    changed[8:] = observation[: T - 8]
    assert_close(net(changed, start, starts())[0][:8], net(observation, start, starts())[0][:8])


@parametrize_all
def test_mixed_precision(case: str) -> None:
    net, observation = build(case)
    if any(isinstance(part, nn.LSTM) for part in net.modules()):
        skip_without_bfloat16_lstm()
    expected, _ = net(observation, None, starts())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, state = net(observation)
        next_state = net(observation, state, starts())[1]
        assert next_state is None or next_state.dtype == torch.float32
        outputs, _ = net(observation, None, starts())
    assert_close(outputs.float(), expected, atol=0.15, rtol=0.1)
    outputs.float().square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
