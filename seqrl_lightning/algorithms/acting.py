"""Acting: a learner's networks, and the values by which actions are chosen."""

import copy
import functools
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from seqrl_lightning import speed
from seqrl_lightning.algorithms.building import build_network
from seqrl_lightning.algorithms.checkpointed import CheckpointedModule
from seqrl_lightning.algorithms.settings import require_positive
from seqrl_lightning.functional import rescale_values, unscale_values
from seqrl_lightning.networks import NetworkCallable, Table
from seqrl_lightning.networks.normalization import Normalization
from seqrl_lightning.parts import ObsShape, PackedShape, blank_observations, shape_of_observation
from seqrl_lightning.types import Array, BoolArray, State, require


class ActingModule(CheckpointedModule):
    """The networks of a learner, and acting by them, which needs no optimizer.

    Args:
        obs_shape: Shape of one observation.
        n_actions: Number of actions.
        network: Builds the network from ``obs_shape`` and the shape of its outputs for one observation.
        gamma: Discount factor, in [0, 1].
        value_rescaling: The epsilon of the rescaling of values; None for none.
        normalize_observations: Whether the network reads normalized observations.
        normalize_rewards: Whether rewards are divided by the running standard deviation of the discounted return.

    Attributes:
        policy_net: The network to act by.
        target_net: A copy of it, without gradients.
        normalization: The running statistics of observations and rewards.

    Raises:
        ConfigurationError: If a setting can't work, or the network doesn't fit the task.
    """

    _builders: ClassVar[tuple[str, ...]] = ("_network",)  # attributes that only training needs

    def __init__(
        self,
        obs_shape: ObsShape,
        n_actions: int,
        network: NetworkCallable,
        gamma: float,
        value_rescaling: float | None,
        normalize_observations: bool,
        normalize_rewards: bool,
    ) -> None:
        super().__init__()
        require(0 <= gamma <= 1, "model.gamma", gamma, "in [0, 1]")
        require_positive(value_rescaling=value_rescaling)
        self.obs_shape = shape_of_observation(obs_shape)
        self.n_actions = n_actions
        self.gamma = gamma
        self.value_rescaling = value_rescaling
        self._network = network
        self._fast_acting: tuple[nn.Module, speed.NumPyForward | None] | None = None  # of which network
        self.policy_net = self.build_network(network)
        self.target_net = copy.deepcopy(self.policy_net).requires_grad_(False)
        self.normalization = Normalization(self.obs_shape, normalize_observations, normalize_rewards, gamma)
        must_be = "false with a Table, which reads one-hot states"
        is_scaled = normalize_observations and self.reads_states
        require(not is_scaled, "model.normalize_observations", normalize_observations, must_be)

    # The network's outputs: a subclass with other outputs overrides these two methods

    def build_network(self, network: NetworkCallable) -> nn.Module:
        """Build the network, here one that outputs a value for each action [T, B, A], and try it on one observation."""
        return build_network(network, self.obs_shape, (self.n_actions,))

    def q_values(self, outputs: Tensor) -> Tensor:
        """Return the expected return of each action, [..., A] in units of the reward, from the network's outputs."""
        return self.to_values(outputs)

    def fresh_network(self, seed: int) -> nn.Module:
        """Build another network of its kind, with other weights, on the same device, apart from torch's streams."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            return self.build_network(self._network).to(self.device)

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks of which ``policy_net`` is made; each reads observations."""
        return (self.policy_net,)

    def to_values(self, outputs: Tensor) -> Tensor:
        """Undo ``value_rescaling``: return the network's outputs in units of the reward."""
        return outputs if self.value_rescaling is None else unscale_values(outputs, self.value_rescaling)

    def to_outputs(self, values: Tensor) -> Tensor:
        """Apply ``value_rescaling``: the inverse of :meth:`to_values`."""
        return values if self.value_rescaling is None else rescale_values(values, self.value_rescaling)

    @functools.cached_property
    def remembers(self) -> bool:
        """Whether the network carries a state from step to step."""
        with torch.no_grad():
            return self.policy_net(blank_observations(self.obs_shape))[1] is not None

    @property
    def reads_states(self) -> bool:
        """Whether the network is a :class:`~seqrl_lightning.networks.Table`, or made of some: it reads states only."""
        has_parts = isinstance(self.obs_shape, PackedShape)  # one of which may be the state
        return not has_parts and any(isinstance(module, Table) for module in self.policy_net.modules())

    # Acting

    def act_values(
        self, observation: Array, state: State = None, is_first: BoolArray | None = None
    ) -> tuple[Array, State]:
        """Value each action; agent, evaluation and loaded policies all act through this.

        Args:
            observation: [N, *obs] of N environments.
            state: What the network carries from step to step; None at the start.
            is_first: [N] bool, where an episode starts, so that the state there is reset; None for nowhere.

        Returns:
            [N, n_actions] float32 and the next state.
        """
        forward_numpy = self._numpy_forward()
        if forward_numpy is not None and self.device.type == "cpu" and self.dtype == torch.float32:
            return forward_numpy(self.normalization.array(observation)), state
        with torch.inference_mode():
            observation_batch = torch.from_numpy(np.asarray(observation)).to(self.device).unsqueeze(0)
            observation_batch = self.normalization.observation(observation_batch)
            is_first_batch = None if is_first is None else torch.from_numpy(is_first).to(self.device).unsqueeze(0)
            outputs, state = self.policy_net(observation_batch, state, is_first_batch)
            return self.q_values(outputs).squeeze(0).float().cpu().numpy(), state

    @property
    def acting_net(self) -> nn.Module:
        """The network, with a torso and a head, that the values to act by come from."""
        return self.policy_net

    @property
    def plain_acting_net(self) -> nn.Module | None:
        """The network whose outputs are the values to act by, as they are; None if there is none."""
        acts_by_outputs = type(self).q_values is ActingModule.q_values and self.value_rescaling is None
        return self.policy_net if acts_by_outputs else None

    def acting_copy(self) -> Self:
        """Return a copy on the CPU, without a Trainer, that acts in another process and can't be trained."""
        copied = copy.copy(self)
        for name in self._builders:  # the command line's hold on to its parser, which can't be sent
            setattr(copied, name, None)
        return copy.deepcopy(copied).cpu()

    def acting_weights(self) -> dict[str, Tensor]:
        """Return copies of what such a copy acts by, on the CPU: all parameters and buffers except the target's."""
        state = self.state_dict()
        acting = (name for name in state if not name.startswith("target_net."))
        return {name: state[name].detach().to("cpu", copy=True) for name in acting}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the fast path for acting out of copies: it reads the weights of the network that it was made for."""
        return {**super().__getstate__(), "_fast_acting": None}

    def _numpy_forward(self) -> speed.NumPyForward | None:
        """Return the fast path for acting, which is looked up once for each network."""
        net = self.plain_acting_net
        if net is None:
            return None
        if self._fast_acting is None or self._fast_acting[0] is not net:
            self._fast_acting = net, speed.numpy_forward(net)
        return self._fast_acting[1]
