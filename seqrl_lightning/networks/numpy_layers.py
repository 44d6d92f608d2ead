"""Linear layers seen from NumPy, for acting: on a few rows torch costs several times the arithmetic."""

from collections.abc import Sequence

import numpy as np
from torch import nn

from seqrl_lightning.types import FloatArray


class NumPyLayers:
    """The weights and biases of linear layers as NumPy arrays over the parameters' own memory.

    What an optimizer or ``load_state_dict`` writes is seen at once; a parameter that has moved is looked up again.

    Args:
        layers: Linear layers on the CPU.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._layers = layers
        self._addresses: list[int] = []
        self._arrays: list[tuple[FloatArray, FloatArray]] = []

    def __call__(self) -> list[tuple[FloatArray, FloatArray]]:
        """Returns (weight [n_in, n_out], bias [n_out]) of each layer; a layer without a bias has a zero instead."""
        parameters = [p for layer in self._layers for p in (layer.weight, layer.bias)]
        addresses = [0 if p is None else p.data_ptr() for p in parameters]
        if addresses != self._addresses:
            arrays = [np.zeros(()) if p is None else p.detach().numpy() for p in parameters]
            self._arrays = [(weight.T, bias) for weight, bias in zip(arrays[::2], arrays[1::2], strict=True)]
            self._addresses = addresses
        return self._arrays
