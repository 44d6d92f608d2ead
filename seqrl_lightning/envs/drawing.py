"""Pictures of boards (a row of tiles, filled up to the position, with the last pick below) and of matrices."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from seqrl_lightning.types import BoolArray, FloatArray

_TILE, _GAP = 48, 8  # pixels
_CELL_WIDTH, _CELL_HEIGHT = 44, 26  # pixels
_DARK, _FRAME = (0, 80, 150), (213, 94, 0)
_DONE, _TODO, _INK, _PAPER = (76, 145, 101), (222, 222, 216), (40, 40, 40), (250, 250, 247)


def write_board(sequence: str, num_done: int, last_pick: str | None) -> str:
    """Return a board as one line of text, like ``[A][B] C  D  E   pick: B``.

    Args:
        sequence: The letters of the tiles.
        num_done: Number of tiles that are filled.
        last_pick: The letter of the last pick, if there was one.
    """
    tiles = "".join(f"[{letter}]" if i < num_done else f" {letter} " for i, letter in enumerate(sequence))
    return f"{tiles}  pick: {last_pick or '-'}\n"


def draw_matrix(
    values: FloatArray, rows: Sequence[str], columns: Sequence[str], is_marked: BoolArray | None = None
) -> NDArray[np.uint8]:
    """Draw a matrix as a heat map with its numbers, from white for the least to dark for the most.

    Args:
        values: ``[R, C] float``.
        rows: Names of the rows.
        columns: Names of the columns.
        is_marked: ``[R, C] bool``, the cells that get a frame.

    Returns:
        ``[H, W, 3] uint8``.
    """
    height, width = values.shape
    image = Image.new("RGB", ((width + 1) * _CELL_WIDTH, (height + 1) * _CELL_HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(_CELL_HEIGHT // 2)
    low, high = float(values.min()), float(values.max())
    for (r, c), value in np.ndenumerate(values):
        shade = (value - low) / (high - low) if high > low else 0.0
        left, top = (c + 1) * _CELL_WIDTH, (r + 1) * _CELL_HEIGHT
        color = tuple(int(255 + shade * (dark - 255)) for dark in _DARK)
        frame = _FRAME if is_marked is not None and is_marked[r, c] else "white"
        cell = (left + 1, top + 1, left + _CELL_WIDTH - 2, top + _CELL_HEIGHT - 2)
        draw.rectangle(cell, fill=color, outline=frame, width=2)
        middle = (left + _CELL_WIDTH / 2, top + _CELL_HEIGHT / 2)
        draw.text(middle, f"{value:.2f}", fill="white" if shade > 0.5 else _INK, font=font, anchor="mm")
    for r, name in enumerate(rows):
        draw.text((_CELL_WIDTH / 2, (r + 1.5) * _CELL_HEIGHT), name, fill=_INK, font=font, anchor="mm")
    for c, name in enumerate(columns):
        draw.text(((c + 1.5) * _CELL_WIDTH, _CELL_HEIGHT / 2), name, fill=_INK, font=font, anchor="mm")
    return np.asarray(image)


def draw_board(sequence: str, num_done: int, last_pick: str | None) -> NDArray[np.uint8]:
    """Draw a board.

    Args:
        sequence: The letters of the tiles.
        num_done: Number of tiles that are filled.
        last_pick: The letter of the last pick, if there was one.

    Returns:
        ``[H, W, 3] uint8``.
    """
    width = len(sequence) * (_TILE + _GAP) + _GAP
    image = Image.new("RGB", (width, 2 * _TILE + 3 * _GAP), _PAPER)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(_TILE // 2)
    for i, letter in enumerate(sequence):
        left = _GAP + i * (_TILE + _GAP)
        draw.rectangle((left, _GAP, left + _TILE, _GAP + _TILE), fill=_DONE if i < num_done else _TODO)
        draw.text((left + _TILE / 2, _GAP + _TILE / 2), letter, fill=_INK, font=font, anchor="mm")
    below = 2 * _GAP + _TILE * 3 / 2
    draw.text((_GAP, below), f"pick: {last_pick or '-'}", fill=_INK, font=font, anchor="lm")
    return np.asarray(image)
