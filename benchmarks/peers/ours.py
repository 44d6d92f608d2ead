"""This library's ``seqrl fit``, with everything on: Trainer, CLI, TensorBoard, progress bar, checkpoints.

Takes the arguments of ``seqrl fit``: ``python -m benchmarks.peers.ours --config benchmarks/jobs/a.yaml``.
"""

import json
import sys
import tempfile
import time
from typing import Any

from lightning.pytorch import Callback

from seqrl_lightning.callbacks import AgentCallback
from seqrl_lightning.cli import SeqRLCLI


class Clock(Callback):
    """From the first env step to the end of training; start-up, and the first step if it compiles, are not counted."""

    def setup(self, trainer: object, pl_module: object, stage: str) -> None:
        """Starts, before the agent warms the replay memory up."""
        self.start = time.perf_counter()

    def on_train_start(self, trainer: object, pl_module: object) -> None:
        """Looks when there is nothing left to do but to train, and to compile."""
        self.train_start = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: object, batch: object, batch_idx: int) -> None:
        """Takes the first training step off, if it had to compile."""
        if trainer.global_step == pl_module.updates_per_step and pl_module.compile_mode:
            self.start += time.perf_counter() - self.train_start

    def on_train_end(self, trainer: object, pl_module: object) -> None:
        """Stops."""
        self.seconds = time.perf_counter() - self.start


class TimedCLI(SeqRLCLI):
    """The command line with a clock."""

    def before_fit(self) -> None:
        """Adds the clock, the last callback to be set up."""
        super().before_fit()
        self.clock = Clock()
        self.trainer.callbacks.append(self.clock)  # type: ignore[attr-defined]


def main() -> None:
    """Trains and prints the JSON line."""
    settings, sys.argv = sys.argv[1:], sys.argv[:1]
    with tempfile.TemporaryDirectory() as folder:
        cli = TimedCLI(["fit", *settings, "--trainer.default_root_dir", folder])
    env_steps = AgentCallback.of(cli.trainer).progress.env_steps
    run = {"peer": "seqrl-lightning", "env_steps": env_steps, "updates": cli.trainer.global_step}
    print("\n" + json.dumps({**run, "seconds": round(cli.clock.seconds, 4)}))


if __name__ == "__main__":
    main()
