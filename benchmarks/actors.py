"""Measure the cost of actors on a fast task: ``python -m benchmarks.actors`` (extra ``ray``).

Env steps per second of CartPole-v1 with a small network: in this process, and with actors by their number and by the
rows R of a round, without updates. A step's time by itself, a call's and an env step's storing follow for
``python -m benchmarks.scale``, and the step time from which on actors pay.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

from seqrl_lightning.algorithms import DQN
from seqrl_lightning.collect import Collector, EpisodeLog, ExploringPolicy, GuardedEnvs, TrialRecorder
from seqrl_lightning.collect.actor_messages import ActorSettings
from seqrl_lightning.collect.ray_actors import RayActors
from seqrl_lightning.collect.replayed import ReplayedEnvs, ReplayedPolicy
from seqrl_lightning.collect.rounds import Rounds
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.random_streams import random_stream
from seqrl_lightning.ray_cluster import ray_session
from seqrl_lightning.types import Progress

ENV_ID, EPSILON = "CartPole-v1", ConstantEpsilon(0.05)
ROWS = (1, 8, 32, 128)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    arguments = parser.parse_args()
    alone = seconds_alone(arguments.seconds)
    print(f"in this process: {1 / alone:8,.0f} env steps/s ({alone * 1e6:.0f} us each)")
    with ray_session("local", "address", max(arguments.actors)):
        for num_actors in arguments.actors:
            by_rows = seconds_with_actors(num_actors, arguments.seconds)
            for rows, seconds in by_rows.items():
                print(f"{num_actors:2d} actors, R = {rows:3d}: {1 / seconds:8,.0f} env steps/s, {seconds * 1e6:.0f} us")
            per_round = {rows: seconds * rows * num_actors for rows, seconds in by_rows.items()}
            per_row = (per_round[ROWS[-1]] - per_round[ROWS[0]]) / (ROWS[-1] - ROWS[0])
            print(f"  a round: {(per_round[ROWS[0]] - per_row) * 1e3:.1f} ms, and {per_row * 1e6:.0f} us for each row")
            # Alone, N env steps take N * (s + alone); actors take them in s + N * cost.
            cost = by_rows[32]
            if num_actors > 1:
                pays = max(0.0, num_actors * (cost - alone) / (num_actors - 1))
                print(f"  R = 32 pays where a step takes at least {pays * 1e6:.0f} us longer than CartPole's")


def seconds_alone(duration: float) -> float:
    """Return the seconds of an env step in this process."""
    data, learner = parts(1)
    policy = ExploringPolicy(learner.act_values, EPSILON, data.n_actions, random_stream("agent"))
    envs = GuardedEnvs(data.factory.make_envs(1), partial(data.factory.make_envs, 1), ENV_ID)
    collector = Collector(envs, policy, data.ring, data.sampler, Progress(), EpisodeLog(), TrialRecorder())
    collector.begin()
    return measured(collector.step, 1, duration)


def seconds_with_actors(num_actors: int, duration: float) -> dict[int, float]:
    """Return the seconds of an env step with actors of one environment each, by the rows of a round."""
    data, learner = parts(num_actors)
    make_envs, shape = partial(data.factory.make_envs, 1), data.obs_shape
    acting = learner.acting_copy()
    settings = ActorSettings(
        ENV_ID, make_envs, acting, EPSILON, data.n_actions, shape, data.obs_dtype, num_actors, True, "1"
    )
    workers = RayActors(settings, "local")
    rounds = Rounds(workers, num_actors, learner.acting_weights)
    policy = ReplayedPolicy(rounds)
    envs = ReplayedEnvs(rounds, policy)
    collector = Collector(envs, policy, data.ring, data.sampler, Progress(), EpisodeLog(), TrialRecorder())
    collector.begin()

    def take(rows: int) -> None:
        rounds.start(rows)
        while not rounds.is_stored:
            collector.step()

    try:
        return {rows: measured(partial(take, rows), rows * num_actors, duration) for rows in ROWS}
    finally:
        workers.close()


def parts(num_envs: int) -> tuple[ReplayDataModule, DQN]:
    """Return a datamodule and a learner."""
    data = ReplayDataModule(ENV_ID, num_envs)
    return data, DQN(data.obs_shape, data.n_actions)


def measured(step: Callable[[], object], per_call: int, duration: float) -> float:
    """Return the seconds of one of ``per_call`` env steps."""
    step()
    calls, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < duration:
        step()
        calls += 1
    return seconds / (calls * per_call)


if __name__ == "__main__":
    main()
