"""Networks for observations that have parts, like a picture and numbers."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seqrl_lightning.networks.cnn import NatureCNN, SmallCNN, image_shape
from seqrl_lightning.networks.mlp import MLP
from seqrl_lightning.networks.network import Network, NetworkCallable
from seqrl_lightning.parts import PackedShape, Part
from seqrl_lightning.types import ConfigurationError, State, require


class Composed(Network):
    """A torso for each part of an observation; another network reads their features side by side.

    By default a picture (uint8, of rank 2 or 3) is read by ``NatureCNN``, one that is too small for it by ``SmallCNN``,
    and all other parts by an ``MLP``. The network that reads the features has the head; if it remembers, so does the
    whole.

    Args:
        obs_shape: Shape of one observation, with its parts (:class:`~seqrl_lightning.parts.PackedShape`).
        out_shape: Shape of the outputs for one observation.
        torsos: Builds the torsos of some parts, by their names: networks without memory, whose heads aren't used.
        network: Builds the network that reads the features.

    Raises:
        ConfigurationError: If observations have no parts, ``torsos`` names another part, or a network doesn't fit.
    """

    reads_parts = True

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        torsos: dict[str, NetworkCallable] | None = None,
        network: NetworkCallable = MLP,
    ) -> None:
        if not isinstance(obs_shape, PackedShape):
            must_be = f"another one: the observations have no parts, but the shape {tuple(obs_shape)}"
            raise ConfigurationError(f"model.network is 'Composed'; it must be {must_be}")
        unknown = sorted(set(torsos or {}) - set(obs_shape.parts))
        require(
            not unknown, "model.network.torsos", unknown, f"of the observations' parts: {', '.join(obs_shape.parts)}"
        )
        builders = {name: (torsos or {}).get(name) for name in obs_shape.parts}
        encoders = [_built(name, builders[name], obs_shape) for name in obs_shape.parts]
        size = sum(encoder.feature_size for encoder in encoders)
        core = _network("network", network, (size,), out_shape)
        super().__init__(core.feature_size, out_shape, lambda *_: core.take_head())
        self.layout = obs_shape
        self.encoders = nn.ModuleList(encoders)  # in the order of the parts, whose names may be no names of modules
        self.core = core
        self.remembers = core.remembers

    def encode(self, observation: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Return the features of all parts side by side, ``[T, B, F]``.

        Args:
            observation: Packed observations, ``[T, B, *obs] uint8``, or their parts by name, each ``[T, B, *shape]``.
        """
        parts = observation if isinstance(observation, Mapping) else self.layout.unpack_tensor(observation)
        features = [encoder(parts[name])[0] for name, encoder in zip(self.layout.parts, self.encoders, strict=True)]
        return torch.cat(features, dim=-1)

    def run_torso(
        self, observation: Tensor | Mapping[str, Tensor], state: State = None, is_first: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Encode the parts and call the torso of ``network``, which may want ``is_first`` on the CPU."""
        features: tuple[Tensor, State] = self.core.run_torso(self.encode(observation), state, is_first)
        return features

    def torso(
        self, observation: Tensor | Mapping[str, Tensor], state: State = None, is_first: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """``[T, B, *obs] -> [T, B, feature_size]``, and the state of ``network``."""
        return self.run_torso(observation, state, is_first)


def default_torso(part: Part, shape: tuple[int, ...]) -> NetworkCallable:
    """Return what builds the torso of a part whose shape, with its frames, is ``shape``."""
    if not part.is_picture:
        return lambda obs_shape, out_shape: MLP(obs_shape, out_shape, hidden_sizes=(128,))
    return NatureCNN if min(image_shape(shape)[1:]) >= 36 else SmallCNN


def _built(name: str, builder: NetworkCallable | None, layout: PackedShape) -> Network:
    """Build the torso of a part."""
    part, shape = layout.parts[name], layout.shape_of(name)
    torso = _network(f"torsos.{name}", builder or default_torso(part, shape), shape, (1,))
    torso.take_head()
    with torch.no_grad():
        features, state = torso(torch.zeros(1, 1, *shape))
    must_be = f"a network that turns {shape} into features, without memory"
    fits = features.shape == (1, 1, torso.feature_size) and state is None
    require(fits, f"model.network.torsos.{name}", type(torso).__name__, must_be)
    return torso


def _network(name: str, builder: NetworkCallable, obs_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> Network:
    """Build a network that computes its outputs as head(torso(observation)), as those can be composed."""
    built = builder(obs_shape, out_shape)
    is_usable = isinstance(built, Network) and type(built).forward in (Network.forward, MLP.forward)
    must_be = "a Network that computes its outputs as head(torso(observation)), without a forward of its own"
    require(is_usable, f"model.network.{name}", type(built).__name__, must_be)
    return built
