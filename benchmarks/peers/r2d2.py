"""R2D2's update, by this library under Lightning's Trainer or (``--bare``) in plain PyTorch, on the same tensors.

LSTM 128, 32 windows of 40 steps after 20 of burn-in, no episode start within; double Q-learning, rescaled values,
importance weights, new priorities, fused Adam. Nothing is sampled and the target networks stay as they are.
"""

import argparse
import json
import time
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.peers import timed
from seqrl_lightning.algorithms import DQN
from seqrl_lightning.batches import Windows
from seqrl_lightning.networks import LSTM
from seqrl_lightning.replay import SequenceSampler

LENGTH, BURN_IN, BATCH, OBS, ACTIONS, HIDDEN = 40, 20, 32, 8, 4, 128
GAMMA, EPSILON, NUM_BATCHES, WARM_UP = 0.99, 1e-3, 8, 16


def windows() -> Windows:
    """Random windows."""
    no_starts = torch.zeros(BURN_IN + LENGTH + 1, BATCH, dtype=torch.bool)
    rows = torch.randn(BURN_IN + LENGTH + 1, BATCH, OBS)
    return Windows(
        observation=rows,
        is_first=no_starts,
        previous_action=torch.randint(ACTIONS, (len(rows), BATCH)),
        previous_reward=torch.randn(len(rows), BATCH),
        action_batch=torch.randint(ACTIONS, (LENGTH, BATCH)),
        reward_batch=torch.randn(LENGTH, BATCH, 1),
        terminated_batch=torch.zeros(LENGTH, BATCH, dtype=torch.bool),
        weight_batch=torch.rand(LENGTH, BATCH) + 0.5,
        slot_batch=torch.arange(BATCH)[None],
        network_state=torch.randn(1, BATCH, 2 * HIDDEN),
    )


class Batches(LightningDataModule):
    """The same batches over and over, ``updates_per_step`` of them side by side."""

    sampler = SequenceSampler(LENGTH, overlap=0, burn_in=BURN_IN, prioritized=True)  # whose kind the module checks

    def __init__(self, batches: list[Windows], updates: int, updates_per_step: int) -> None:
        super().__init__()
        several = [batches[i : i + updates_per_step] for i in range(0, len(batches), updates_per_step)]
        self.batches = [together(parts) for parts in several] * (updates // len(batches))

    def train_dataloader(self) -> DataLoader[Windows]:
        """One epoch of them."""
        batches: Any = self.batches  # which are whole already
        return DataLoader(batches, batch_size=None)


def together(batches: list[Windows]) -> Windows:
    """Batches side by side."""
    columns = zip(*batches, strict=True)
    return Windows(*(torch.cat(c, dim=1) if isinstance(c[0], Tensor) else c[0] for c in columns))  # type: ignore[arg-type]


class Bare(nn.Module):
    """An LSTM and a linear layer. The last input tells where an episode starts, like the library's."""

    def __init__(self) -> None:
        super().__init__()
        self.core = nn.LSTM(OBS + 1, HIDDEN)
        self.head = nn.Linear(HIDDEN, ACTIONS)

    def forward(self, rows: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """``[T, B, OBS] -> [T, B, ACTIONS]``."""
        features, state = self.core(F.pad(rows, (0, 1)), state)
        return self.head(features), state


def rescale(x: Tensor) -> Tensor:
    """R2D2's h."""
    return x.sign() * ((x.abs() + 1).sqrt() - 1) + EPSILON * x


def unscale(x: Tensor) -> Tensor:
    """Its inverse."""
    root = (1 + 4 * EPSILON * (x.abs() + 1 + EPSILON)).sqrt()
    return x.sign() * (((root - 1) / (2 * EPSILON)) ** 2 - 1)


def bare(batches: list[Windows], warm_up: int, updates: int) -> None:
    """The plain loop; prints the JSON line."""
    policy_net, target_net = Bare(), Bare().requires_grad_(False)
    optimizer = torch.optim.Adam(policy_net.parameters(), 1e-3, fused=True)

    def update(b: Windows) -> Tensor:
        h, c = (half.contiguous() for half in b.network_state.chunk(2, dim=-1))
        burn_in, rows = b.observation[:BURN_IN], b.observation[BURN_IN:]
        with torch.no_grad():
            _, state = policy_net(burn_in, (h, c))
            _, target_state = target_net(burn_in, (h, c))
            target_values = target_net(rows, target_state)[0][1:]
        q_values = policy_net(rows, state)[0]
        best = q_values[1:].detach().argmax(-1, keepdim=True)
        with torch.no_grad():
            next_values = unscale(target_values.gather(-1, best).squeeze(-1))
            targets = rescale(b.reward_batch.squeeze(-1) + GAMMA * next_values * ~b.terminated_batch)
        chosen = q_values[:-1].gather(-1, b.action_batch.unsqueeze(-1)).squeeze(-1)
        losses = F.huber_loss(chosen, targets, reduction="none")
        loss = (losses * b.weight_batch).sum() / losses.numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return (targets - chosen.detach()).abs()  # the priorities

    for i in range(warm_up):
        update(batches[i % len(batches)])
    with timed("bare loop", updates=updates):
        for i in range(updates):
            update(batches[i % len(batches)])


class Stopwatch(Callback):
    """Times the updates after the first ones, which warm up."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: object, outputs: object, batch: object, i: int) -> None:
        """Starts, and stops."""
        if trainer.global_step == WARM_UP:
            self.start = time.perf_counter()
        elif trainer.global_step > WARM_UP:
            self.seconds = time.perf_counter() - self.start


def main() -> None:
    """Trains and prints the JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--updates_per_step", type=int, default=1, choices=(1, 2, 4, 8))
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    batches = [windows() for _ in range(NUM_BATCHES)]
    if args.bare:
        bare(batches, WARM_UP, args.updates)
        return
    learner: dict[str, Any] = {"double": True, "value_rescaling": EPSILON, "updates_per_step": args.updates_per_step}
    module = DQN((OBS,), ACTIONS, lambda *shapes: LSTM(*shapes, HIDDEN), **learner)
    off: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    stopwatch = Stopwatch()
    trainer = Trainer(accelerator="cpu", max_epochs=1, callbacks=[stopwatch], **off)
    trainer.fit(module, datamodule=Batches(batches, WARM_UP + args.updates, args.updates_per_step))
    print("\n" + json.dumps({"peer": "seqrl-lightning", "updates": args.updates, "seconds": stopwatch.seconds}))


if __name__ == "__main__":
    main()
