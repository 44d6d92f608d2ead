"""seqrl/PictureRecall-v0: remember the direction of the bar in the first picture."""

from typing import Any

import gymnasium as gym
import numpy as np

from seqrl_lightning.envs.pictures import BAR, BAR_LENGTH, as_pictures, draw_bars, draw_noise, has_vertical_bar
from seqrl_lightning.envs.rule import Script
from seqrl_lightning.envs.symbols import SymbolEnv, check_count
from seqrl_lightning.envs.task import Board
from seqrl_lightning.envs.vector import vectorized
from seqrl_lightning.types import Array, FloatArray


class PictureRecallEnv(SymbolEnv):
    """Remember the direction of the bar in the first picture over ``delay`` further pictures.

    - Observation: a picture, ``[size, size] uint8``. At step 0, the cue: a bar of 4 pixels somewhere in noise,
      horizontal or vertical. At steps 1 to ``delay``, distractors: others like it. At step ``delay + 1``, the question:
      noise alone.
    - Actions: ``Discrete(2)``. Action 0 names the horizontal bar, action 1 the vertical one. Actions before the last
      step earn 0 and change nothing.
    - Rewards: at the last step, 1 for naming the cue, -1 for the other direction.
    - Starting state: directions, places and noise are drawn uniformly and independently for each picture.
    - Episode end: the episode terminates after ``delay + 2`` steps.
    - Optimal return: 1. Without memory: 0, which is chance.

    Args:
        delay: Number of pictures between cue and question.
        size: Height and width of a picture, in pixels.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: If ``delay`` is negative, or there are too few pixels for a bar.
    """

    optimal_return = 1.0
    memoryless_return = 0.0

    def __init__(self, delay: int = 10, size: int = 8, render_mode: str | None = None) -> None:
        check_count("delay", delay, at_least=0)
        check_count("size", size, at_least=BAR_LENGTH)
        self.size = size
        super().__init__(2, delay + 2, -1.0, 1.0, False, render_mode)
        self.observation_space = gym.spaces.Box(0, 255, (size, size), np.uint8)

    def draw(self, rng: np.random.Generator) -> Script:
        """Draw cue, distractors and question, a row of pixels each."""
        pictures = draw_noise(rng, self.length, self.size)
        is_vertical = rng.random(self.length - 1) < 0.5
        draw_bars(rng, pictures[:-1], is_vertical)
        correct = np.full(self.length, -1)
        correct[-1] = is_vertical[0]
        return Script(pictures.reshape(self.length, -1).astype(np.float32), correct)

    def present(self, rows: FloatArray) -> Array:
        """Return rows of a script as pictures, ``[..., size, size] uint8``."""
        return as_pictures(rows, self.size)

    def in_words(self, observation: Any, letters: str) -> str:
        """Describe the bar."""
        if not observation.any():
            return "nothing"
        if not (observation == BAR).any():
            return "no bar: go"
        return f"a vertical bar ({letters[1]})" if has_vertical_bar(observation) else f"a horizontal bar ({letters[0]})"

    def board(self, script: Script, block: int, state: int, pick: int) -> Board:
        """Return the bars seen so far, ``-`` or ``|``, with ``.`` for none."""
        pictures = self.present(script.shown[: min(state + 1, self.length)])
        has_bar = (pictures == BAR).any((1, 2))
        bars = "".join(
            ("|" if has_vertical_bar(picture) else "-") if shows else "."
            for picture, shows in zip(pictures, has_bar.tolist(), strict=True)
        )
        return Board(bars, min(state, len(bars) - 1), None if pick < 0 else self.letters[pick])


PictureRecallVectorEnv = vectorized(PictureRecallEnv)
