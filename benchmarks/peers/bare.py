"""Plain PyTorch, no framework: what a library adds its cost to. One environment, or Gymnasium's native vector one."""

import copy
import itertools

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.peers import arguments, timed

args = arguments()
torch.set_num_threads(1)
torch.manual_seed(args.seed)
rng = np.random.default_rng(args.seed)
N, C, B = args.num_envs, args.capacity, args.batch_size

if N == 1:
    env = gym.make(args.env_id, disable_env_checker=True)
    (obs_size,), n_actions = env.observation_space.shape, int(env.action_space.n)
else:
    env = gym.make_vec(args.env_id, num_envs=N, vectorization_mode="vector_entry_point")
    (obs_size,), n_actions = env.single_observation_space.shape, int(env.single_action_space.n)

sizes = [obs_size, *args.hidden_sizes]
layers: list[nn.Module] = []
for n_in, n_out in itertools.pairwise(sizes):
    layers += [nn.Linear(n_in, n_out), nn.ReLU()]
policy_net = nn.Sequential(*layers, nn.Linear(sizes[-1], n_actions))
target_net = copy.deepcopy(policy_net).requires_grad_(False)
optimizer = torch.optim.Adam(policy_net.parameters(), args.learning_rate, fused=True)

state = np.zeros((C, obs_size), np.float32)
next_state = np.zeros((C, obs_size), np.float32)
action = np.zeros(C, np.int64)
reward = np.zeros(C, np.float32)
terminated = np.zeros(C, np.float32)


def act(observation: np.ndarray, epsilon: float) -> np.ndarray:
    explores = rng.random(N) < epsilon
    if explores.all():
        return rng.integers(n_actions, size=N)
    with torch.inference_mode():
        greedy = policy_net(torch.from_numpy(observation)).argmax(1).numpy()
    return np.where(explores, rng.integers(n_actions, size=N), greedy)


def optimize_model(stored: int) -> None:
    index = rng.integers(min(stored, C), size=B)
    s, s2, a, r, d = (torch.from_numpy(column[index]) for column in (state, next_state, action, reward, terminated))
    with torch.no_grad():
        target = r + args.gamma * (1 - d) * target_net(s2).amax(1)
    loss = F.huber_loss(policy_net(s).gather(1, a[:, None]).squeeze(1), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def main() -> None:
    observation = env.reset(seed=args.seed)[0]
    env_steps = updates = synced = 0
    while env_steps < args.env_steps:
        epsilon = max(0.05, 1 - 0.95 * env_steps / (0.5 * args.env_steps))
        chosen = act(observation.reshape(N, -1), epsilon)
        result, r, term, trunc, _ = env.step(chosen if N > 1 else int(chosen[0]))
        slots = np.arange(env_steps, env_steps + N) % C
        state[slots], next_state[slots], action[slots], reward[slots] = observation, result, chosen, r
        terminated[slots] = term
        observation = env.reset()[0] if N == 1 and (term or trunc) else result
        env_steps += N
        while updates < (env_steps - args.warmup_env_steps) // args.env_steps_per_update:
            optimize_model(env_steps)
            updates += 1
        if env_steps // args.sync_every_env_steps > synced:
            synced = env_steps // args.sync_every_env_steps
            target_net.load_state_dict(policy_net.state_dict())


updates = (args.env_steps - args.warmup_env_steps) // args.env_steps_per_update
with timed("bare loop", env_steps=args.env_steps, updates=updates):
    main()
