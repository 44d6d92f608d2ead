"""The same job in plain PyTorch and in other libraries.

Each module is a script of one job: ``python -m benchmarks.peers.bare --env_steps 20000 --env_steps_per_update 10``.
Its last line is JSON, with ``env_steps``, ``updates`` and ``seconds``; start-up is not counted.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def arguments() -> argparse.Namespace:
    """The job's settings, which are the same for everyone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--env_steps", type=int, default=20_000)
    parser.add_argument("--env_steps_per_update", type=int, default=10)
    parser.add_argument("--num_envs", type=int, default=1)
    parser.add_argument("--env_id", default="CartPole-v1")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--hidden_sizes", type=int, nargs="+", default=[120, 84])
    parser.add_argument("--learning_rate", type=float, default=2.5e-4)
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--capacity", type=int, default=10_000)
    parser.add_argument("--warmup_env_steps", type=int, default=1_000)
    parser.add_argument("--sync_every_env_steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


@contextmanager
def timed(peer: str, **figures: int) -> Iterator[dict[str, Any]]:
    """Times the block and prints the JSON line: ``figures``, and what the block adds to them."""
    run: dict[str, Any] = {"peer": peer, **figures}
    start = time.perf_counter()
    yield run
    run["seconds"] = round(time.perf_counter() - start, 4)
    print("\n" + json.dumps(run))
