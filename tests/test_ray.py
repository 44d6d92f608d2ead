"""Actors in processes that Ray starts."""

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from seqrl_lightning.callbacks import AgentCallback, LastCheckpoint
from seqrl_lightning.collect.actor_messages import ActorSettings
from seqrl_lightning.collect.ray_actors import RayActors
from seqrl_lightning.collect.rounds import Rounds, Workers
from seqrl_lightning.envs import EnvFactory
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.ray_cluster import ray_session
from seqrl_lightning.types import ConfigurationError, RunError
from tests.collect.collecting import Zeros
from tests.in_process import InProcess
from tests.running import assert_identical, fit

pytest.importorskip("ray", reason="Ray isn't installed: pip install 'seqrl-lightning[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.alone]  # Ray and its processes take seconds to start

NUM_ACTORS = 8


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with ray_session("local", "address", NUM_ACTORS):
        yield


class Sleeping(gym.Env[Any, Any]):
    """A step takes up to 5 ms, by a random stream that nobody seeds."""

    observation_space = gym.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self) -> None:
        self.delays = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.uniform(-1, 1, 4).astype(np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        time.sleep(float(self.delays.uniform(0, 0.005)))
        self.t += 1
        return self.np_random.uniform(-1, 1, 4).astype(np.float32), float(action), False, self.t == 100, {}

    def state_dict(self) -> dict[str, Any]:
        return {"t": getattr(self, "t", 0)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.t = state["t"]


SLEEPING = "tests.test_ray:Sleeping"
SLOW = "benchmarks.slow_env:benchmarks/Slow-v0"  # 5 ms a step; actors need no Lightning for it


def settings_for(num_actors: int) -> ActorSettings:
    factory = EnvFactory(SLOW)
    make_envs, facts = partial(factory.make_envs, 1), factory.read_facts()
    shape, dtype = facts.obs_shape, facts.obs_dtype
    return ActorSettings(SLOW, make_envs, Zeros(), ConstantEpsilon(0.5), 2, shape, dtype, num_actors, True, "7")


def rounds_of(workers: Workers) -> Rounds:
    rounds = Rounds(workers, workers.num_actors, dict)
    rounds.begin(None, True, 0)
    return rounds


def seconds_per_env_step(workers: Workers, num_rows: int = 64) -> float:
    rounds = rounds_of(workers)
    try:
        start = 0.0
        for i in range(4):  # the first one warms up
            start = time.perf_counter() if i == 1 else start
            rounds.start(num_rows)
            while not rounds.is_stored:
                rounds.take_row()
        return (time.perf_counter() - start) / (3 * num_rows * workers.num_actors)
    finally:
        workers.close()


def test_eight_actors_take_slow_steps_at_least_six_times_as_fast_as_one() -> None:
    one = seconds_per_env_step(InProcess(settings_for(1)))  # without any cost of Ray's
    eight = seconds_per_env_step(RayActors(settings_for(NUM_ACTORS), "local"))
    print(f"env steps/s: {1 / one:.0f} with one actor, {1 / eight:.0f} with {NUM_ACTORS}")
    assert one / eight >= 6


def run(folder: Path, max_steps: int = 40, ckpt_path: Path | None = None) -> tuple[Any, Any]:
    torch.manual_seed(3)
    trainer, module, _ = fit(
        folder,
        {
            "env_id": SLEEPING,
            "num_envs": 4,
            "batch_size": 8,
            "capacity": 400,
            "batches_per_epoch": 20,
        },
        {},
        {"warmup_env_steps": 16, "env_steps_per_update": 8, "actors": 2, "epsilon": ConstantEpsilon(0.3)},
        callbacks=[LastCheckpoint()],
        max_steps=max_steps,
        ckpt_path=None if ckpt_path is None else str(ckpt_path),
    )
    return trainer, torch.cat([p.detach().flatten() for p in module.policy_net.parameters()])  # type: ignore[union-attr]


def test_neither_delays_nor_processes_nor_an_interruption_change_a_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as here:
        here.setattr(AgentCallback, "_start_actors", lambda _, settings: InProcess(settings))
        expected, expected_weights = run(tmp_path / "here")
        run(tmp_path / "half", 20)
    whole = run(tmp_path / "whole")
    resumed = run(tmp_path / "rest", 40, next((tmp_path / "half").rglob("last.ckpt")))
    for trainer, weights in (whole, resumed):
        assert torch.equal(weights, expected_weights)
        assert_identical(trainer.datamodule.ring.state_dict(), expected.datamodule.ring.state_dict())
        assert trainer.datamodule.progress == expected.datamodule.progress


def test_a_killed_actor_ends_the_run_in_a_line() -> None:
    import ray

    workers = RayActors(settings_for(2), "local")
    rounds = rounds_of(workers)
    try:
        victim = workers._workers[1]
        pid = ray.get(victim.__ray_call__.remote(lambda self: os.getpid()))
        rounds.start(100)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RunError, match=r"^actor 1 of 2 is lost: ") as error:
            rounds.take_row()
        assert "\n" not in str(error.value)
    finally:
        workers.close()


def test_what_an_actor_raises_is_raised_here() -> None:
    settings = {"obs_shape": (4,), "obs_dtype": "float32", "num_actors": 1, "check_bounds": True, "seed": None}
    broken = partial(EnvFactory("NoSuchTask-v0").make_envs, 1)
    with pytest.raises(ConfigurationError, match="NoSuchTask"):
        RayActors(ActorSettings("x", broken, Zeros(), ConstantEpsilon(0.0), 2, **settings), "local")  # type: ignore[arg-type]


def test_more_actors_than_cpus_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"agent\.actors is 9; it must be at most 8, the number of Ray's CPUs"):
        RayActors(settings_for(9), "local")
