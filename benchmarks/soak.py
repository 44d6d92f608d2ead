"""Memory over a long run: 1,000,000 env steps of the sequence task, everything on (``python -m benchmarks.soak``).

Writes ``benchmarks/results/soak.json``: the process's resident memory after the first tenth of the env steps and at the
end, and by how much it grew. Fails if that is more than 2 %.
"""

import argparse
import gc
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from seqrl_lightning.callbacks import AgentCallback
from seqrl_lightning.cli import SeqRLCLI

MOST_GROWTH = 0.02
CONFIG = Path(__file__).parent.parent / "configs" / "sequence_dqn.yaml"


class MemoryWatch(Callback):
    """Notes the resident memory at every hundredth of the run."""

    def __init__(self, env_steps: int) -> None:
        self._every = env_steps // 100
        self.mebibytes: dict[int, float] = {}  # by the env steps at which it was looked at

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Looks, if it is time."""
        env_steps = AgentCallback.of(trainer).progress.env_steps
        if env_steps // self._every > len(self.mebibytes):
            gc.collect()
            self.mebibytes[env_steps] = resident_mebibytes()


def resident_mebibytes() -> float:
    """This process's resident memory (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main() -> None:
    """Runs and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env_steps", type=int, default=1_000_000)
    env_steps = parser.parse_args().env_steps
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["seqrl"]
        args = [
            "fit",
            f"--config={CONFIG}",
            f"--trainer.default_root_dir={folder}",
            f"--agent.max_env_steps={env_steps}",
        ]
        args += [
            "--agent.max_episodes=null",
            "--data.num_envs=16",
            "--data.capacity=10000",
            "--agent.env_steps_per_update=32",
        ]
        args += ["--trainer.enable_progress_bar=false", "--trainer.callbacks=benchmarks.soak.MemoryWatch"]
        cli = SeqRLCLI([*args, f"--trainer.callbacks.env_steps={env_steps}"])
    watch: Any = next(callback for callback in cli.trainer.callbacks if type(callback).__name__ == "MemoryWatch")
    after_tenth = next(memory for at, memory in watch.mebibytes.items() if at >= env_steps // 10)
    at_end = list(watch.mebibytes.values())[-1]
    growth = at_end / after_tenth - 1
    result = {
        "env_steps": env_steps,
        "mebibytes_after_a_tenth": round(after_tenth, 2),
        "mebibytes_at_the_end": round(at_end, 2),
        "growth": round(growth, 4),
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(json.dumps(result, indent=2))
    (Path(__file__).parent / "results" / "soak.json").write_text(json.dumps(result, indent=2) + "\n")
    if growth > MOST_GROWTH:
        sys.exit(f"memory grew by {growth:.1%}, more than {MOST_GROWTH:.0%}")


if __name__ == "__main__":
    main()
