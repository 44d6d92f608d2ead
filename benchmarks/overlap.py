"""Collecting and updating at once: ``python -m benchmarks.overlap``.

A step of the environments takes 5 ms, in processes of their own; an update of the network about as long. Prints how
long an iteration takes without and with ``--agent.overlap true``, and writes ``benchmarks/results/overlap.json``.
"""

import json
import statistics
import sys
import tempfile
import time
from typing import Any

from benchmarks.breakdown import Stopwatch
from benchmarks.peers.ours import TimedCLI
from benchmarks.throughput import RESULTS, circumstances

UPDATES, ROUNDS = 300, 5
SETTINGS = {
    "data.env_id": "benchmarks.slow_env:benchmarks/Slow-v0",
    "data.num_envs": 2,
    "data.vectorization_mode": "async",
    "data.batches_per_epoch": 1_000_000,
    "data.eval_episodes": 1,
    "model.network.hidden_sizes": "[256, 160]",
    "agent.warmup_env_steps": 128,
    "agent.env_steps_per_update": 2,
    "trainer.max_steps": UPDATES,
    "trainer.enable_progress_bar": "false",
}


def main() -> None:
    """Measures, prints and writes."""
    sys.argv = sys.argv[:1]
    rounds = [measure() for _ in range(ROUNDS)]
    figures = {name: round(statistics.median(r[name] for r in rounds), 2) for name in rounds[0]}
    report = {**circumstances("overlap"), "milliseconds": figures}
    (RESULTS / "overlap.json").write_text(json.dumps(report, indent=1) + "\n")
    for name, value in figures.items():
        print(f"{name:50s} {value:8.2f}")


def measure() -> dict[str, float]:
    """Milliseconds of an iteration: its parts, one after the other, and at once."""
    in_turn, collect = iteration(overlap=False)
    at_once, _ = iteration(overlap=True)
    update = in_turn - collect
    return {
        "collect": collect,
        "update, and all the rest": update,
        "one after the other": in_turn,
        "at once": at_once,
        "at once, as a multiple of the longer part": at_once / max(collect, update),
    }


def iteration(overlap: bool) -> tuple[float, float]:
    """Milliseconds of an iteration, and of the environments' step in it where that is waited for."""
    watch = Stopwatch()

    class Timed(TimedCLI):
        def before_fit(self) -> None:
            super().before_fit()
            data: Any = self.datamodule
            agent: Any = next(c for c in self.trainer.callbacks if hasattr(c, "on_fit_start") and hasattr(c, "overlap"))
            warm_up = agent.on_fit_start

            def on_fit_start(*args: Any) -> None:
                warm_up(*args)
                self.clock.start = time.perf_counter()  # the warm-up is no iteration
                watch.put_around(data.envs, "step", "step")

            agent.on_fit_start = on_fit_start

    with tempfile.TemporaryDirectory() as folder:
        words = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
        cli = Timed(["fit", *words, "--agent.overlap", str(overlap).lower(), "--trainer.default_root_dir", folder])
    return cli.clock.seconds / UPDATES * 1e3, watch.seconds["step"] / UPDATES * 1e3


if __name__ == "__main__":
    main()
