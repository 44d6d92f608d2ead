"""Linear layers computed by NumPy, for acting: on a few rows torch costs several times the arithmetic."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from seqrl_lightning.types import FloatArray


class NumPyLayers:
    """Linear layers over the parameters' own memory: ``[N, n_in] -> [N, n_out]`` float32.

    What an optimizer or ``load_state_dict`` writes is seen at once; a parameter that has moved is looked up again.

    Args:
        layers: Linear layers on the CPU.
        num_relu: After how many of the layers, from the first on, there is a ReLU.
    """

    def __init__(self, layers: Sequence[nn.Linear], num_relu: int) -> None:
        # Their own dictionaries: looking `layer.weight` up takes as long as a small product.
        self._parameters: list[dict[str, Any]] = [layer._parameters for layer in layers]
        self._num_relu = num_relu
        self._addresses: list[int] = []
        self._arrays: list[tuple[FloatArray, FloatArray | None]] = []

    def __call__(self, features: FloatArray) -> FloatArray:
        """Computes the layers; the argument is left as it is."""
        for index, (weight, bias) in enumerate(self._weights_and_biases()):
            features = features @ weight
            if bias is not None:
                features += bias
            if index < self._num_relu:
                np.maximum(features, 0.0, out=features)
        return features

    def _weights_and_biases(self) -> list[tuple[FloatArray, FloatArray | None]]:
        parameters = [p for of_layer in self._parameters for p in (of_layer["weight"], of_layer["bias"])]
        addresses = [0 if p is None else p.data_ptr() for p in parameters]
        if addresses != self._addresses:
            arrays: list[Any] = [None if p is None else p.detach().numpy() for p in parameters]
            self._arrays = [(weight.T, bias) for weight, bias in zip(arrays[::2], arrays[1::2], strict=True)]
            self._addresses = addresses
        return self._arrays


def numpy_layers(modules: Sequence[nn.Module], num_relu: int = 0) -> NumPyLayers | None:
    """The modules in NumPy, with a ReLU after the first ``num_relu``; None if they aren't all plain linear layers."""
    layers = [module for module in modules if type(module) is nn.Linear]
    return NumPyLayers(layers, num_relu) if len(layers) == len(modules) else None
