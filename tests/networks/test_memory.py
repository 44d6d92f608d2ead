"""Properties of every network that remembers."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from seqrl_lightning.networks import FFM, GRU, LRU, LSTM, DeltaNet, FrameStack, MinGRU, Transformer
from seqrl_lightning.networks.delta_net import _CHUNK, delta_rule
from seqrl_lightning.networks.recurrent import chrono_biases
from seqrl_lightning.networks.scan import linear_scan
from seqrl_lightning.types import ConfigurationError
from tests.networks.exported import CASES, OUT, B, T, build, remembers, some_state, starts

OBS = (2, 2)
REMEMBERING = [case for case in CASES if remembers(case)]
WITH_GRADIENTS = [case for case in REMEMBERING if build(case)[1].is_floating_point()]  # packed parts have none
parametrize_remembering = pytest.mark.parametrize("case", REMEMBERING)
parametrize_with_gradients = pytest.mark.parametrize("case", WITH_GRADIENTS)


@parametrize_remembering
def test_none_is_a_state_of_zeros(case: str) -> None:
    net, observation = build(case)
    outputs, state = net(observation)
    assert_close(net(observation, torch.zeros_like(state))[0], outputs, atol=1e-5, rtol=1e-5)
    assert_close(net(observation, None, torch.zeros(T, B, dtype=torch.bool))[0], outputs, atol=1e-5, rtol=1e-5)


@parametrize_with_gradients
@pytest.mark.parametrize("probability", [0.1, 0.5, 1.0])
def test_a_packed_sequence_has_the_gradient_of_its_steps(case: str, probability: float) -> None:
    net, observation = build(case)
    is_first, weights = torch.rand(T, B) < probability, torch.randn(T, B, *OUT)
    net, observation = net.double(), observation.double()
    start = some_state(net, observation)
    (net(observation, start, is_first)[0] * weights).sum().backward()
    expected = [torch.zeros_like(p) if p.grad is None else p.grad for p in net.parameters()]
    net.zero_grad()
    state, steps = start, []
    for t in range(T):
        step, state = net(observation[t : t + 1], state, is_first[t : t + 1])
        steps.append(step)
    (torch.cat(steps) * weights).sum().backward()
    for parameter, grad in zip(net.parameters(), expected, strict=True):
        assert_close(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad, grad)


@pytest.mark.parametrize("core", [GRU, LSTM])
def test_starts_on_the_cpu_cost_no_synchronization(core: Any) -> None:
    """Tensors on the meta device have no values that could be waited for."""
    net = core(OBS, OUT, 8, num_layers=2).to("meta")
    state = torch.zeros(2, B, net.state_size, device="meta")
    outputs, next_state = net(torch.zeros(T, B, *OBS, device="meta"), state, starts())
    assert outputs.shape == (T, B, *OUT)
    assert next_state.shape == state.shape


@pytest.mark.parametrize("case", [case for case in WITH_GRADIENTS if "short" not in case])
def test_gradients_reach_the_first_row_and_every_parameter(case: str) -> None:
    net, observation = build(case)
    observation = observation[:4].requires_grad_()
    outputs, _ = net(observation)
    (first_row,) = torch.autograd.grad(outputs[-1].sum(), observation, retain_graph=True)
    assert (first_row[0].abs().sum((1, 2)) > 0).all()
    outputs.square().sum().backward()
    without = [n for n, p in net.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert without == []


@parametrize_with_gradients
def test_gradients_stop_where_an_episode_starts(case: str) -> None:
    net, observation = build(case)
    observation.requires_grad_()
    is_first = starts()
    (grad,) = torch.autograd.grad(net(observation, None, is_first)[0][T - 2].sum(), observation)
    assert not grad[:5, 0].any()
    assert not grad[:7, 1].any()
    assert grad[T - 2].any(dim=(1, 2)).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("compiles", [False, True])
def test_the_scan_is_a_loop_with_its_gradients(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, compiles: bool
) -> None:
    """Also in the form for compiled code and other devices."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiles)
    for length in (1, 2, 3, 7, 8, 60):
        torch.manual_seed(length)
        decay, inputs = torch.rand(length, 3, 2, dtype=dtype), torch.randn(length, 3, 2, dtype=dtype)
        decay[length // 2] = 0.0
        arguments = [x.requires_grad_() for x in (decay, inputs, torch.randn(1, 3, 2, dtype=dtype))]
        outputs, h = [], arguments[2][0]
        for a, b in zip(arguments[0], arguments[1], strict=True):
            h = a * h + b
            outputs.append(h)
        expected, weights = torch.stack(outputs), torch.randn(length, 3, 2, dtype=dtype)
        result = linear_scan(*arguments)
        assert_close(result, expected)
        for one, other in zip(
            torch.autograd.grad((result * weights).sum().abs(), arguments),
            torch.autograd.grad((expected * weights).sum().abs(), arguments),
            strict=True,
        ):
            assert_close(one, other)


@pytest.mark.parametrize("shape", [(1, 1, 2), (7, 3, 1), (1, 3, 2)])
def test_a_decay_that_is_constant_need_not_be_repeated(shape: tuple[int, ...]) -> None:
    decay, inputs, initial = torch.rand(shape).requires_grad_(), torch.randn(7, 3, 2), torch.randn(1, 3, 2)
    weights = torch.randn(7, 3, 2)
    short, repeated = (linear_scan(x, inputs, initial) for x in (decay, decay.expand(7, 3, 2)))
    assert_close(short, repeated)
    grads = [torch.autograd.grad((x * weights).sum(), decay)[0] for x in (short, repeated)]
    assert_close(*grads)


def test_the_delta_rule_in_chunks_is_the_rule_step_by_step() -> None:
    torch.manual_seed(0)
    length, batch_size, num_heads, size = 2 * _CHUNK + 5, 3, 2, 4
    query, key, value = torch.randn(3, length, batch_size, num_heads, size).double()
    key, strength = F.normalize(key, dim=-1), torch.rand(length, batch_size, num_heads, 1).double()
    is_first, matrix = torch.rand(length, batch_size) < 0.05, torch.randn(batch_size, num_heads, size, size).double()
    is_first[:, 0] = False
    expected, memory = [], matrix
    for t in range(length):
        memory = memory * ~is_first[t].view(-1, 1, 1, 1)
        error = value[t] - torch.einsum("bhk,bhkv->bhv", key[t], memory)
        memory = memory + torch.einsum("bhk,bhv->bhkv", key[t], strength[t] * error)
        expected.append(torch.einsum("bhk,bhkv->bhv", query[t], memory))
    found, last = delta_rule(query, key, value, strength, is_first, matrix)
    assert_close(found, torch.stack(expected))
    assert_close(last, memory)


def test_lstm_state_is_h_and_c() -> None:
    net, observation = build("LSTM")
    first = torch.zeros(T, B, 1)
    first[0] = 1.0
    _, (h, c) = net.core(torch.cat([observation.flatten(2), first], -1))  # type: ignore[operator]
    assert_close(net(observation)[1], torch.cat([h, c], -1))


def test_a_frame_stack_by_hand() -> None:
    """The MLP has no hidden layer, so that the features are what is seen: the current observation is the last."""
    net = FrameStack((1,), (2,), length=3, hidden_sizes=())
    observation = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1)
    is_first = torch.tensor([True, False, True, False]).view(4, 1)
    features, state = net.torso(observation, None, is_first)
    assert features[:, 0].tolist() == [[0, 0, 1], [0, 1, 2], [0, 0, 3], [0, 3, 4]]
    assert state[:, 0].tolist() == [[3, 2], [4, 1]]  # 2 marks the episode's first
    features, state = net.torso(torch.full((1, 1, 1), 5.0), state)
    assert features[:, 0].tolist() == [[3, 4, 5]]


def test_a_transformer_looks_as_far_as_its_layers_together() -> None:
    net, observation = build("Transformer of three layers")  # each looks one step back
    observation.requires_grad_()
    (grad,) = torch.autograd.grad(net(observation)[0][-1].sum(), observation)
    assert grad.abs().sum((1, 2, 3)).bool().tolist() == [False] * (T - 4) + [True] * 4


def test_a_transformer_computes_one_row_when_it_acts() -> None:
    net, observation = build("Transformer")
    rows: list[int] = []
    net.encoder.register_forward_hook(lambda module, args, output: rows.append(len(output)))  # type: ignore[operator,union-attr]
    _, state = net(observation)
    _, state = net(observation[:1], state)
    assert rows == [T, 1]
    with pytest.raises(ConfigurationError, match=r"the Transformer's state is \[2, .*; it must be \[24, B, 17\]"):
        net(observation[:1], state[:2])


def test_chrono_biases_are_those_of_the_delays() -> None:
    torch.manual_seed(0)
    biases = chrono_biases(2000, 50)
    delays = 1 / (1 - biases.sigmoid())  # a gate of value f remembers for 1 / (1 - f) steps
    assert delays.min() >= 2
    assert delays.max() <= 50
    assert delays.mean() == pytest.approx(26, rel=0.05)
    net: Any = LSTM((2,), (2,), 8, chrono_init=50)
    write, forget, _, _ = net.core.bias_ih_l0.chunk(4)
    assert (forget[:4] >= 0).all()
    assert_close(write[:4], -forget[:4])
    assert_close(net.core.weight_ih_l0.chunk(4)[0][:4, -1], forget[:4])
    assert forget[4:].abs().max() <= 8**-0.5  # the other half stays as torch made it
    net = GRU((2,), (2,), 8, chrono_init=50)
    update = net.core.bias_ih_l0.chunk(3)[1]
    assert (update[:4] >= 0).all()
    assert_close(
        net.core.weight_ih_l0.chunk(3)[1][:4, -1], -update[:4]
    )  # where an episode starts the gate is half open


@pytest.mark.parametrize(
    ("core", "kwargs", "message"),
    [
        (GRU, {"hidden_size": 0}, "hidden_size is 0"),
        (LSTM, {"encoder_size": 0}, "encoder_size is 0"),
        (GRU, {"chrono_init": 2}, "chrono_init is 2"),
        (MinGRU, {"num_layers": 0}, "num_layers is 0"),
        (LSTM, {"num_layers": 0}, "num_layers is 0"),
        (LRU, {"hidden_size": 7}, "hidden_size is 7"),
        (LRU, {"max_phase": 7.0}, "max_phase is 7.0"),
        (LRU, {"chrono_init": 2}, "chrono_init is 2"),
        (FFM, {"context_size": 0}, "context_size is 0"),
        (FFM, {"longest_period": 1}, "longest_period is 1"),
        (DeltaNet, {"hidden_size": 7}, "hidden_size is 7; .*num_heads = 2"),
        (FrameStack, {"length": 1}, "length is 1"),
        (Transformer, {"context_length": 1}, "context_length is 1"),
        (Transformer, {"hidden_size": 10, "num_heads": 4}, "hidden_size is 10; .*num_heads = 4"),
    ],
)
def test_settings_that_cannot_work_are_refused(core: Any, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        core(OBS, OUT, **kwargs)
