from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from seqrl_lightning.callbacks import AgentCallback
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.types import ConfigurationError
from tests.running import fit
from tests.tasks import Diary

DIARY = {"env_id": "tests/Diary-v0", "batch_size": 4, "capacity": 60}


class Recorder(Callback):
    """Remembers how many env steps there were at every update, and every batch."""

    def __init__(self) -> None:
        self.env_steps: list[int] = []
        self.batches: list[Any] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.env_steps.append(AgentCallback.of(trainer).env_steps)
        self.batches.append(batch)


def run(tmp_path: Path, data: dict[str, Any] | None = None, **agent: Any) -> tuple[Recorder, AgentCallback, Any]:
    recorder = Recorder()
    torch.manual_seed(7)  # the same network in every run of a test
    trainer, _, datamodule = fit(
        tmp_path, {**DIARY, **(data or {})}, {}, {"warmup_env_steps": 8, **agent}, callbacks=[recorder], max_steps=60
    )
    return recorder, AgentCallback.of(trainer), datamodule


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize(("vectorization_mode", "overlap"), [("sync", False), ("async", False), ("async", True)])
def test_no_bogus_transition_is_ever_sampled(
    tmp_path: Path, num_envs: int, vectorization_mode: str, overlap: bool
) -> None:
    """In every batch, of a ring that is overwritten many times over, each transition is one that really happened."""
    data = {"num_envs": num_envs, "vectorization_mode": vectorization_mode}
    recorder, agent, _ = run(tmp_path, data, env_steps_per_update=5, epsilon=ConstantEpsilon(1.0), overlap=overlap)
    assert agent.env_steps > 2 * DIARY["capacity"]  # type: ignore[operator]
    ends = {"terminated": 0, "truncated": 0}
    for batch in recorder.batches:
        state, action, reward, next_state, terminated = (column.squeeze(0).numpy() for column in batch[:5])
        for i in range(len(state)):
            env, episode, t = state[i]
            assert next_state[i].tolist() == [env, episode, t + 1]
            assert reward[i] == Diary.reward(state[i], action[i])
            ends["terminated"] += int(terminated[i])
            assert not terminated[i] or episode % 2 == 0
    # What a truncated episode bootstraps from is its true final observation, which nothing follows.
    ring = agent._data.ring
    final = np.argwhere(ring.is_final[: ring.num_full_rows])
    assert len(final) > 5
    assert ends["terminated"] > 5


def test_every_transition_is_counted_and_none_twice(tmp_path: Path) -> None:
    _, agent, datamodule = run(tmp_path, {"num_envs": 2, "capacity": 4000}, epsilon=ConstantEpsilon(1.0))
    ring = datamodule.ring
    slots = ring.slots(np.arange(1, ring.num_slots + 1))
    assert ring.is_transition(slots).sum() == agent.env_steps
    finished = agent.drain_episodes()
    assert len(finished) == agent.episodes > 10
    assert sum(e.episode_length for e in finished) + agent._episode_length.sum() == agent.env_steps
    stored = ring.reward[: ring.num_full_rows][~ring.is_final[: ring.num_full_rows]].sum()
    assert sum(e.episode_return for e in finished) + agent._episode_return.sum() == pytest.approx(stored)
    assert agent.drain_episodes() == []


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ({}, [8, 9, 10, 11, 12, 13, 14, 15]),
        ({"env_steps_per_update": 3}, [8, 11, 14, 17, 20, 23, 26, 29]),
        ({"env_steps_per_update": 0.5}, [8, 9, 9, 10, 10, 11, 11, 12]),
        ({"env_steps_per_update": 2, "updates_per_collect": 4}, [8, 8, 8, 8, 16, 16, 16, 16]),
    ],
)
def test_env_steps_and_updates_keep_their_ratio(tmp_path: Path, agent: dict[str, Any], expected: list[int]) -> None:
    recorder, *_ = run(tmp_path, **agent)
    assert recorder.env_steps[:8] == expected


def test_with_many_environments_the_ratio_holds_on_average(tmp_path: Path) -> None:
    recorder, *_ = run(tmp_path, {"num_envs": 3}, env_steps_per_update=2)
    due = 8 + 2 * np.arange(60)
    assert (np.array(recorder.env_steps) >= due).all()
    assert (np.array(recorder.env_steps) < due + 3).all()


def test_an_overlapped_run_takes_the_same_steps_and_is_deterministic(tmp_path: Path) -> None:
    data = {"num_envs": 2, "vectorization_mode": "async"}
    runs = [run(tmp_path, data, overlap=True, env_steps_per_update=2) for _ in range(2)]
    plain = run(tmp_path, data, env_steps_per_update=2)
    assert runs[0][0].env_steps == runs[1][0].env_steps == plain[0].env_steps
    one, other = (datamodule.ring for _, _, datamodule in runs)
    np.testing.assert_array_equal(one.observation, other.observation)
    np.testing.assert_array_equal(one.action, other.action)


def test_max_env_steps_and_max_episodes_end_the_run(tmp_path: Path) -> None:
    assert run(tmp_path, max_env_steps=33)[1].env_steps == 33
    assert run(tmp_path, max_episodes=9)[1].episodes == 9


def test_the_block_is_the_lowest_that_any_environment_is_in(tmp_path: Path) -> None:
    blocks = [{"sequence": "ABC", "episodes": 3}, {"sequence": "CBA"}]
    _, agent, datamodule = run(
        tmp_path,
        {"env_id": "seqrl/Sequence-v0", "env_kwargs": {"objects": "ABC", "blocks": blocks}, "num_envs": 2},
        epsilon=ConstantEpsilon(1.0),
        max_episodes=20,
    )
    assert datamodule.progress.block == datamodule.envs.unwrapped.block.min() == 1
    finished = agent.drain_episodes()
    blocks_played = [[e.block for e in finished if e.env == env] for env in (0, 1)]
    assert blocks_played == [sorted(blocks) for blocks in blocks_played]  # each environment has a clock of its own
    assert all(blocks.count(0) == 3 for blocks in blocks_played)


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        ({"warmup_env_steps": 3}, "agent.warmup_env_steps is 3; it must be at least data.batch_size = 4"),
        ({"warmup_env_steps": 61}, "agent.warmup_env_steps is 61; it must be at most data.capacity = 60"),
        ({"env_steps_per_update": 0}, "agent.env_steps_per_update is 0"),
        ({"updates_per_collect": 0}, "agent.updates_per_collect is 0"),
        ({"max_env_steps": 8}, "agent.max_env_steps is 8; it must be more than agent.warmup_env_steps = 8"),
        ({"max_episodes": 0}, "agent.max_episodes is 0"),
        ({"overlap": True}, "agent.overlap is True; it must be false, or data.vectorization_mode 'async'"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, agent: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run(tmp_path, **agent)


def test_a_run_that_nothing_ends_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nothing ends this run"):
        fit(tmp_path, DIARY, {}, {"warmup_env_steps": 8})
