"""A cost model of many actors and GPUs: ``python -m benchmarks.scale --step 5e-3 --update 1e-3``.

Prints the env steps per second, the price and the bottleneck for 1 to 1,024 actors and 1 to 64 GPUs, from times that
were measured elsewhere: `python -m benchmarks.actors` measures a step, a call and storing, `benchmarks.update` an
update; `benchmarks.gpu` measures one on a GPU (Nature's CNN as a CUDA graph on an H100: 6.3e-4 seconds).

An actor's round of R rows and the learner's R * N / ratio updates take place at once, so that a round takes as long as
the slower of the two. What isn't in the model: a network's bandwidth, other users of the machine, an actor that is
slower than others, and what larger batches or older weights do to learning.
"""

import argparse
from typing import NamedTuple

ACTORS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
GPUS = (1, 2, 4, 8, 16, 32, 64)
LARGEST_RUN = (
    "2 learners with 2 actors each, in processes of one machine with 2 cores; one GPU without actors; no second machine"
)


class Times(NamedTuple):
    """Measured times, in seconds."""

    step: float  # of an env step in an actor, acting included
    update: float  # of an update, by one GPU or one process
    store: float  # of an env step in the learner: reading it from the actor's answer and storing it
    call: float  # of a round's call, to one actor
    reduction: float  # of averaging gradients over two GPUs


class Point(NamedTuple):
    """The model's prediction for one setting."""

    env_steps_per_second: float
    dollars_per_million: float  # env steps
    bottleneck: str


def predict(
    times: Times, actors: int, gpus: int, rows: int, env_steps_per_update: float, cpu_hour: float, gpu_hour: float
) -> Point:
    """Return what a setting costs, with one environment for each actor.

    Args:
        times: Measured times.
        actors: Number of actors, over all GPUs.
        gpus: Number of GPUs, each of which has its share of the actors and of each update's batch.
        rows: Rows of a round.
        env_steps_per_update: Env steps for each update.
        cpu_hour: Price of an actor's core for an hour.
        gpu_hour: Price of a GPU for an hour.
    """
    env_steps = rows * actors
    own_actors = actors / gpus  # of one learner
    # A ring reduction sends 2 (n - 1) / n times the gradients, whatever the number of GPUs n.
    reduction = times.reduction * 2 * (gpus - 1) / gpus
    updates = env_steps / env_steps_per_update
    parts = {
        "the environments": rows * times.step,
        "the updates": updates * (times.update / gpus + reduction),
        "the learner's collector": own_actors * (times.call + rows * times.store),
    }
    # The learner stores what it gets after its updates; the actors act meanwhile.
    learner = parts["the updates"] + parts["the learner's collector"]
    seconds = max(parts["the environments"], learner)
    slowest = max(parts, key=lambda name: parts[name]) if seconds == learner else "the environments"
    dollars = seconds * (actors * cpu_hour + gpus * gpu_hour) / 3600
    return Point(env_steps / seconds, dollars / env_steps * 1e6, slowest)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=float, default=5e-3, help="seconds of an env step, acting included")
    parser.add_argument("--update", type=float, default=1e-3, help="seconds of an update")
    parser.add_argument("--store", type=float, default=2e-5, help="seconds to store an env step")
    parser.add_argument("--call", type=float, default=1e-3, help="seconds of a call to one actor")
    parser.add_argument("--reduction", type=float, default=2e-4, help="seconds to average gradients over two GPUs")
    parser.add_argument("--rows", type=int, default=32, help="rows of a round")
    parser.add_argument("--env_steps_per_update", type=float, default=4.0)
    parser.add_argument("--cpu_hour", type=float, default=0.05, help="dollars")
    parser.add_argument("--gpu_hour", type=float, default=2.5, help="dollars")
    given = vars(parser.parse_args())
    times = Times(*(given.pop(name) for name in Times._fields))
    print(f"{'actors':>6s} {'GPUs':>5s} {'env steps/s':>12s} {'$/million':>10s}  bottleneck")
    for gpus in GPUS:
        for actors in ACTORS:
            if actors >= gpus:
                point = predict(times, actors, gpus, **given)
                speed, dollars = point.env_steps_per_second, point.dollars_per_million
                print(f"{actors:6d} {gpus:5d} {speed:12,.0f} {dollars:10.3f}  {point.bottleneck}")
    print(f"Largest setting that was run: {LARGEST_RUN}. All else is what the model says.")


if __name__ == "__main__":
    main()
