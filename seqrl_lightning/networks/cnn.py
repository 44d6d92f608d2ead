"""Convolutional networks for images."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from seqrl_lightning.networks.heads import HeadCallable, LinearCallable, LinearHead
from seqrl_lightning.networks.network import Network
from seqrl_lightning.types import State, require


class ConvolutionalNetwork(Network):
    """Convolutions over images, then a linear layer with ReLU.

    An observation is an image ``[H, W]``, ``[C, H, W]`` or ``[H, W, C]`` (the smaller of the first and the last
    dimension holds the channels), or a stack of ``K`` such images, whose channels are concatenated. uint8 images are
    scaled from 0..255 to 0..1 here, so that they can be stored as they are; other dtypes are not scaled.

    Args:
        obs_shape: Shape of one observation.
        out_shape: Shape of the outputs for one observation.
        convolutions: A module ``[N, C, H, W] -> [N, C', H', W']``.
        hidden_size: Units of the linear layer; None for no such layer.
        head: Builds the head.
        linear: Builds the linear layer.
        layer_norm: Whether the linear layer is normalized before its ReLU.
    """

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        convolutions: nn.Module,
        hidden_size: int | None,
        head: HeadCallable,
        linear: LinearCallable,
        layer_norm: bool = False,
    ) -> None:
        require(
            hidden_size is None or hidden_size > 0,
            "model.network.hidden_size",
            hidden_size,
            "positive, or null for none",
        )
        with torch.no_grad():
            flat_size = convolutions(torch.zeros(1, *image_shape(obs_shape))).numel()
        super().__init__(hidden_size or flat_size, out_shape, head)
        self.convolutions = convolutions
        self.hidden: nn.Module = nn.Identity()
        if hidden_size is not None:
            norm = [nn.LayerNorm(hidden_size)] if layer_norm else []
            self.hidden = nn.Sequential(linear(flat_size, hidden_size), *norm, nn.ReLU())

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """``[T, B, *obs] -> [T, B, feature_size]``; the state is passed through."""
        images = channels_first(observation.flatten(0, 1)).to(self.dtype)
        if observation.dtype == torch.uint8:
            images = images / 255.0
        features = self.hidden(self.convolutions(images).flatten(1))
        return features.unflatten(0, observation.shape[:2]), state


class NatureCNN(ConvolutionalNetwork):
    """The network of Mnih et al., Nature 518 (2015): three convolutions and a linear layer.

    Args:
        obs_shape: Shape of one observation: an image, as in :class:`ConvolutionalNetwork`, of at least 36 x 36.
        out_shape: Shape of the outputs for one observation.
        hidden_size: Units of the linear layer; None for no such layer (the head has its own in Rainbow).
        head: Builds the head.
        linear: Builds the linear layer.
        layer_norm: Whether each convolution and the linear layer are normalized before their ReLU, over all of an
            image's channels and pixels (as in PQN, arXiv:2407.04811).

    Raises:
        ConfigurationError: If observations are not images, or are too small.
    """

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        hidden_size: int | None = 512,
        head: HeadCallable = LinearHead,
        linear: LinearCallable = nn.Linear,
        layer_norm: bool = False,
    ) -> None:
        n_channels, *size = image_shape(obs_shape)
        require(min(size) >= 36, "the observations' shape", tuple(obs_shape), "at least 36 x 36 pixels for NatureCNN")
        layers: list[nn.Module] = []
        for n_in, n_out, kernel_size, stride in ((n_channels, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)):
            layers.append(nn.Conv2d(n_in, n_out, kernel_size, stride))
            size = [(length - kernel_size) // stride + 1 for length in size]
            layers += [nn.LayerNorm([n_out, *size]), nn.ReLU()] if layer_norm else [nn.ReLU()]
        super().__init__(obs_shape, out_shape, nn.Sequential(*layers), hidden_size, head, linear, layer_norm)


class SmallCNN(ConvolutionalNetwork):
    """Two convolutions of 3 x 3 and a linear layer, for pictures of a few pixels, like those of gridworlds.

    Args:
        obs_shape: Shape of one observation: an image of any size, as in :class:`ConvolutionalNetwork`.
        out_shape: Shape of the outputs for one observation.
        channels: Channels of each convolution.
        hidden_size: Units of the linear layer; None for no such layer.
        head: Builds the head.
        linear: Builds the linear layer.

    Raises:
        ConfigurationError: If observations are not images, or a size is not positive.
    """

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        channels: tuple[int, ...] = (16, 32),
        hidden_size: int | None = 128,
        head: HeadCallable = LinearHead,
        linear: LinearCallable = nn.Linear,
    ) -> None:
        require(min(channels, default=1) > 0, "model.network.channels", channels, "positive sizes")
        sizes = [image_shape(obs_shape)[0], *channels]
        layers = [nn.Sequential(nn.Conv2d(n, m, 3, padding=1), nn.ReLU()) for n, m in itertools.pairwise(sizes)]
        super().__init__(obs_shape, out_shape, nn.Sequential(*layers), hidden_size, head, linear)


class ImpalaResNet(ConvolutionalNetwork):
    """The residual network of IMPALA (arXiv:1802.01561, fig. 3, right), with the extensions of Beyond The Rainbow.

    Args:
        obs_shape: Shape of one observation: an image, as in :class:`ConvolutionalNetwork`.
        out_shape: Shape of the outputs for one observation.
        width_scale: Factor of the three stages' channels, 16, 32 and 32.
        spectral_norm: Whether the residual blocks' convolutions are divided by their largest singular value
            (arXiv:2411.03820, after arXiv:2105.05246).
        pool_size: Height and width of the adaptive max-pooling's output (arXiv:2411.03820); None for no pooling.
        hidden_size: Units of the linear layer; None for no such layer (the head has its own in Beyond The Rainbow).
        head: Builds the head.
        linear: Builds the linear layer.

    Raises:
        ConfigurationError: If observations are not images, or a size is not positive.
    """

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        width_scale: int = 1,
        spectral_norm: bool = False,
        pool_size: int | None = 6,
        hidden_size: int | None = 256,
        head: HeadCallable = LinearHead,
        linear: LinearCallable = nn.Linear,
    ) -> None:
        require(width_scale > 0, "model.network.width_scale", width_scale, "at least 1")
        require(
            pool_size is None or pool_size > 0, "model.network.pool_size", pool_size, "at least 1, or null for none"
        )
        channels = [image_shape(obs_shape)[0], *(width_scale * size for size in (16, 32, 32))]
        stages = [_stage(n_in, n_out, spectral_norm) for n_in, n_out in itertools.pairwise(channels)]
        pool = nn.Identity() if pool_size is None else nn.AdaptiveMaxPool2d(pool_size)
        convolutions = nn.Sequential(*stages, nn.ReLU(), pool)
        super().__init__(obs_shape, out_shape, convolutions, hidden_size, head, linear)


class ResidualBlock(nn.Module):
    """``x + conv(relu(conv(relu(x))))`` with kernels of 3 x 3."""

    def __init__(self, n_channels: int, spectral_norm: bool) -> None:
        super().__init__()

        def convolution() -> nn.Module:
            layer = nn.Conv2d(n_channels, n_channels, kernel_size=3, padding=1)
            return parametrizations.spectral_norm(layer) if spectral_norm else layer

        self.residual = nn.Sequential(nn.ReLU(), convolution(), nn.ReLU(), convolution())

    def forward(self, images: Tensor) -> Tensor:
        """``[N, C, H, W] -> [N, C, H, W]``."""
        outputs: Tensor = images + self.residual(images)
        return outputs


def _stage(n_in: int, n_out: int, spectral_norm: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel_size=3, padding=1),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        ResidualBlock(n_out, spectral_norm),
        ResidualBlock(n_out, spectral_norm),
    )


def image_shape(obs_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width of one observation, as :func:`channels_first` arranges them.

    Raises:
        ConfigurationError: If observations are not images.
    """
    expected = "an image's: (H, W), (C, H, W), (H, W, C), or (K, ...) for a stack of images"
    require(2 <= len(obs_shape) <= 4, "the observations' shape", tuple(obs_shape), expected)
    n_channels, height, width = channels_first(torch.empty(1, *obs_shape, device="meta")).shape[1:]
    return n_channels, height, width


def channels_first(observation: Tensor) -> Tensor:
    """Arrange images for convolutions: ``[N, *obs] -> [N, C, H, W]``, for the shapes of ConvolutionalNetwork."""
    if observation.ndim == 3:
        return observation.unsqueeze(1)
    if observation.shape[-1] < observation.shape[-3]:
        observation = observation.movedim(-1, -3)
    return observation.flatten(1, -3)
