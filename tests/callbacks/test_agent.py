from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer

from seqrl_lightning.algorithms import PQN
from seqrl_lightning.callbacks import AgentCallback
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.replay import RolloutSampler
from seqrl_lightning.types import Cadence, ConfigurationError
from tests.running import fit
from tests.tasks import Diary

DIARY = {"env_id": "tests/Diary-v0", "batch_size": 4, "capacity": 60}


class Recorder(Callback):
    """Remembers how many env steps there were at every update, and every batch."""

    def __init__(self) -> None:
        self.env_steps: list[int] = []
        self.batches: list[Any] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.env_steps.append(trainer.datamodule.progress.env_steps)
        self.batches.append(batch)


def run(tmp_path: Path, data: dict[str, Any] | None = None, **agent: Any) -> tuple[Recorder, AgentCallback, Any]:
    recorder = Recorder()
    torch.manual_seed(7)  # the same network in every run of a test
    trainer, _, datamodule = fit(
        tmp_path, {**DIARY, **(data or {})}, {}, {"warmup_env_steps": 8, **agent}, callbacks=[recorder], max_steps=60
    )
    return recorder, AgentCallback.of(trainer), datamodule


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize(("vectorization_mode", "overlap"), [("sync", False), ("async", False), ("async", True)])
def test_no_bogus_transition_is_ever_sampled(
    tmp_path: Path, num_envs: int, vectorization_mode: str, overlap: bool
) -> None:
    """In every batch, of a ring that is overwritten many times over, each transition is one that really happened."""
    data = {"num_envs": num_envs, "vectorization_mode": vectorization_mode}
    random = ConstantEpsilon(1.0)
    recorder, agent, datamodule = run(tmp_path, data, env_steps_per_update=5, epsilon=random, overlap=overlap)
    assert agent.progress.env_steps > 2 * DIARY["capacity"]  # type: ignore[operator]
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
    ring = datamodule.ring
    final = np.argwhere(ring.is_final[: ring.num_full_rows])
    assert len(final) > 5
    assert ends["terminated"] > 5


def test_every_transition_is_counted_and_none_twice(tmp_path: Path) -> None:
    _, agent, datamodule = run(tmp_path, {"num_envs": 2, "capacity": 4000}, epsilon=ConstantEpsilon(1.0))
    ring = datamodule.ring
    slots = ring.slots(np.arange(1, ring.num_slots + 1))
    assert ring.is_transition(slots).sum() == agent.progress.env_steps
    finished, under_way = agent.episode_log.drain(), agent.collector.episodes
    assert len(finished) == agent.progress.episodes > 10
    assert sum(e.episode_length for e in finished) + under_way.lengths.sum() == agent.progress.env_steps
    stored = ring.reward[: ring.num_full_rows][~ring.is_final[: ring.num_full_rows]].sum()
    assert sum(e.episode_return for e in finished) + under_way.returns.sum() == pytest.approx(stored)
    assert agent.episode_log.drain() == []


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


@pytest.mark.slow
def test_an_overlapped_run_takes_the_same_steps_and_is_deterministic(tmp_path: Path) -> None:
    data = {"num_envs": 2, "vectorization_mode": "async"}
    runs = [run(tmp_path, data, overlap=True, env_steps_per_update=2) for _ in range(2)]
    plain = run(tmp_path, data, env_steps_per_update=2)
    assert runs[0][0].env_steps == runs[1][0].env_steps == plain[0].env_steps
    one, other = (datamodule.ring for _, _, datamodule in runs)
    np.testing.assert_array_equal(one.observation, other.observation)
    np.testing.assert_array_equal(one.action, other.action)


def test_max_env_steps_and_max_episodes_end_the_run(tmp_path: Path) -> None:
    assert run(tmp_path, max_env_steps=33)[1].progress.env_steps == 33
    assert run(tmp_path, max_episodes=9)[1].progress.episodes == 9


def test_a_block_lasts_as_many_episodes_as_the_learner_sees(tmp_path: Path) -> None:
    blocks = [{"sequence": "ABC", "episodes": 3}, {"sequence": "CBA"}]
    _, agent, datamodule = run(
        tmp_path,
        {"env_id": "seqrl/Sequence-v0", "env_kwargs": {"objects": "ABC", "blocks": blocks}, "num_envs": 2},
        epsilon=ConstantEpsilon(1.0),
        max_episodes=20,
    )
    assert datamodule.progress.block == 1
    finished = [episode.block for episode in agent.episode_log.drain()]
    assert finished.count(0) in (3, 4)  # one environment may have been in mid-episode
    assert finished == sorted(finished)


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


@pytest.mark.parametrize("limit", ["limit_train_batches", "max_steps", "max_epochs"])
def test_a_run_that_makes_no_update_is_refused(tmp_path: Path, limit: str) -> None:
    with pytest.raises(ConfigurationError, match=f"trainer.{limit} is 0; it must be more than 0"):
        fit(tmp_path, DIARY, {}, {"warmup_env_steps": 8, "max_env_steps": 20}, **{limit: 0})


PQN_DATA = {"env_id": "tests/Corridor-v0", "num_envs": 4, "batch_size": 8, "capacity": 100}


def test_a_learner_sets_its_own_cadence(tmp_path: Path) -> None:
    recorder = Recorder()
    data = {**PQN_DATA, "sampler": RolloutSampler(6)}
    trainer, _, _ = fit(tmp_path, data, {"epochs": 2}, {}, module_class=PQN, callbacks=[recorder], max_steps=18)
    assert AgentCallback.of(trainer).cadence == Cadence(24, 4.0, 6)
    assert recorder.env_steps[:3] == pytest.approx([24, 48, 72], abs=3)  # four environments at a time


@pytest.mark.parametrize(
    ("setting", "value", "must_be"), [("warmup_env_steps", 8, "24"), ("env_steps_per_update", 1.0, "4.0")]
)
def test_settings_that_contradict_a_learners_cadence_are_refused(
    tmp_path: Path, setting: str, value: float, must_be: str
) -> None:
    data = {**PQN_DATA, "sampler": RolloutSampler(6)}
    with pytest.raises(ConfigurationError, match=f"agent.{setting} is {value}; it must be {must_be}, or left out: PQN"):
        fit(tmp_path, data, {"epochs": 2}, {setting: value}, module_class=PQN, max_steps=6)


def test_a_learner_of_whole_rollouts_has_no_overlap(tmp_path: Path) -> None:
    data = {**PQN_DATA, "num_envs": 2, "batch_size": 4, "vectorization_mode": "async", "sampler": RolloutSampler(6)}
    with pytest.raises(ConfigurationError, match=r"agent\.overlap is True; it must be false: the learner learns from"):
        fit(tmp_path, data, {}, {"overlap": True}, module_class=PQN, max_steps=6)


def test_without_settings_the_defaults_hold(tmp_path: Path) -> None:
    trainer, _, _ = fit(tmp_path, {**DIARY, "capacity": 2000}, {}, {}, max_steps=1)
    assert AgentCallback.of(trainer).cadence == Cadence(1000, 1.0, 1)


def test_a_trainer_without_an_agent_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"trainer\.callbacks has no AgentCallback"):
        AgentCallback.of(Trainer(default_root_dir=tmp_path, logger=False))
