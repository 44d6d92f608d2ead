"""A DQN loop from TorchRL's components: its environment, collector, replay buffer, loss and target update."""

import torch
from tensordict.nn import TensorDictSequential
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import GymEnv, SerialEnv, StepCounter, TransformedEnv
from torchrl.modules import MLP, EGreedyModule, QValueActor
from torchrl.objectives import DQNLoss, HardUpdate, ValueEstimators

from benchmarks.peers import arguments, timed

args = arguments()
torch.set_num_threads(1)
torch.manual_seed(args.seed)


def make_env() -> TransformedEnv:
    return TransformedEnv(GymEnv(args.env_id), StepCounter())


env = make_env() if args.num_envs == 1 else SerialEnv(args.num_envs, make_env)
single_env = make_env()
action_spec = single_env.action_spec
(obs_size,) = single_env.observation_spec["observation"].shape
network = MLP(obs_size, action_spec.n, num_cells=args.hidden_sizes, activation_class=torch.nn.ReLU)
q_values = QValueActor(network, spec=action_spec, in_keys=["observation"])
explore = EGreedyModule(action_spec, eps_init=1.0, eps_end=0.05, annealing_num_steps=args.env_steps // 2)
per_batch = max(args.env_steps_per_update, args.num_envs)  # env steps between two visits to the learner
per_batch -= per_batch % args.num_envs
collector = Collector(
    env,
    TensorDictSequential(q_values, explore),
    frames_per_batch=per_batch,
    total_frames=args.env_steps,
    init_random_frames=args.warmup_env_steps,
)
loss_module = DQNLoss(q_values, action_space=action_spec, loss_function="smooth_l1", delay_value=True)
loss_module.make_value_estimator(ValueEstimators.TD0, gamma=args.gamma)
target_update = HardUpdate(
    loss_module, value_network_update_interval=max(1, args.sync_every_env_steps // args.env_steps_per_update)
)
optimizer = torch.optim.Adam(loss_module.parameters(), args.learning_rate, fused=True)
memory = TensorDictReplayBuffer(storage=LazyTensorStorage(args.capacity), batch_size=args.batch_size)


def main() -> int:
    env_steps = updates = 0
    for transitions in collector:
        memory.extend(transitions.reshape(-1))
        explore.step(transitions.numel())
        env_steps += transitions.numel()
        while updates < (env_steps - args.warmup_env_steps) // args.env_steps_per_update:
            loss = loss_module(memory.sample())["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            target_update.step()
            updates += 1
    return updates


with timed("TorchRL", env_steps=args.env_steps) as run:
    run["updates"] = main()
