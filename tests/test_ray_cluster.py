"""Actors that are lost and restarted, on two nodes of Ray, and for two processes that learn."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqrl_lightning.collect.actor_messages import ActorSettings
from seqrl_lightning.collect.ray_actors import RayActors
from seqrl_lightning.collect.rounds import Rounds
from seqrl_lightning.envs import EnvFactory
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.types import RunError
from tests.collect.collecting import Zeros
from tests.in_process import InProcess
from tests.running import assert_identical
from tests.test_processes import run, seen

ray = pytest.importorskip("ray", reason="Ray isn't installed: pip install 'seqrl-lightning[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.alone]  # Ray and its processes take seconds to start


def settings() -> ActorSettings:
    """Of two actors, with one environment each, whose state can be saved."""
    factory = EnvFactory("CartPole-v1")
    facts = factory.read_facts()
    shape, dtype = facts.obs_shape, facts.obs_dtype
    make_envs = partial(factory.make_envs, 1)
    return ActorSettings("CartPole-v1", make_envs, Zeros(), ConstantEpsilon(0.5), 2, shape, dtype, 2, True, "7")


def rows(rounds: Rounds, num_rounds: int = 1) -> list[Any]:
    taken = []
    for _ in range(num_rounds):
        rounds.start(20)
        while not rounds.is_stored:
            taken.append(rounds.take_row())
    return taken


def in_process(num_rounds: int) -> list[Any]:
    rounds = Rounds(InProcess(settings()), 2, dict)
    rounds.begin(None, True, 0)
    return rows(rounds, num_rounds)


def assert_same_rows(some: list[Any], others: list[Any]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        for name, column in one.items():
            np.testing.assert_array_equal(column, other[name])


def pid_of(worker: Any) -> int:
    pid: int = ray.get(worker.__ray_call__.remote(lambda self: os.getpid()))
    return pid


def test_a_killed_actor_is_restarted_and_the_learner_sees_the_same_rows() -> None:
    workers = RayActors(settings(), "local")
    warnings: list[str] = []
    rounds = Rounds(workers, 2, dict, 10, warnings.append)
    try:
        rounds.begin(None, True, 0)
        taken = rows(rounds, 2)
        for _ in range(2):
            os.kill(pid_of(workers._workers[1]), signal.SIGKILL)
            taken += rows(rounds)
    finally:
        workers.close()
    assert_same_rows(taken, in_process(4))
    assert len(warnings) == 2
    assert warnings[0].startswith("actor 1 of 2 is lost: ")


def test_two_nodes_of_which_one_is_lost() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    workers = RayActors(settings(), cluster.address)
    try:
        rounds = Rounds(workers, 2, dict, 10, lambda _: None)
        rounds.begin(None, True, 0)
        nodes = [ray.get(worker.__ray_call__.remote(_node_id)) for worker in workers._workers]
        assert len(set(nodes)) == 2
        taken = rows(rounds, 2)
        cluster.remove_node(node)
        cluster.add_node(num_cpus=1)
        taken += rows(rounds, 2)
        assert_same_rows(taken, in_process(4))
        cluster.remove_node(cluster.list_all_nodes()[-1])
        with pytest.raises(
            RunError, match=r"actor \d of 2 can't be restarted: Ray has 1 CPUs left for agent\.actors = 2"
        ):
            rows(rounds)
    finally:
        workers.close()
        cluster.shutdown()


def _node_id(_: Any) -> str:
    node: str = ray.get_runtime_context().get_node_id()
    return node


def test_each_process_that_learns_has_actors_of_its_own(tmp_path: Path) -> None:
    """And a run of both, resumed, ends as if it had never stopped."""
    from ray.cluster_utils import Cluster

    flags = "--agent.actors=2", "--agent.env_steps_per_update=4", "--agent.updates_per_collect=5"
    result = run(tmp_path / "local", *flags, "--trainer.max_steps=40")
    assert "agent.ray_address is 'local'; it must be a cluster's with 2 processes that learn" in result.stderr
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
    try:
        flags = *flags, f"--agent.ray_address={cluster.address}"
        result = run(tmp_path / "whole", *flags, "--trainer.max_steps=40")
        assert result.returncode == 0, result.stderr
        for max_steps, resumed in ((20, ()), (40, ("--ckpt_path=last",))):
            result = run(tmp_path / "part", *flags, f"--trainer.max_steps={max_steps}", *resumed)
            assert result.returncode == 0, result.stderr
    finally:
        cluster.shutdown()
    one, other = seen(tmp_path / "whole")
    assert_identical(one["weights"], other["weights"])
    assert not np.array_equal(one["data"]["ring"]["action"], other["data"]["ring"]["action"])
    progress = one["data"]["progress"]
    assert progress["env_steps"] == other["data"]["progress"]["env_steps"]  # of both
    assert progress["env_steps"] >= 2 * (100 + 40 * 4) - 2 * 2 * 5
    for uninterrupted, continued in zip((one, other), seen(tmp_path / "part"), strict=True):
        for key in ("weights", "data"):
            assert_identical(uninterrupted[key], continued[key])
