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
    assert found.episodes_to_criterion == pytest.approx(58, rel=0.5)
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


def test_reports_say_that_a_criterion_can_be_met_by_chance() -> None:
    chances = {"short": Chance(0.0, 58.2), "long": Chance(0.0, np.inf)}
    assert sections.by_chance(chances).endswith("on average: short: 58; long: never.")
    assert sections.by_chance({"short": chances["short"]}).endswith("on average: 58.")
    assert "not met by chance" in sections.by_chance({"long": chances["long"]})
