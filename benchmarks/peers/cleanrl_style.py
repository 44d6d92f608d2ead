"""A script built as CleanRL's ``dqn.py`` is, which is no package that could be imported.

Like it, a vector environment of one with Gymnasium's episode statistics, Stable-Baselines3's replay buffer, torch's
plain Adam, and TensorBoard's writer called every 100 env steps.
"""

import copy
import itertools
import tempfile

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from stable_baselines3.common.buffers import ReplayBuffer
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from benchmarks.peers import arguments, timed

args = arguments()
assert args.num_envs == 1, "as dqn.py does"
torch.set_num_threads(1)
torch.manual_seed(args.seed)
rng = np.random.default_rng(args.seed)
envs = gym.vector.SyncVectorEnv(
    [lambda: gym.wrappers.RecordEpisodeStatistics(gym.make(args.env_id))],
    autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,
)
obs_size, n_actions = envs.single_observation_space.shape[0], int(envs.single_action_space.n)
sizes = [obs_size, *args.hidden_sizes]
layers: list[nn.Module] = []
for n_in, n_out in itertools.pairwise(sizes):
    layers += [nn.Linear(n_in, n_out), nn.ReLU()]
q_network = nn.Sequential(*layers, nn.Linear(sizes[-1], n_actions))
target_network = copy.deepcopy(q_network)
optimizer = torch.optim.Adam(q_network.parameters(), args.learning_rate)
replay_buffer = ReplayBuffer(
    args.capacity,
    envs.single_observation_space,
    envs.single_action_space,
    device="cpu",
    handle_timeout_termination=False,
)


def act(observations: np.ndarray, epsilon: float) -> np.ndarray:
    if rng.random() < epsilon:
        return np.array([envs.single_action_space.sample()])
    return q_network(torch.Tensor(observations)).argmax(1).numpy()


def update(writer: SummaryWriter, env_steps: int) -> None:
    batch = replay_buffer.sample(args.batch_size)
    with torch.no_grad():
        next_values = target_network(batch.next_observations).max(1).values
        targets = batch.rewards.flatten() + args.gamma * next_values * (1 - batch.dones.flatten())
    values = q_network(batch.observations).gather(1, batch.actions).squeeze()
    loss = F.huber_loss(values, targets)
    if env_steps % 100 == 0:
        writer.add_scalar("losses/td_loss", loss, env_steps)
        writer.add_scalar("losses/q_values", values.mean().item(), env_steps)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def main(writer: SummaryWriter) -> None:
    observations = envs.reset(seed=args.seed)[0]
    for env_steps in range(1, args.env_steps + 1):
        actions = act(observations, max(0.05, 1 - 0.95 * env_steps / (0.5 * args.env_steps)))
        next_observations, rewards, terminated, truncated, infos = envs.step(actions)
        stored = next_observations.copy()
        if terminated[0] or truncated[0]:
            stored[0] = infos["final_obs"][0]
            writer.add_scalar("charts/episodic_return", infos["final_info"]["episode"]["r"][0], env_steps)
        replay_buffer.add(observations, stored, actions, rewards, terminated, [infos])
        observations = next_observations
        if env_steps > args.warmup_env_steps and env_steps % args.env_steps_per_update == 0:
            update(writer, env_steps)
        if env_steps % args.sync_every_env_steps == 0:
            for target, parameter in zip(target_network.parameters(), q_network.parameters(), strict=True):
                target.data.copy_(parameter.data)


updates = (args.env_steps - args.warmup_env_steps) // args.env_steps_per_update
with (
    tempfile.TemporaryDirectory() as folder,
    SummaryWriter(folder) as log,
    timed("CleanRL's way", env_steps=args.env_steps, updates=updates),
):
    main(log)
