"""Hidden units of networks: how active they are, and how they are reinitialized."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from seqrl_lightning.networks.cnn import ConvolutionalNetwork
from seqrl_lightning.networks.composed import Composed
from seqrl_lightning.networks.frame_stack import FrameStack
from seqrl_lightning.networks.heads import DuelingHead, LinearHead
from seqrl_lightning.networks.mlp import MLP
from seqrl_lightning.networks.network import Network
from seqrl_lightning.networks.noisy import NoisyLinear

_WEIGHTED = (nn.Linear, NoisyLinear, nn.Conv2d)
_KEEP_UNITS_APART = (nn.Identity, nn.Flatten, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)


class HiddenLayer(NamedTuple):
    """Units with a ReLU, and all layers that read them. A unit of a convolution is a channel.

    Attributes:
        name: Dotted name of the layer in its network.
        incoming: The layer, and the normalization between it and its ReLU, if there is one.
        readers: The layers that read the units.
        num_units: Number of units.
    """

    name: str
    incoming: tuple[nn.Module, ...]
    readers: tuple[nn.Module, ...]
    num_units: int


def hidden_layers(net: nn.Module) -> list[HiddenLayer]:
    """Return the layers of a network whose units can be told apart: a layer, its ReLU, and the layer that reads it.

    They are found in an ``MLP``, in convolutional networks, in the streams of a ``DuelingHead``, in the feed-forward
    layers of networks that remember, and in any ``nn.Sequential``. Units that are part of a sum (residual streams), of
    a memory, or of features that several networks share are left out.
    """
    names = {module: name for name, module in net.named_modules()}
    found: dict[nn.Module, HiddenLayer] = {}
    for module in net.modules():  # a chain comes before its parts
        for incoming, readers in _read_pairs(_chain(module)):
            units = len(next(incoming[0].parameters()))
            found.setdefault(incoming[0], HiddenLayer(names[incoming[0]], incoming, readers, units))
    return list(found.values())


@contextmanager
def mean_activations(layers: Iterable[HiddenLayer]) -> Iterator[Callable[[], list[Tensor]]]:
    """Observe units while their network reads something.

    Yields:
        A function that returns the mean of ``|activation|`` of each layer's units, ``[num_units]`` float each, over
        all that was read so far.
    """
    seen: dict[str, list[Tensor]] = {}
    hooks = []
    for layer in layers:
        rows = seen[layer.name] = []

        def observe(
            reader: nn.Module, inputs: tuple[Tensor, ...], rows: list[Tensor] = rows, num_units: int = layer.num_units
        ) -> None:
            units = inputs[0].detach().abs()
            if not isinstance(reader, nn.Conv2d):
                units = units.flatten(0, -2)
            units = units.reshape(len(units), num_units, -1)  # a channel has several pixels, also where it is flattened
            rows.append(units.mean((0, 2), dtype=torch.float32))

        hooks.append(layer.readers[0].register_forward_pre_hook(observe))
    try:
        yield lambda: [torch.stack(rows).mean(0) for rows in seen.values()]
    finally:
        for hook in hooks:
            hook.remove()


def recycle(layer: HiddenLayer, fresh: HiddenLayer, is_recycled: Tensor, optimizer: Optimizer) -> None:
    """Reinitialize units: incoming weights as in a new network, outgoing weights 0, the optimizer's state of both 0.

    Args:
        layer: The layer.
        fresh: The same layer of a new network.
        is_recycled: [num_units] bool.
        optimizer: Holds moments of the weights; its step counts stay.
    """
    for module, fresh_module in zip(layer.incoming, fresh.incoming, strict=True):
        for parameter, new in zip(module.parameters(), fresh_module.parameters(), strict=True):
            _replace(parameter, new, is_recycled.view(-1, *[1] * (parameter.dim() - 1)), optimizer)
    for reader in layer.readers:
        for parameter in reader.parameters():
            if parameter.dim() > 1:  # biases belong to the reader's own units
                columns = parameter.flatten(1).shape[1] // layer.num_units
                mask = is_recycled.repeat_interleave(columns).view(1, *parameter.shape[1:])
                _replace(parameter, torch.zeros_like(parameter), mask, optimizer)


def reset(module: nn.Module, fresh: nn.Module, optimizer: Optimizer) -> None:
    """Reinitialize a module: weights and buffers as in a new network, and the optimizer's state of them cleared."""
    with torch.no_grad():
        for tensor, new in zip(module.state_dict().values(), fresh.state_dict().values(), strict=True):
            tensor.copy_(new)
    for parameter in module.parameters():
        for value in optimizer.state.get(parameter, {}).values():
            if isinstance(value, Tensor):
                value.zero_()


@torch.no_grad()
def _replace(parameter: nn.Parameter, new: Tensor, mask: Tensor, optimizer: Optimizer) -> None:
    """Replace a parameter where ``mask`` is true, in place: others hold its memory. Nothing waits for the device."""
    parameter.copy_(torch.where(mask, new, parameter))
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value.masked_fill_(mask, 0.0)


def _chain(module: nn.Module) -> list[nn.Module]:
    """Return the modules that a module calls one after the other, each on what the one before returned."""
    if type(module) is nn.Sequential:
        return [inner for child in module for inner in _chain(child) or [child]]
    if type(module) in (MLP, FrameStack):
        assert isinstance(module, MLP)
        return [inner for layer in module.hidden for inner in (*(_chain(layer) or [layer]), nn.ReLU())] + [module.head]
    if type(module) is Composed and (core := _chain(module.core)):
        return [*core[:-1], module.head]  # in place of the core's own, which was taken
    if isinstance(module, ConvolutionalNetwork):
        is_plain = type(module).torso is ConvolutionalNetwork.torso and type(module).forward is Network.forward
        parts = [module.convolutions, module.hidden]
        return [inner for part in parts for inner in _chain(part) or [part]] + [module.head] if is_plain else []
    return []


def _read_pairs(chain: list[nn.Module]) -> Iterator[tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]]]:
    """Yield layers with a ReLU, each with its normalization, and the layers of a chain that read them."""
    incoming: tuple[nn.Module, ...] = ()
    has_relu = False
    for module in chain:
        readers = _readers(module)
        if readers:
            if incoming and has_relu:
                yield incoming, readers
            is_layer = type(module) in _WEIGHTED
            incoming, has_relu = ((module,) if is_layer else ()), False
        elif type(module) is nn.LayerNorm and len(incoming) == 1 and not has_relu:
            incoming = (*incoming, module)
        elif type(module) is nn.ReLU:
            has_relu = True
        elif type(module) not in _KEEP_UNITS_APART:
            incoming = ()


def _readers(module: nn.Module) -> tuple[nn.Module, ...]:
    """Return the layers of a module that read its input, if they are all that does."""
    if type(module) is LinearHead:
        return _readers(module.output)
    if type(module) is DuelingHead:
        streams = _readers(module.value[0]), _readers(module.advantage[0])
        return (*streams[0], *streams[1]) if all(streams) else ()
    is_layer = type(module) in _WEIGHTED and (not isinstance(module, nn.Conv2d) or module.groups == 1)
    return (module,) if is_layer else ()
