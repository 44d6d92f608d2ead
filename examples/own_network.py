"""A network of your own: memory by traces that fade, each at its own pace (`python examples/own_network.py`).

A network has a torso, from observations to features, and a head. What it carries from step to step is its state: one
tensor with the batch in dimension 1, or None.
"""

import math
import sys

import torch
from torch import Tensor, nn

from seqrl_lightning.cli import SeqRLCLI
from seqrl_lightning.networks import HeadCallable, LinearHead, Network
from seqrl_lightning.types import State


class Traces(Network):
    """An MLP on the observation and on its traces: `trace[t] = decay * trace[t - 1] + observation[t]`."""

    remembers = True

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        decays: tuple[float, ...] = (0.5, 0.9, 0.98),
        hidden_size: int = 64,
        head: HeadCallable = LinearHead,
    ) -> None:
        super().__init__(hidden_size, out_shape, head)
        size = math.prod(obs_shape)
        self.decays: Tensor
        self.register_buffer("decays", torch.tensor(decays).repeat_interleave(size))
        self.layer = nn.Linear(size * (1 + len(decays)), hidden_size)

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        rows = observation.flatten(2).to(self.dtype)  # [T, B, size]
        trace = rows.new_zeros(1, rows.shape[1], len(self.decays)) if state is None else state
        seen = []
        for t, row in enumerate(rows):
            if is_first is not None:
                trace = trace.masked_fill(is_first[t].unsqueeze(-1), 0.0)  # a new episode
            trace = self.decays * trace + row.repeat(1, len(self.decays) // row.shape[1])
            seen.append(torch.cat([row, trace[0]], dim=-1))
        return self.layer(torch.stack(seen)).relu(), trace


def main() -> None:
    """Train it."""
    settings = ["--data.env_id=seqrl/MemoryChain-v0", "--data.env_kwargs.memory_length=10", "--data.num_envs=8"]
    settings += ["--model.network=own_network.Traces", "--model.network.decays=[0.8, 0.95]", "--target_sync.tau=0.02"]
    settings += ["--agent.epsilon.decay_env_steps=6000", "--agent.env_steps_per_update=16"]
    overrides, sys.argv[1:] = sys.argv[1:], []
    trainer = SeqRLCLI(["fit", *settings, "--agent.max_env_steps=12000", *overrides]).trainer
    print(f"return of the greedy policy: {trainer.callback_metrics['val/return_mean']:g} of 1; see {trainer.log_dir}")


if __name__ == "__main__":
    main()
