"""Measure what is learned from logs alone (``python -m benchmarks.offline``).

CartPole: 10,000 steps of a mediocre policy, from which conservative Q-learning and plain DQN learn, three seeds each.
DelayedRecall: episodes of a trained agent, from which a recurrent network is cloned. The package logs both by itself.
Results are in ``benchmarks/results/offline.json``.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import seqrl_lightning
from seqrl_lightning.recording import write_played

RESULTS = Path(__file__).parent / "results" / "offline.json"
CONFIGS = Path(__file__).parent.parent / "configs"
NUM_STEPS = 10_000
AGENT_SEED = 101  # of the agents that the logs are of; learners have seeds 1, 2 and 3
SEEDS = (1, 2, 3)
CARTPOLE_ENV_STEPS, CARTPOLE_EPSILON = 16_000, 0.45
RECALL_ENV_STEPS, RECALL_EPISODES, RECALL_EPSILON = 60_000, 1_000, 0.1


def main() -> None:
    """Make what is missing: agents, logs, learners."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("offline_runs"), help="where runs and logs are kept")
    folder = parser.parse_args().folder
    found = {"cartpole": cartpole(folder / "cartpole"), "delayed_recall": delayed_recall(folder / "delayed_recall")}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def cartpole(folder: Path) -> dict[str, Any]:
    """Learn CartPole from the log of a mediocre policy."""
    steps = ["--agent.max_env_steps", str(CARTPOLE_ENV_STEPS)]
    log = logged(folder, "cartpole_dqn", 200, CARTPOLE_EPSILON, steps, NUM_STEPS)
    mediocre = returns_in(log).mean()
    learners: dict[str, list[str]] = {"cql": [], "dqn": ["--model.cql_alpha", "0"]}
    results = {
        name: [learned(folder / name, "offline/cartpole_cql", log, seed, words) for seed in SEEDS]
        for name, words in learners.items()
    }
    return {"env_steps": NUM_STEPS, "epsilon": CARTPOLE_EPSILON, "log_return_mean": mediocre, **results}


def delayed_recall(folder: Path) -> dict[str, Any]:
    """Clone the policy of an agent with a recurrent network."""
    steps = ["--agent.max_env_steps", str(RECALL_ENV_STEPS)]
    log = logged(folder, "delayed_recall_gru", RECALL_EPISODES, RECALL_EPSILON, steps)
    agent = evaluated(folder / "agent", folder / "agent_test.json")
    clones = [learned(folder / "clone", "offline/delayed_recall_clone", log, seed) for seed in SEEDS]
    return {"episodes": RECALL_EPISODES, "epsilon": RECALL_EPSILON, "agent": agent, "clone": clones}


def logged(
    folder: Path,
    config: str,
    num_episodes: int,
    epsilon: float,
    words: list[str] | None = None,
    most: int | None = None,
) -> Path:
    """Return the log of an agent, which is trained if it isn't there."""
    log = folder / "log.csv"
    if not log.exists():
        last = fit(folder / "agent", config, AGENT_SEED, words)
        write_played(seqrl_lightning.load_policy(last), log, num_episodes, AGENT_SEED, epsilon)
        pd.read_csv(log).head(most).to_csv(log, index=False)
    return log


def returns_in(log: Path) -> "pd.Series[float]":
    """Return the return of each whole episode in a log."""
    table = pd.read_csv(log)
    has_ended = table.groupby("episode")[["terminated", "truncated"]].max().max(axis=1) > 0
    return table.groupby("episode")["reward"].sum()[has_ended]


def learned(folder: Path, config: str, log: Path, seed: int, words: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a learner of a log reaches at the end, and how long it took."""
    folder = folder / f"seed_{seed}"
    found = folder / "result.json"
    if not found.exists():
        start = time.monotonic()
        last = fit(folder, config, seed, ["--data.trials", str(log), *words])
        result = {"seed": seed, "seconds": round(time.monotonic() - start), "return": evaluated_last(last)}
        found.write_text(json.dumps(result))
    return dict(json.loads(found.read_text()))


def evaluated(folder: Path, found: Path) -> float:
    """Return the mean return of an agent's greedy policy."""
    if not found.exists():
        found.write_text(json.dumps(evaluated_last(*folder.glob("lightning_logs/version_0/checkpoints/last.ckpt"))))
    return float(json.loads(found.read_text()))


def evaluated_last(checkpoint: Path) -> float:
    """Return the mean return of 100 greedy episodes of a checkpoint's policy, from seeds that nothing else uses."""
    table = checkpoint.parent / "test.csv"
    write_played(seqrl_lightning.load_policy(checkpoint), table, 100, seed=2_000_000)
    return float(pd.read_csv(table).groupby("episode")["reward"].sum().mean())


def fit(folder: Path, config: str, seed: int, words: Sequence[str]) -> Path:
    """Train, and return the last checkpoint."""
    command = [sys.executable, "-m", "seqrl_lightning", "fit", "--config", str(CONFIGS / f"{config}.yaml")]
    command += ["--seed_everything", str(seed), "--trainer.default_root_dir", str(folder), *words]
    subprocess.run(command, check=True)
    return folder / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"


if __name__ == "__main__":
    main()
