"""Torsos in front of any network: one for each part of an observation, or one for a picture."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seqrl_lightning.networks.cnn import NatureCNN, SmallCNN, image_shape
from seqrl_lightning.networks.mlp import MLP
from seqrl_lightning.networks.network import Network, NetworkCallable
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.types import State, require

ARRAY = "observation"
"""The name of the only part of an observation that is an array."""


class Composed(Network):
    """A torso for each part of an observation; another network reads their features side by side.

    An observation that is an array, like a screen, is one part, named ``observation``: ``NatureCNN`` and an ``LSTM`` of
    512 units are the network of R2D2 (Kapturowski et al., ICLR 2019).

    By default a picture is read by ``NatureCNN``, one that is too small for it by ``SmallCNN``, and all other parts by
    an ``MLP``. Pictures are parts of uint8 and rank 2 or 3, and arrays of rank 2 to 4. The network that reads the
    features has the head; if it remembers, so does the whole. The rows and columns of a window are one batch to the
    torsos.

    Args:
        obs_shape: Shape of one observation, or its parts (:class:`~seqrl_lightning.parts.PackedShape`).
        out_shape: Shape of the outputs for one observation.
        torsos: Builds the torsos of some parts, by their names: networks without memory, whose heads aren't used.
        network: Builds the network that reads the features.

    Raises:
        ConfigurationError: If ``torsos`` names another part, or a network doesn't fit.
    """

    reads_parts = True

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        torsos: dict[str, NetworkCallable] | None = None,
        network: NetworkCallable = MLP,
    ) -> None:
        torsos, defaults = torsos or {}, default_torsos(obs_shape)
        unknown = sorted(set(torsos) - set(defaults))
        require(not unknown, "model.network.torsos", unknown, f"of the observations' parts: {', '.join(defaults)}")
        encoders = [_built(name, torsos.get(name, default), shape) for name, (shape, default) in defaults.items()]
        size = sum(encoder.feature_size for encoder in encoders)
        core = _network("network", network, (size,), out_shape)
        super().__init__(core.feature_size, out_shape, lambda *_: core.take_head())
        self.layout = obs_shape if isinstance(obs_shape, PackedShape) else None
        self.encoders = nn.ModuleList(encoders)  # in the order of the parts, whose names may be no names of modules
        self.core = core
        self.remembers = core.remembers

    def encode(self, observation: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Return the features of all parts side by side, ``[T, B, F]``.

        Args:
            observation: Arrays, ``[T, B, *obs]``, packed ones, ``[T, B, *obs] uint8``, or parts by name, each
                ``[T, B, *shape]``.
        """
        if self.layout is None:
            assert isinstance(observation, Tensor)
            features: Tensor = self.encoders[0](observation)[0]
            return features
        parts = observation if isinstance(observation, Mapping) else self.layout.unpack_tensor(observation)
        pairs = zip(self.layout.parts, self.encoders, strict=True)
        return torch.cat([encoder(parts[name])[0] for name, encoder in pairs], dim=-1)

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


def default_torsos(obs_shape: tuple[int, ...]) -> dict[str, tuple[tuple[int, ...], NetworkCallable]]:
    """Return the shape of each part of an observation, with its frames, and what builds its torso."""
    if not isinstance(obs_shape, PackedShape):
        return {ARRAY: (obs_shape, _default_torso(obs_shape, is_picture=2 <= len(obs_shape) <= 4))}
    shapes = {name: (part, obs_shape.shape_of(name)) for name, part in obs_shape.parts.items()}
    return {name: (shape, _default_torso(shape, part.is_picture)) for name, (part, shape) in shapes.items()}


def _default_torso(shape: tuple[int, ...], is_picture: bool) -> NetworkCallable:
    if not is_picture:
        return lambda obs_shape, out_shape: MLP(obs_shape, out_shape, hidden_sizes=(128,))
    return NatureCNN if min(image_shape(shape)[1:]) >= 36 else SmallCNN


def _built(name: str, builder: NetworkCallable, shape: tuple[int, ...]) -> Network:
    """Build the torso of a part."""
    torso = _network(f"torsos.{name}", builder, shape, (1,))
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
