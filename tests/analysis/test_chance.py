"""The level of random choices, which a conclusion about learning has to exceed."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from seqrl_lightning.analysis import sections
from seqrl_lightning.analysis.chance import Chance, chance_of, chances_of, random_returns
from seqrl_lightning.functional import CRITERION_EPISODES, episodes_to_criterion_by_chance
from tests.analysis.made_runs import make_run

RECALL = {"env_id": "seqrl/DelayedRecall-v0", "env_kwargs": {"delay": 0, "num_symbols": 2}}


def test_the_expected_episodes_to_criterion_are_those_of_coin_flips() -> None:
    rng = np.random.default_rng(0)
    for p in (0.5, 0.7):
        flips = rng.random((500, 1500)) < p
        runs = np.lib.stride_tricks.sliding_window_view(flips, CRITERION_EPISODES, axis=1).all(-1)
        assert runs.any(1).all()
        found = runs.argmax(1).mean() + 1
        assert episodes_to_criterion_by_chance(p) == pytest.approx(found, rel=0.1)


def test_chance_is_that_of_random_play(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", data=RECALL)
    found = chance_of(run)
    assert found.mean_return == pytest.approx(0.0, abs=0.1)  # 1 or -1 with equal chances
    assert 29 < found.fewest < 58 < found.most < 116
    assert chances_of({"a": [run], "b": [run]}) == {"a": found, "b": found}


def test_masked_actions_are_not_chosen() -> None:
    class Masked(gym.Env[Any, Any]):
        action_space = gym.spaces.Discrete(3)
        observation_space = gym.spaces.Discrete(1)

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[int, dict[str, Any]]:
            return 0, {"action_mask": np.array([0, 1, 0], np.int8)}

        def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
            return 0, float(action), True, False, {}

    assert set(random_returns(Masked())) == {1.0}


def test_reports_say_that_a_criterion_can_be_met_by_chance(tmp_path: Path) -> None:
    chances = {"short": Chance(0.0, 42.2, 71.4), "long": Chance(0.0, np.inf, np.inf)}
    groups = {name: [make_run(tmp_path / name, data=RECALL)] for name in chances}
    text = sections.by_chance(chances, groups)
    assert "(95 % interval, from playing the task): short: 42 to 71; long: never. In short, blocks" in text
    assert text.endswith("with a probability above 5 %: it says little about learning.")
    rare = {"short": Chance(0.0, 1e5, 2e5), "long": chances["long"]}
    assert sections.by_chance(rare, groups).endswith("short: 100,000 to 200,000; long: never.")
    never = {"short": Chance(0.0, 2e6, 3e9), "long": Chance(0.0, 3e6, 4e8)}
    assert sections.by_chance(never, groups).endswith("(95 % interval, from playing the task): more than 1,000,000.")
    assert "not met by chance" in sections.by_chance({"long": chances["long"]}, groups)
