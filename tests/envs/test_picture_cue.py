"""PictureCue keeps its docstring's promise: both parts are needed, and suffice."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from seqrl_lightning.types import ConfigurationError

Choose = Callable[[dict[str, Any]], Any]


def mean_return(choose: Choose, num_steps: int = 800) -> float:
    envs = gym.make_vec("seqrl/PictureCue-v0", num_envs=50, vectorization_mode="vector_entry_point")
    observation, _ = envs.reset(seed=0)
    total, num_episodes = 0.0, 0
    for _ in range(num_steps):
        observation, reward, terminated, *_ = envs.step(choose(observation))
        total, num_episodes = total + float(reward.sum()), num_episodes + int(terminated.sum())
    return total / num_episodes


def is_vertical(picture: Any) -> bool:
    """Whether two bright pixels lie one above the other."""
    bright = picture == 255
    return bool((bright[1:] & bright[:-1]).any())


def both(observation: dict[str, Any]) -> Any:
    picks_lowest = np.array([is_vertical(picture) for picture in observation["picture"]])
    numbers = observation["numbers"]
    return np.where(picks_lowest, numbers.argmin(1), numbers.argmax(1))


def test_both_parts_suffice() -> None:
    assert mean_return(both) == pytest.approx(1.0)


def test_one_part_does_not() -> None:
    assert mean_return(lambda observation: observation["numbers"].argmax(1)) == pytest.approx(0.0, abs=0.05)
    of_picture = mean_return(lambda observation: [3 * is_vertical(picture) for picture in observation["picture"]])
    assert of_picture == pytest.approx(2 / 4 - 1, abs=0.05)


@pytest.mark.parametrize(("name", "value", "least"), [("num_choices", 1, 2), ("size", 3, 4), ("trials", 0, 1)])
def test_settings_that_cant_work_are_refused(name: str, value: int, least: int) -> None:
    with pytest.raises(ConfigurationError, match=f"data.env_kwargs.{name} is {value}; it must be at least {least}"):
        gym.make("seqrl/PictureCue-v0", **{name: value})
