"""The state of episodes, by hand."""

from typing import Any

import numpy as np
import pytest
import torch

from seqrl_lightning.collect import Episode, EpisodeLog, RunningEpisodes
from seqrl_lightning.envs import Outcome, Shown
from seqrl_lightning.saved_state import StateError
from tests.running import assert_identical


def shown(value: float, mask: Any = None, block: Any = None) -> Shown:
    return Shown(np.full((2, 1), value, np.float32), mask, block, None)


def outcome(after: Shown, *rewards: float) -> Outcome:
    """A step whose rewards a wrapper has halved."""
    return Outcome(after, np.array(rewards) / 2, np.array(rewards), flags(0, 0), flags(0, 0))


def flags(*values: int) -> np.ndarray:
    return np.array(values, bool)


def test_two_environments_step_by_step() -> None:
    episodes = RunningEpisodes.after_reset(5, shown(0.0))
    assert episodes.is_first.all()

    assert episodes.advance(outcome(shown(1.0, block=np.array([3, 4])), 1.0, 2.0), flags(0, 1)) == 0
    assert episodes.returns.tolist() == [1, 2]
    assert episodes.lengths.tolist() == [1, 1]
    assert not episodes.is_first.any()
    ended = episodes.take_ended(flags(0, 1), env_steps=20, first_env=10)
    assert ended == [Episode(20, 11, 4, 2.0, 1, True)]
    assert episodes.returns.tolist() == [1, 0]

    assert episodes.advance(outcome(shown(2.0), 1.0, 0.0), flags(1, 0)) == 1  # the second one is only reset
    assert episodes.lengths.tolist() == [2, 0]
    assert episodes.is_first.tolist() == [False, True]
    assert episodes.is_restarting.tolist() == [True, False]
    assert episodes.take_ended(flags(0, 0), 21, 10) == [Episode(21, 10, 0, 2.0, 2, False)]  # truncated
    assert episodes.shown.observation.tolist() == [[2], [2]]


def test_restored_episodes_are_the_same() -> None:
    episodes = RunningEpisodes.after_reset(5, shown(0.0, flags(1, 0, 1, 1).reshape(2, 2)))
    episodes.advance(outcome(shown(1.0, flags(1, 1, 1, 0).reshape(2, 2)), 1.0, 2.0), flags(0, 1))
    state = episodes.state_dict()
    assert_identical(RunningEpisodes.from_state_dict(state, 2).state_dict(), state)
    episodes.advance(outcome(shown(2.0), 1.0, 0.0), flags(0, 0))
    assert state["returns"].tolist() == [1, 2]  # a copy


@pytest.mark.parametrize(
    "more",
    [
        {"seed": "5"},
        {"returns": torch.zeros(3, dtype=torch.float64)},
        {"lengths": torch.zeros(2)},
        {"is_first": [True, False]},
        {"shown": {"observation": None, "action_mask": None, "block": None, "correct_action": None}},
        {"shown": {"observation": torch.zeros(0, 10**9), "action_mask": None, "block": None, "correct_action": None}},
        {"shown": {"observation": torch.zeros(2, 1), "action_mask": None, "block": "=1+1", "correct_action": None}},
    ],
    ids=str,
)
def test_episodes_of_other_environments_are_refused(more: dict[str, Any]) -> None:
    state = RunningEpisodes.after_reset(5, shown(0.0)).state_dict()
    with pytest.raises(StateError, match=r"the episodes' \w+ in the checkpoint is"):
        RunningEpisodes.from_state_dict({**state, **more}, 2)


def test_the_log_hands_out_each_episode_once() -> None:
    log = EpisodeLog()
    episodes = [Episode(i, 0, 0, float(i), 1, True) for i in range(12)]
    for episode in episodes:
        log.add(episode)
    assert list(log.recent_returns) == [float(i) for i in range(2, 12)]
    assert log.drain() == episodes
    assert log.drain() == []
