"""Acting in NumPy is the same as acting in torch, and happens with exactly the networks that it is made for."""

import copy
import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seqrl_lightning import speed
from seqrl_lightning.algorithms import DQN, DiscreteSAC
from seqrl_lightning.networks import GRU, MLP, DuelingHead, FrameStack, LinearHead, NoisyLinear, Table
from seqrl_lightning.speed import NumPyForward

pytestmark = pytest.mark.skipif(not speed.is_enabled(), reason="fast paths are switched off")

BUILT = {
    "MLP": lambda *shapes: MLP(*shapes, (16, 8)),
    "dueling": lambda *shapes: MLP(*shapes, (16, 8), head=DuelingHead),
    "dueling with a hidden layer": lambda *shapes: MLP(
        *shapes, (16,), head=functools.partial(DuelingHead, hidden_size=4)
    ),
    "linear": lambda *shapes: MLP(*shapes, ()),
    "no bias": lambda *shapes: MLP(*shapes, (8,), linear=functools.partial(nn.Linear, bias=False)),
    "table": Table,
}


@pytest.mark.parametrize("name", BUILT)
def test_it_computes_the_same_and_sees_every_change_of_the_weights(name: str) -> None:
    net: Any = BUILT[name]((3, 2), (5,))
    observation = torch.randn(7, 3, 2)

    def assert_same(net: Any, forward: Any) -> None:
        expected = net(observation[None], None)[0][0].detach()
        assert_close(torch.from_numpy(forward(observation.numpy())), expected, rtol=1e-4, atol=1e-5)

    forward = speed.numpy_forward(net)
    assert_same(net, forward)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2.0)  # in place, as an optimizer does
    assert_same(net, forward)
    other = {name: torch.randn_like(value) for name, value in net.state_dict().items()}
    net.load_state_dict(other, assign=True)  # other tensors
    assert_same(net, forward)
    net, forward = copy.deepcopy((net, forward))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    assert_same(net, forward)


class OtherTorso(MLP):
    def torso(self, observation: Tensor, state: Any = None, is_first: Any = None) -> tuple[Tensor, Any]:
        features, state = super().torso(observation, state, is_first)
        return 2.0 * features, state


class OtherForward(MLP):
    def forward(self, observation: Tensor, state: Any = None, is_first: Any = None) -> tuple[Tensor, Any]:
        outputs, state = super().forward(observation, state, is_first)
        return -outputs, state


class OtherLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2.0 * super().forward(input)


class OtherHead(LinearHead):
    def forward(self, features: Tensor) -> Tensor:
        return 3.0 * super().forward(features)


def with_method(net: MLP) -> MLP:
    net.forward = lambda *args: (torch.zeros(1, 4, 2), None)  # type: ignore[method-assign]
    return net


def with_hook(net: MLP) -> MLP:
    net.hidden[0].register_forward_hook(lambda module, args, outputs: 2.0 * outputs)
    return net


def with_activation(net: MLP) -> MLP:
    net.head.value[1] = nn.Tanh()  # type: ignore[index, operator]
    return net


OTHERS: dict[str, Any] = {
    "a subclass with a torso": lambda: OtherTorso((3,), (2,)),
    "a subclass with a forward": lambda: OtherForward((3,), (2,)),
    "layers of a subclass": lambda: MLP((3,), (2,), linear=OtherLinear),
    "a head of a subclass": lambda: MLP((3,), (2,), head=OtherHead),
    "a head's layer": lambda: MLP((3,), (2,), head=functools.partial(LinearHead, linear=OtherLinear)),
    "a dueling head's layers": lambda: MLP((3,), (2,), head=functools.partial(DuelingHead, linear=OtherLinear)),
    "a method of one instance": lambda: with_method(MLP((3,), (2,))),
    "a hook": lambda: with_hook(MLP((3,), (2,))),
    "another activation": lambda: with_activation(MLP((3,), (2,), head=functools.partial(DuelingHead, hidden_size=4))),
    "normalized layers": lambda: MLP((3,), (2,), layer_norm=True),
    "noise": lambda: MLP((3,), (2,), linear=NoisyLinear),
    "a noisy head": lambda: MLP((3,), (2,), head=functools.partial(LinearHead, linear=NoisyLinear)),
    "distributions": lambda: MLP((3,), (2, 5)),
    "distributions of two streams": lambda: MLP((3,), (2, 5), head=DuelingHead),
    "memory": lambda: GRU((3,), (2,)),
    "frames": lambda: FrameStack((3,), (2,)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_anything_else_acts_through_torch(name: str) -> None:
    assert speed.numpy_forward(OTHERS[name]()) is None


@pytest.mark.parametrize("network", [OtherTorso, OtherForward])
def test_a_subclass_acts_as_it_learns(network: type[MLP]) -> None:
    dqn = DQN((3,), 2, network=network)
    observation = torch.randn(4, 3)
    expected = dqn.policy_net(observation[None])[0][0].detach()
    assert_close(torch.from_numpy(dqn.act_values(observation.numpy())[0]), expected)
    assert not torch.allclose(MLP._features(dqn.policy_net, observation[None]), torch.zeros(1))  # type: ignore[arg-type]


class Reversed(DQN):
    def q_values(self, outputs: Tensor) -> Tensor:
        return -outputs


def test_a_learner_with_values_of_its_own_acts_by_them() -> None:
    learner, plain = Reversed((3,), 2), DQN((3,), 2)
    plain.load_state_dict(learner.state_dict())
    observation = np.ones((4, 3), np.float32)
    np.testing.assert_allclose(learner.act_values(observation)[0], -plain.act_values(observation)[0], rtol=1e-5)


def test_rescaled_values_are_in_units_of_the_reward() -> None:
    learner, plain = DQN((3,), 2, value_rescaling=0.01), DQN((3,), 2)
    plain.load_state_dict(learner.state_dict())
    with torch.no_grad():
        for net in (learner.policy_net, plain.policy_net):
            net.head.output.bias.copy_(torch.tensor([1.03, -2.08]))  # type: ignore[union-attr, operator]
            net.head.output.weight.zero_()  # type: ignore[union-attr, operator]
    observation = np.ones((1, 3), np.float32)
    np.testing.assert_allclose(learner.act_values(observation)[0], [[3.0, -8.0]], rtol=1e-5)
    np.testing.assert_allclose(plain.act_values(observation)[0], [[1.03, -2.08]], rtol=1e-5)


def test_a_copy_of_a_learner_acts_by_its_own_weights() -> None:
    for learner in (DQN((3,), 2), DiscreteSAC((3,), 2).eval()):
        observation = np.ones((4, 3), np.float32)
        before = learner.act_values(observation)[0].copy()
        assert isinstance(learner._numpy_forward(), NumPyForward)
        twin = copy.deepcopy(learner)
        with torch.no_grad():
            for parameter in learner.parameters():
                parameter.zero_()
        np.testing.assert_array_equal(twin.act_values(observation)[0], before)
        assert not learner.act_values(observation)[0].any()


def test_another_network_in_its_place_is_asked() -> None:
    dqn = DQN((3,), 2)
    observation = np.ones((4, 3), np.float32)
    dqn.act_values(observation)
    dqn.policy_net = MLP((3,), (2,), (8,))
    expected = dqn.policy_net(torch.from_numpy(observation)[None])[0][0].detach()
    assert_close(torch.from_numpy(dqn.act_values(observation)[0]), expected, rtol=1e-4, atol=1e-5)


def test_the_observation_stays_as_it_is() -> None:
    observation = np.ones((2, 3), np.float32)
    forward = speed.numpy_forward(MLP((3,), (2,), ()))
    assert forward is not None
    forward(observation)
    assert (observation == 1.0).all()


def test_a_copied_learner_acts_by_its_own_weights() -> None:
    """Not by those of the network whose copy it began as."""
    learner = DQN((3,), 2, network=functools.partial(MLP, hidden_sizes=[4]))
    observation = np.ones((1, 3), np.float32)
    before, _ = learner.act_values(observation)  # the fast path is looked up here
    copied = copy.deepcopy(learner)
    with torch.no_grad():
        for weight in copied.policy_net.parameters():
            weight.zero_()
    assert not copied.act_values(observation)[0].any()
    assert np.array_equal(learner.act_values(observation)[0], before)
