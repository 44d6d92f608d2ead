"""Updates along gradients that aren't finite."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from seqrl_lightning.algorithms.finite import FiniteUpdates
from seqrl_lightning.callbacks import LastCheckpoint, SkippedUpdates
from seqrl_lightning.replay import PrioritizedSampler
from seqrl_lightning.types import RunError
from tests.running import fit

DATA = {"env_id": "seqrl/Sequence-v0", "batch_size": 8, "capacity": 60, "batches_per_epoch": 1000}


class Poison(Callback):
    """Makes some batches' rewards infinite, and keeps the weights after every batch."""

    def __init__(self, updates: set[int]) -> None:
        self.updates = updates
        self.weights: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx in self.updates:
            batch.reward_batch.fill_(torch.nan)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.weights.append(torch.cat([p.detach().flatten().clone() for p in pl_module.policy_net.parameters()]))


def run(folder: Path, updates: set[int], updates_per_step: int = 1, **skipped_updates: int) -> tuple[Any, Poison]:
    poison = Poison(updates)
    callbacks = [poison, SkippedUpdates(**skipped_updates), LastCheckpoint()]
    trainer, module, _ = fit(
        folder,
        {**DATA, "sampler": PrioritizedSampler()},
        {"updates_per_step": updates_per_step},
        {"warmup_env_steps": 16},
        callbacks=callbacks,
        max_steps=30 * updates_per_step,
        log_every_n_steps=5,
    )
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
    assert all(torch.isfinite(value["exp_avg"]).all() for value in trainer.optimizers[0].state.values())
    return module, poison


@pytest.mark.parametrize("updates_per_step", [1, 3])
def test_they_are_refused_and_the_run_goes_on(tmp_path: Path, updates_per_step: int) -> None:
    with pytest.warns(UserWarning, match=r"wasn't finite in \d of the updates before update \d+.*loss is nan"):
        module, poison = run(tmp_path, {4, 9}, updates_per_step, max_skipped_updates=6)
    assert int(module.finite_updates.num_refused) == 2 * updates_per_step
    assert torch.equal(poison.weights[4], poison.weights[3])
    assert not torch.equal(poison.weights[5], poison.weights[4])
    saved = torch.load(tmp_path / "checkpoints" / "before_skipped_updates.ckpt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in saved["state_dict"].values())


def test_too_many_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"before update 10.* more than skipped_updates\.max_skipped_updates = 2"):
        run(tmp_path, {5, 6, 7, 9}, max_skipped_updates=2)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_an_optimizer_and_its_state_are_left_alone(optimizer: type[torch.optim.Optimizer]) -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    stepper = optimizer([parameter], 0.1)  # type: ignore[call-arg]
    guard = FiniteUpdates()
    for gradient in (1.0, torch.inf, -torch.inf, torch.nan, 1.0):
        before, is_bad = parameter.detach().clone(), not abs(gradient) < torch.inf
        parameter.grad = torch.tensor([0.5, gradient, 0.5])
        guard(stepper, [parameter])
        stepper.step()
        assert torch.equal(parameter.detach(), before) == is_bad
    assert guard.num_refused == 3
    if optimizer is torch.optim.Adam:
        assert stepper.state[parameter]["step"] == 2


def test_half_precision_does_not_overflow_in_the_check() -> None:
    parameter = torch.nn.Parameter(torch.zeros(400, dtype=torch.float16))
    parameter.grad = torch.full_like(parameter, 200.0)  # whose sum is more than float16 holds
    finite_updates = FiniteUpdates()
    finite_updates(torch.optim.SGD([parameter]), [parameter])
    assert finite_updates.num_refused == 0
    assert parameter.grad is not None
