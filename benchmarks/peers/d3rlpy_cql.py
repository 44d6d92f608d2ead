"""d3rlpy's DiscreteCQL on a log of CartPole, with network and settings of ``configs/offline/cartpole_cql.yaml``.

It runs in an environment of its own, which :mod:`benchmarks.offline` makes, as d3rlpy pins another Gymnasium, and needs
nothing of this package. d3rlpy copies the target network where the config averages it, here once in the averaging's
time constant (1 / 0.005 updates), and lets the learning rate fall along a cosine where the config's falls linearly.
"""

import argparse
import json
import time

import d3rlpy
import gymnasium as gym
import numpy as np
import pandas as pd
import torch
from d3rlpy.dataset import MDPDataset, ReplayBuffer
from d3rlpy.logging import NoopAdapterFactory
from d3rlpy.models import VectorEncoderFactory
from d3rlpy.optimizers import AdamFactory, CosineAnnealingLRFactory


def main() -> None:
    """Train, and print the return and the CPU time as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--updates", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    d3rlpy.seed(arguments.seed)
    learner = d3rlpy.algos.DiscreteCQLConfig(
        learning_rate=3e-4,
        optim_factory=AdamFactory(
            clip_grad_norm=10.0, lr_scheduler_factory=CosineAnnealingLRFactory(arguments.updates, eta_min=6e-6)
        ),
        encoder_factory=VectorEncoderFactory([128, 128], use_layer_norm=True),
        batch_size=128,
        gamma=0.99,
        target_update_interval=200,
        alpha=1.0,
    ).create(device="cpu:0")
    learner.fit(
        logged(arguments.log),
        n_steps=arguments.updates,
        n_steps_per_epoch=arguments.updates,
        logger_adapter=NoopAdapterFactory(),
        show_progress=False,
    )
    cpu_seconds = time.process_time()  # since the program's start
    print("\n" + json.dumps({"cpu_seconds": round(cpu_seconds, 1), "return": greedy_return(learner, 100)}))


def logged(path: str) -> ReplayBuffer:
    """Return a log's episodes; the last choice of one that was cut is not learned from."""
    table = pd.read_csv(path)
    ends = table["episode"].ne(table["episode"].shift(-1))
    return MDPDataset(
        observations=np.array([json.loads(state) for state in table["state"]], np.float32),
        actions=table["action"].to_numpy(),
        rewards=table["reward"].to_numpy(np.float32),
        terminals=table["terminated"].to_numpy(np.float32),
        timeouts=(ends & (table["terminated"] == 0)).to_numpy(np.float32),
        action_size=2,
    )


def greedy_return(learner: d3rlpy.algos.DiscreteCQL, episodes: int) -> float:
    """Return the mean return of greedy episodes, from seeds that nothing else uses."""
    env = gym.make("CartPole-v1")
    total = 0.0
    for episode in range(episodes):
        observation, _ = env.reset(seed=2_000_000 + episode)
        over = False
        while not over:
            action = int(learner.predict(observation[None])[0])
            observation, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            over = terminated or truncated
    return total / episodes


if __name__ == "__main__":
    main()
