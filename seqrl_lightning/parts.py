"""Observations that have parts, like a picture and numbers, packed into one row of bytes.

Between the border, which packs, and the network, which unpacks, a composed observation is an array like any other: the
replay memory stores it once, and n-step returns, stacks and windows don't know about its parts.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor

from seqrl_lightning.types import Array, require

_DTYPES = ("uint8", "int8", "int16", "int32", "int64", "float32")  # that parts are stored in


class Part(NamedTuple):
    """One part of an observation, and its place in the row."""

    dtype: str  # NumPy's name
    shape: tuple[int, ...]  # in one frame
    start: int  # its first byte
    end: int  # the byte after its last one

    @property
    def is_picture(self) -> bool:
        """Whether it is a picture; see :func:`is_picture`."""
        return is_picture(self.dtype, self.shape)


class PackedSettings(TypedDict):
    """A :class:`PackedShape` as plain values, which configs and checkpoints hold."""

    parts: dict[str, list[int | str]]  # the dtype of each part, and its shape
    num_frames: int


class PackedShape(tuple[int, ...]):
    """The shape of packed observations, ``(num_bytes,)``, or ``(num_frames, num_bytes)`` for stacks, and their parts.

    Parts with larger numbers come first in the row, whose length is a multiple of the largest. Every part thus lies
    where its numbers can be read in place, without a copy.

    >>> shape = PackedShape({"picture": ("uint8", (2, 2)), "numbers": ("float32", (3,))})
    >>> tuple(shape), shape.parts["picture"].start
    ((16,), 12)

    Args:
        parts: The dtype and the shape of each part.
        num_frames: Number of frames that are shown as one observation.

    Attributes:
        parts: The parts, in the order that was given.
        num_frames: Number of frames.
    """

    parts: dict[str, Part]
    num_frames: int

    def __new__(cls, parts: Mapping[str, tuple[str, tuple[int, ...]]], num_frames: int = 1) -> "PackedShape":
        """Lay the parts out."""
        sizes = {name: np.dtype(dtype).itemsize for name, (dtype, _) in parts.items()}
        places, end = {}, 0
        for name in sorted(parts, key=lambda name: -sizes[name]):
            start, end = end, end + sizes[name] * math.prod(parts[name][1])
            places[name] = start, end
        largest = max(sizes.values(), default=1)
        num_bytes = -(-end // largest) * largest
        shape = super().__new__(cls, (num_bytes,) if num_frames == 1 else (num_frames, num_bytes))
        shape.parts = {name: Part(dtype, tuple(size), *places[name]) for name, (dtype, size) in parts.items()}
        shape.num_frames = num_frames
        return shape

    def __reduce__(self) -> tuple[type["PackedShape"], tuple[dict[str, tuple[str, tuple[int, ...]]], int]]:
        """Copy and pickle by what it was made of."""
        return PackedShape, ({name: part[:2] for name, part in self.parts.items()}, self.num_frames)

    def __str__(self) -> str:
        """Name the parts, like ``picture uint8(8, 8), numbers float32(4,)``."""
        return ", ".join(f"{name} {part.dtype}{self.shape_of(name)}" for name, part in self.parts.items())

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Return the shape of a part as networks read it, with the frames in front if there are several."""
        frames = () if self.num_frames == 1 else (self.num_frames,)
        return (*frames, *self.parts[name].shape)

    def pack(self, parts: Mapping[str, Array]) -> Array:
        """Pack the arrays of all parts, each ``[..., *shape]``, into rows, ``[..., num_bytes] uint8``."""
        name, part = next(iter(self.parts.items()))
        lead = parts[name].shape[: parts[name].ndim - len(part.shape)]
        rows = np.zeros((*lead, self[-1]), np.uint8)
        for name, part in self.parts.items():
            array = np.ascontiguousarray(parts[name], part.dtype)
            rows[..., part.start : part.end] = array.reshape(*lead, -1).view(np.uint8)
        return rows

    def unpack(self, rows: Array) -> dict[str, Array]:
        """Return the parts of rows, ``[..., num_bytes] uint8``, each as a view of them, ``[..., *shape]``."""
        lead = rows.shape[:-1]
        return {
            name: rows[..., part.start : part.end].view(part.dtype).reshape((*lead, *part.shape))
            for name, part in self.parts.items()
        }

    def unpack_tensor(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the parts of rows, ``[..., num_bytes] uint8``, each ``[..., *shape]`` on the rows' device."""
        lead = rows.shape[:-1]
        return {
            name: rows[..., part.start : part.end].view(torch_dtype(part.dtype)).reshape((*lead, *part.shape))
            for name, part in self.parts.items()
        }

    def settings(self) -> PackedSettings:
        """Return plain values from which :func:`shape_of_observation` makes the same shape."""
        return {
            "parts": {name: [part.dtype, *part.shape] for name, part in self.parts.items()},
            "num_frames": self.num_frames,
        }


ObsShape = tuple[int, ...] | PackedSettings
"""The shape of one observation: of an array, or what :meth:`PackedShape.settings` says about its parts."""


def shape_of_observation(shape: ObsShape) -> tuple[int, ...]:
    """Return the shape of one observation; of parts, a :class:`PackedShape`.

    Raises:
        ConfigurationError: If parts have no dtype that is stored, or no shape.
    """
    if isinstance(shape, PackedShape) or not isinstance(shape, Mapping):
        return shape if isinstance(shape, PackedShape) else tuple(shape)
    parts, num_frames = shape.get("parts"), shape.get("num_frames")
    fits = isinstance(parts, Mapping) and len(parts) > 0 and isinstance(num_frames, int) and num_frames > 0
    fits = fits and all(map(_is_part, parts.values()))
    must_be = f"parts by their names, each with a dtype ({', '.join(_DTYPES)}) and a shape, and num_frames of 1 or more"
    require(fits, "the observations' shape", str(shape)[:60], must_be)
    return PackedShape({name: (str(part[0]), tuple(map(int, part[1:]))) for name, part in parts.items()}, num_frames)


def _is_part(part: object) -> bool:
    """Return whether plain values, which may come from a file, say a part's dtype and shape."""
    if not isinstance(part, list | tuple) or not part or part[0] not in _DTYPES:
        return False
    return all(isinstance(size, int) and size >= 0 for size in part[1:])


def plain_shape(shape: tuple[int, ...]) -> ObsShape:
    """Return a shape as plain values, the inverse of :func:`shape_of_observation`."""
    return shape.settings() if isinstance(shape, PackedShape) else tuple(shape)


def blank_observations(shape: tuple[int, ...], length: int = 1, batch_size: int = 1) -> Tensor:
    """Return observations that are all zero, ``[length, batch_size, *shape]``, to try a network on."""
    dtype = torch.uint8 if isinstance(shape, PackedShape) else torch.float32
    return torch.zeros(length, batch_size, *shape, dtype=dtype)


def is_picture(dtype: str, shape: tuple[int, ...]) -> bool:
    """Return whether a part is a picture: uint8, ``[H, W]``, ``[C, H, W]`` or ``[H, W, C]``."""
    return dtype == "uint8" and len(shape) in (2, 3)


def torch_dtype(dtype: str) -> torch.dtype:
    """Return torch's dtype for NumPy's name of it."""
    return torch.from_numpy(np.empty(0, dtype)).dtype
