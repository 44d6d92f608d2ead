"""Time replay at 10^4, 10^5 and 10^6 transitions, beside other libraries: ``python -m benchmarks.replay``.

Times one ``add`` of one transition, one ``sample`` of a uniform batch from a full memory, and one prioritized sample
with the update of its priorities, in microseconds; the libraries take turns. Of this library also what 1,280
transitions cost, drawn one by one and as 32 windows of 40 steps. The figures go to ``benchmarks/results/replay.json``.
"""

import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.throughput import RESULTS, circumstances
from seqrl_lightning.replay import PrioritizedSampler, RingBuffer, SequenceSampler, UniformSampler

SIZES, BATCH_SIZE, OBS_SIZE, ROUNDS, CALLS = (10_000, 100_000, 1_000_000), 128, 4, 9, 200
PRIORITIZED, PRIORITIZED_BATCH_SIZE = "prioritized sample and update", 64
WINDOWS, LENGTH = 32, 40
Operations = dict[str, Callable[[], Any]]


def ours(size: int) -> Operations:
    """The ring, with an episode's end every 200 steps."""
    ring, sampler, rng = RingBuffer(size, 1, (OBS_SIZE,), "float32"), UniformSampler(), np.random.default_rng(0)
    observation, action, reward = np.zeros((1, OBS_SIZE), np.float32), np.zeros(1, np.int64), np.ones(1)
    no, yes = np.zeros(1, np.bool_), np.ones(1, np.bool_)
    ring.restart(observation)
    for t in range(size):
        ring.add(action, reward, yes if t % 200 == 0 else no, no, observation)
    prioritized = PrioritizedSampler()
    errors = rng.random(PRIORITIZED_BATCH_SIZE)

    def sample_and_update() -> None:
        batch = prioritized(ring, PRIORITIZED_BATCH_SIZE, rng)
        assert batch.slot_batch is not None
        prioritized.update_priorities(batch.slot_batch[0].numpy(), errors)

    many = WINDOWS * LENGTH
    zero_state = SequenceSampler(LENGTH, stored_state=False)
    prioritized_windows = SequenceSampler(LENGTH, stored_state=False, prioritized=True)
    return {
        "add": lambda: ring.add(action, reward, no, no, observation),
        "sample": lambda: sampler(ring, BATCH_SIZE, rng),
        PRIORITIZED: sample_and_update,
        f"sample {many:,}": lambda: sampler(ring, many, rng),
        f"sample {many:,} as windows": lambda: zero_state(ring, WINDOWS, rng),
        f"prioritized sample of {many:,}": lambda: prioritized(ring, many, rng),
        f"prioritized sample of {many:,} as windows": lambda: prioritized_windows(ring, WINDOWS, rng),
    }


def stable_baselines3(size: int) -> Operations:
    """Stable-Baselines3's ReplayBuffer."""
    import gymnasium as gym
    from stable_baselines3.common.buffers import ReplayBuffer

    space = gym.spaces.Box(-1, 1, (OBS_SIZE,), np.float32)
    buffer = ReplayBuffer(size, space, gym.spaces.Discrete(2), device="cpu")
    observation, action, reward = np.zeros((1, OBS_SIZE), np.float32), np.zeros((1, 1)), np.ones(1)
    done, infos = np.zeros(1), [{}]
    buffer.pos, buffer.full = 0, True
    return {
        "add": lambda: buffer.add(observation, observation, action, reward, done, infos),
        "sample": lambda: buffer.sample(BATCH_SIZE),
    }


def torchrl(size: int) -> Operations:
    """TorchRL's buffers over a LazyTensorStorage; its sum tree is in C++."""
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage, PrioritizedReplayBuffer, ReplayBuffer

    def transitions(n: int) -> TensorDict:
        columns = {"observation": torch.zeros(n, OBS_SIZE), "action": torch.zeros(n, dtype=torch.int64)}
        ends = {"reward": torch.ones(n), "terminated": torch.zeros(n, dtype=torch.bool)}
        return TensorDict({**columns, **ends, "next_observation": torch.zeros(n, OBS_SIZE)}, batch_size=[n])

    buffer = ReplayBuffer(storage=LazyTensorStorage(size), batch_size=BATCH_SIZE)
    buffer.extend(transitions(size))
    one = transitions(1)[0]
    operations: Operations = {"add": lambda: buffer.add(one), "sample": buffer.sample}
    storage = LazyTensorStorage(size)
    try:
        prioritized = PrioritizedReplayBuffer(alpha=0.6, beta=0.4, storage=storage, batch_size=PRIORITIZED_BATCH_SIZE)
    except RuntimeError as error:
        print(f"left out: TorchRL's prioritized buffer ({error})")
        return operations
    prioritized.extend(transitions(size))
    errors = torch.rand(PRIORITIZED_BATCH_SIZE)

    def sample_and_update() -> None:
        _, info = prioritized.sample(return_info=True)
        prioritized.update_priority(info["index"], errors)

    return {**operations, PRIORITIZED: sample_and_update}


def cpprb(size: int) -> Operations:
    """Cpprb's buffers (C++)."""
    from cpprb import PrioritizedReplayBuffer, ReplayBuffer

    shapes = {"obs": {"shape": OBS_SIZE}, "next_obs": {"shape": OBS_SIZE}, "act": {}, "rew": {}, "done": {}}
    buffer = ReplayBuffer(size, shapes)
    one = {"obs": np.zeros(OBS_SIZE), "next_obs": np.zeros(OBS_SIZE), "act": 0, "rew": 1.0, "done": 0}
    many = {name: np.zeros((size, OBS_SIZE) if "obs" in name else size) for name in one}
    buffer.add(**many)
    prioritized = PrioritizedReplayBuffer(size, shapes, alpha=0.6)
    prioritized.add(**many)
    errors = np.random.default_rng(0).random(PRIORITIZED_BATCH_SIZE)

    def sample_and_update() -> None:
        batch = prioritized.sample(PRIORITIZED_BATCH_SIZE, beta=0.4)
        prioritized.update_priorities(batch["indexes"], errors)

    return {
        "add": lambda: buffer.add(**one),
        "sample": lambda: buffer.sample(BATCH_SIZE),
        PRIORITIZED: sample_and_update,
    }


LIBRARIES = {
    "seqrl-lightning": (ours, "seqrl_lightning"),
    "Stable-Baselines3": (stable_baselines3, "stable_baselines3"),
    "TorchRL": (torchrl, "torchrl"),
    "cpprb": (cpprb, "cpprb"),
}


def main() -> None:
    """Measures, prints and writes."""
    torch.set_num_threads(1)
    missing = [name for name, (_, package) in LIBRARIES.items() if importlib.util.find_spec(package) is None]
    for name in missing:
        print(f"left out: {name} (pip install -e '.[bench]')")
    figures = {size: measure(size, missing) for size in SIZES}
    report = {**circumstances("replay"), "left_out": missing, "batch_size": BATCH_SIZE, "microseconds": figures}
    (RESULTS / "replay.json").write_text(json.dumps(report, indent=1) + "\n")
    print(table(figures))


def table(figures: dict[Any, dict[str, dict[str, float]]]) -> str:
    """A Markdown table of microseconds; the sizes are numbers, or from JSON texts."""
    sizes = list(figures)
    lines = [
        "| library | microseconds of one | " + " | ".join(f"{int(size):,} stored" for size in sizes) + " |",
        "| --- | --- |" + " --- |" * len(sizes),
    ]
    for name, operations in figures[sizes[0]].items():
        for operation in operations:
            row = " | ".join(f"{figures[size][name][operation]:,.1f}" for size in sizes)
            lines.append(f"| {name} | {operation} | {row} |")
    return "\n".join(lines)


def measure(size: int, missing: list[str]) -> dict[str, dict[str, float]]:
    """The median time of a call of each operation, in microseconds."""
    operations = {name: make(size) for name, (make, _) in LIBRARIES.items() if name not in missing}
    times: dict[str, dict[str, list[float]]] = {
        name: {operation: [] for operation in calls} for name, calls in operations.items()
    }
    for _ in range(ROUNDS):
        for name, calls in operations.items():
            for operation, call in calls.items():
                times[name][operation].append(microseconds(call))
    return {
        name: {operation: round(statistics.median(values), 1) for operation, values in by_operation.items()}
        for name, by_operation in times.items()
    }


def microseconds(call: Callable[[], Any]) -> float:
    """The mean time of ``CALLS`` calls."""
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS * 1e6


if __name__ == "__main__":
    main()
