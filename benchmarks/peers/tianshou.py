"""Tianshou's DQN. Its warm-up is collected before the clock starts, and not counted."""

import logging

import gymnasium as gym
import torch
from tianshou.algorithm import DQN
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils.net.common import Net

from benchmarks.peers import arguments, timed

args = arguments()
logging.disable(logging.CRITICAL)
torch.set_num_threads(1)
env = gym.make(args.env_id)
net = Net(state_shape=env.observation_space.shape, action_shape=env.action_space.n, hidden_sizes=args.hidden_sizes)
policy = DiscreteQLearningPolicy(
    model=net, action_space=env.action_space, observation_space=env.observation_space, eps_training=0.3
)
algorithm = DQN(
    policy=policy,
    optim=AdamOptimizerFactory(lr=args.learning_rate),
    gamma=args.gamma,
    target_update_freq=max(1, args.sync_every_env_steps // args.env_steps_per_update),
    is_double=False,
    huber_loss_delta=1.0,
)
envs = DummyVectorEnv([lambda: gym.make(args.env_id) for _ in range(args.num_envs)])
envs.seed(args.seed)
collector = Collector(algorithm, envs, VectorReplayBuffer(args.capacity, args.num_envs), exploration_noise=True)
collector.reset()
collector.collect(n_step=args.warmup_env_steps, random=True)
env_steps = args.env_steps - args.warmup_env_steps
settings = OffPolicyTrainerParams(
    max_epochs=1,
    epoch_num_steps=env_steps,
    training_collector=collector,
    test_collector=None,
    collection_step_num_env_steps=max(args.env_steps_per_update, args.num_envs),
    batch_size=args.batch_size,
    update_step_num_gradient_steps_per_sample=1 / args.env_steps_per_update,
    show_progress=False,
    verbose=False,
    test_in_training=False,
)
with timed("Tianshou", env_steps=env_steps, updates=env_steps // args.env_steps_per_update):
    algorithm.run_training(settings)
