"""Pictures of a bar in noise, which picture tasks show."""

import numpy as np

from seqrl_lightning.types import Array, BoolArray, FloatArray

BAR_LENGTH = 4  # pixels
BAR = 255  # the brightness of a bar
NOISE = 100  # the brightness that the background stays below


def draw_noise(rng: np.random.Generator, length: int, size: int) -> FloatArray:
    """Draw pictures of noise, ``[length, size, size] float64`` of whole numbers."""
    return np.floor(NOISE * rng.random((length, size, size)))


def draw_bars(rng: np.random.Generator, pictures: FloatArray, is_vertical: BoolArray) -> None:
    """Draw a bar at a random place into each picture.

    Args:
        rng: The source of the places.
        pictures: ``[length, size, size]``; changed in place.
        is_vertical: ``[length]``, the bars' directions.
    """
    length, size, _ = pictures.shape
    lines, firsts = (rng.random((2, length)) * [[size], [size - BAR_LENGTH + 1]]).astype(np.int64)
    bars = firsts[:, None] + np.arange(BAR_LENGTH)  # [length, 4], the places along each bar
    across = np.broadcast_to(lines[:, None], bars.shape)
    rows, columns = np.where(is_vertical[:, None], [bars, across], [across, bars])
    pictures[np.arange(length)[:, None], rows, columns] = BAR


def has_vertical_bar(picture: Array) -> bool:
    """Return whether a picture shows a vertical bar."""
    return bool(((picture == BAR).sum(0) == BAR_LENGTH).any())


def as_pictures(rows: FloatArray, size: int) -> Array:
    """Return rows of a script, ``[..., size * size] float32``, as pictures, ``[..., size, size] uint8``."""
    return rows.astype(np.uint8).reshape(*rows.shape[:-1], size, size)
