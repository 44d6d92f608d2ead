"""The seed's job as the PyTorch tutorial writes DQN: transitions in a deque, concatenated batch by batch.

Ten objects, 150 episodes in one order, 150 in the reverse, with the reference settings and Polyak averaging.
"""

import argparse
import math
import random
from collections import deque, namedtuple

import gymnasium as gym
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.peers import timed
from seqrl_lightning.envs import SequenceEnv  # the task itself is the same for everyone

Transition = namedtuple("Transition", ("state", "action", "next_state", "reward"))
BATCH_SIZE, GAMMA, EPS_START, EPS_END, EPS_DECAY, TAU, LR = 128, 0.99, 0.9, 0.05, 200, 0.005, 1e-4

torch.set_num_threads(1)
torch.manual_seed(1)
random.seed(1)
parser = argparse.ArgumentParser()
parser.add_argument("--episodes", type=int, default=300)
args = parser.parse_args()
blocks = [{"sequence": "ABCDEFGHIJ", "episodes": 150}, {"sequence": "reversed"}]
env: gym.Env = SequenceEnv(blocks=blocks)


class Network(nn.Module):
    def __init__(self, n_observations: int, n_actions: int) -> None:
        super().__init__()
        self.layer1 = nn.Linear(n_observations, 128)
        self.layer2 = nn.Linear(128, 128)
        self.layer3 = nn.Linear(128, n_actions)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer3(F.relu(self.layer2(F.relu(self.layer1(x)))))


policy_net, target_net = Network(10, 10), Network(10, 10)
target_net.load_state_dict(policy_net.state_dict())
optimizer = torch.optim.Adam(policy_net.parameters(), lr=LR)
memory: deque = deque(maxlen=10_000)
env_steps = updates = 0


def select_action(state: torch.Tensor) -> torch.Tensor:
    epsilon = EPS_END + (EPS_START - EPS_END) * math.exp(-env_steps / EPS_DECAY)
    if random.random() > epsilon:
        with torch.no_grad():
            return policy_net(state).max(1).indices.view(1, 1)
    return torch.tensor([[env.action_space.sample()]], dtype=torch.long)


def optimize_model() -> None:
    batch = Transition(*zip(*random.sample(memory, BATCH_SIZE), strict=True))
    non_final_mask = torch.tensor([s is not None for s in batch.next_state], dtype=torch.bool)
    non_final_next_states = torch.cat([s for s in batch.next_state if s is not None])
    state_batch, action_batch, reward_batch = torch.cat(batch.state), torch.cat(batch.action), torch.cat(batch.reward)
    state_action_values = policy_net(state_batch).gather(1, action_batch)
    next_state_values = torch.zeros(BATCH_SIZE)
    with torch.no_grad():
        next_state_values[non_final_mask] = target_net(non_final_next_states).max(1).values
    expected_state_action_values = next_state_values * GAMMA + reward_batch
    loss = nn.SmoothL1Loss()(state_action_values, expected_state_action_values.unsqueeze(1))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_value_(policy_net.parameters(), 1)
    optimizer.step()


def sync_target() -> None:
    target, policy = target_net.state_dict(), policy_net.state_dict()
    for key in policy:
        target[key] = policy[key] * TAU + target[key] * (1 - TAU)
    target_net.load_state_dict(target)


def main() -> None:
    global env_steps, updates
    for _ in range(args.episodes):
        state = torch.tensor(env.reset()[0], dtype=torch.float32).unsqueeze(0)
        done = False
        while not done:
            action = select_action(state)
            observation, reward, terminated, truncated, _ = env.step(action.item())
            env_steps += 1
            done = terminated or truncated
            next_state = None if terminated else torch.tensor(observation, dtype=torch.float32).unsqueeze(0)
            memory.append(Transition(state, action, next_state, torch.tensor([float(reward)])))
            state = next_state
            if len(memory) >= BATCH_SIZE:
                optimize_model()
                updates += 1
                sync_target()


with timed("seed's loop") as run:
    main()
    run.update(env_steps=env_steps, updates=updates)
