"""Pictures of the tasks: the sequence as a row of tiles, filled as far as it was done, and the last pick below."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_TILE, _GAP = 48, 8  # pixels
_DONE, _TODO, _INK, _PAPER = (76, 145, 101), (222, 222, 216), (40, 40, 40), (250, 250, 247)


def write_board(sequence: str, num_done: int, last_pick: str | None) -> str:
    """The board as one line of text, like ``[A][B] C  D  E   pick: B``."""
    tiles = "".join(f"[{letter}]" if i < num_done else f" {letter} " for i, letter in enumerate(sequence))
    return f"{tiles}  pick: {last_pick or '-'}\n"


def draw_board(sequence: str, num_done: int, last_pick: str | None) -> NDArray[np.uint8]:
    """The board as a picture, [H, W, 3] uint8."""
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
