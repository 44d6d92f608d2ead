"""seqrl/PictureCue-v0: a picture tells whether to pick the largest of some numbers or the smallest."""

from typing import Any

import gymnasium as gym
import numpy as np

from seqrl_lightning.envs.pictures import BAR_LENGTH, as_pictures, draw_bars, draw_noise, has_vertical_bar
from seqrl_lightning.envs.rule import Script
from seqrl_lightning.envs.symbols import SymbolEnv, check_count
from seqrl_lightning.envs.task import Board
from seqrl_lightning.envs.vector import vectorized
from seqrl_lightning.types import Array, FloatArray, IntArray


class PictureCueEnv(SymbolEnv):
    """Pick the largest of some numbers where the picture shows a horizontal bar, the smallest where it is vertical.

    - Observation: ``picture``, ``[size, size] uint8``, with a bar of 4 pixels somewhere in noise; and ``numbers``,
      ``[num_choices] float32`` in [-1, 1].
    - Actions: ``Discrete(num_choices)``. Action k picks number k.
    - Rewards: 1/T for the right number, -1/T for any other, with T the number of trials.
    - Starting state: bars, noise and numbers are drawn uniformly and independently for each trial.
    - Episode end: the episode terminates after T trials.
    - Optimal return: 1. From the numbers only: 0. From the picture only: 2 / num_choices - 1, which is chance.

    Args:
        num_choices: How many numbers there are.
        size: Height and width of the picture, in pixels.
        trials: Number of trials, T.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: If there are fewer than 2 numbers, no trials, or too few pixels for a bar.
    """

    optimal_return = 1.0

    def __init__(self, num_choices: int = 4, size: int = 8, trials: int = 8, render_mode: str | None = None) -> None:
        check_count("num_choices", num_choices, at_least=2)
        check_count("size", size, at_least=BAR_LENGTH)
        check_count("trials", trials)
        self.size = size
        reward = 1.0 / trials
        super().__init__(num_choices, trials, -reward, reward, False, render_mode)
        self.observation_space = gym.spaces.Dict(
            picture=gym.spaces.Box(0, 255, (size, size), np.uint8),
            numbers=gym.spaces.Box(-1.0, 1.0, (num_choices,), np.float32),
        )

    def draw(self, rng: np.random.Generator) -> Script:
        """Draw the trials' pictures and numbers, each in a row."""
        pictures = draw_noise(rng, self.length, self.size)
        is_vertical = rng.random(self.length) < 0.5
        draw_bars(rng, pictures, is_vertical)
        numbers = (2.0 * rng.random((self.length, self.num_symbols)) - 1.0).astype(np.float32)
        correct: IntArray = np.where(is_vertical, numbers.argmin(1), numbers.argmax(1))
        return Script(np.concatenate([pictures.reshape(self.length, -1), numbers], axis=1, dtype=np.float32), correct)

    def present(self, rows: FloatArray) -> dict[str, Array]:
        """Return rows of a script as pictures, ``[..., size, size] uint8``, and numbers, ``[..., num_choices]``."""
        num_pixels = self.size * self.size
        return {"numbers": rows[..., num_pixels:].copy(), "picture": as_pictures(rows[..., :num_pixels], self.size)}

    def in_words(self, observation: Any, letters: str) -> str:
        """Describe the bar and the numbers."""
        if not observation["picture"].any():
            return "nothing"
        bar = "a vertical bar" if has_vertical_bar(observation["picture"]) else "a horizontal bar"
        numbers = ", ".join(f"{letter} {x:+.2f}" for letter, x in zip(letters, observation["numbers"], strict=False))
        return f"{bar}; {numbers}"

    def board(self, script: Script, block: int, state: int, pick: int) -> Board:
        """Return the bars seen so far, ``-`` or ``|``."""
        shown = self.present(script.shown[: min(state + 1, self.length)])["picture"]
        bars = "".join("|" if has_vertical_bar(picture) else "-" for picture in shown)
        return Board(bars, min(state, len(bars) - 1), None if pick < 0 else self.letters[pick])


PictureCueVectorEnv = vectorized(PictureCueEnv)
