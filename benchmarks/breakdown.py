"""Break down the time of training: ``python -m benchmarks.breakdown --config benchmarks/jobs/b.yaml``.

Takes the arguments of ``seqrl fit``. It times the parts while the real run goes on, so each figure holds the cost of
two clock readings; "the rest" is Lightning's loop, logging and whatever is not named. The parts of an update are those
of a run with several updates a step, and not compiled.
"""

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.peers.ours import TimedCLI
from seqrl_lightning.algorithms import DQN, LearnerModule
from seqrl_lightning.collect.env_steps import EnvSteps
from seqrl_lightning.replay import RingBuffer, UniformSampler
from seqrl_lightning.speed import PlainStep


class Stopwatch:
    """The time spent in functions that it was put around."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def put_around(self, owner: Any, name: str, part: str) -> None:
        """Times ``owner.name`` as ``part`` from here on."""
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[part] += time.perf_counter() - start

        setattr(owner, name, timed)


def main() -> None:
    """Runs and prints."""
    settings, sys.argv = sys.argv[1:], sys.argv[:1]
    watch = Stopwatch()
    watch.put_around(LearnerModule, "act_values", "act (network)")
    watch.put_around(RingBuffer, "add", "store")
    watch.put_around(RingBuffer, "transitions", "sample (copy)")
    watch.put_around(DQN, "optimize_model", "forward, target and loss")
    watch.put_around(PlainStep, "__call__", "step, all in all")
    watch.put_around(torch.Tensor, "backward", "backward")
    watch.put_around(EnvSteps, "_take_until", "agent, all in all")
    watch.put_around(UniformSampler, "slots", "sample (draw)")

    class Breakdown(TimedCLI):
        def before_fit(self) -> None:
            super().before_fit()
            original = self.datamodule.setup

            def setup(stage: str) -> None:
                original(stage)
                watch.put_around(self.datamodule.envs, "step", "env step")

            self.datamodule.setup = setup

    with tempfile.TemporaryDirectory() as folder:
        cli = Breakdown(["fit", *settings, "--trainer.default_root_dir", folder])
    report(watch.seconds, cli)


def report(seconds: dict[str, float], cli: TimedCLI) -> None:
    """Prints microseconds for each update."""
    updates, total = cli.trainer.global_step, cli.clock.seconds
    agent = seconds.pop("agent, all in all")
    step, gradient = seconds.pop("step, all in all"), seconds["forward, target and loss"] + seconds["backward"]
    seconds["clip, optimizer and target sync"] = step - gradient
    seconds["agent's own"] = agent - sum(seconds[part] for part in ("act (network)", "store", "env step"))
    seconds["the rest"] = total - sum(seconds.values())
    print(f"\n{updates} updates in {total:.1f} s; microseconds for each update:")
    for part, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{part:32s} {spent / updates * 1e6:10.1f}  {spent / total:6.1%}")


if __name__ == "__main__":
    main()
