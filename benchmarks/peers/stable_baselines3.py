"""Stable-Baselines3's DQN."""

import torch
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env

from benchmarks.peers import arguments, timed

args = arguments()
torch.set_num_threads(1)
# SB3 counts train_freq in steps of the vector environment: 16 environments step 16 times, then it updates 16 times N.
per_round = args.env_steps_per_update if args.num_envs == 1 else args.env_steps_per_update * args.num_envs
model = DQN(
    "MlpPolicy",
    make_vec_env(args.env_id, args.num_envs, seed=args.seed),
    learning_rate=args.learning_rate,
    buffer_size=args.capacity,
    learning_starts=args.warmup_env_steps,
    batch_size=args.batch_size,
    tau=1.0,
    gamma=args.gamma,
    train_freq=per_round // args.num_envs,
    gradient_steps=per_round // args.env_steps_per_update,
    target_update_interval=args.sync_every_env_steps,
    exploration_fraction=0.5,
    exploration_final_eps=0.05,
    policy_kwargs={"net_arch": args.hidden_sizes},
    seed=args.seed,
    device="cpu",
    verbose=0,
)
updates = (args.env_steps - args.warmup_env_steps) // args.env_steps_per_update
with timed("Stable-Baselines3", env_steps=args.env_steps, updates=updates):
    model.learn(args.env_steps)
