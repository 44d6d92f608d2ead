"""This library's ``seqrl fit``, with everything on: Trainer, CLI, TensorBoard, progress bar, checkpoints."""

import json
import sys
import tempfile
import time
from pathlib import Path

from lightning.pytorch import Callback

from benchmarks.peers import arguments
from seqrl_lightning.cli import SeqRLCLI

JOBS = Path(__file__).parent.parent / "jobs"


class Clock(Callback):
    """From the first env step to the end of training; start-up is not counted."""

    def setup(self, trainer: object, pl_module: object, stage: str) -> None:
        """Starts, before the agent warms the replay memory up."""
        self.start = time.perf_counter()

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


args = arguments()
sys.argv = sys.argv[:1]
updates = (args.env_steps - args.warmup_env_steps) // args.env_steps_per_update
job = "c" if args.num_envs > 1 else "a"
with tempfile.TemporaryDirectory() as folder:
    settings = {
        "config": JOBS / f"{job}.yaml",
        "trainer.default_root_dir": folder,
        "trainer.max_steps": updates,
        "agent.env_steps_per_update": args.env_steps_per_update,
        "agent.epsilon.decay_env_steps": args.env_steps // 2,
        "target_sync.sync_every_updates": args.sync_every_env_steps // args.env_steps_per_update,
        "data.num_envs": args.num_envs,
        "seed_everything": args.seed,
    }
    cli = TimedCLI(["fit", *(word for name, value in settings.items() for word in (f"--{name}", str(value)))])
agent = next(callback for callback in cli.trainer.callbacks if hasattr(callback, "env_steps"))  # type: ignore[attr-defined]
line = {"peer": "seqrl-lightning", "env_steps": agent.env_steps, "updates": cli.trainer.global_step}
print("\n" + json.dumps({**line, "seconds": round(cli.clock.seconds, 4)}))
