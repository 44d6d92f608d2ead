from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.testing import assert_close

from seqrl_lightning.algorithms import DQN
from seqrl_lightning.callbacks import TargetSync
from seqrl_lightning.types import ConfigurationError
from tests.running import fit, seqrl


class Weights(Callback):
    """Remembers both networks' weights after every update."""

    def __init__(self) -> None:
        self.policy: list[Tensor] = []
        self.target: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        for name, weights in (("policy", self.policy), ("target", self.target)):
            parameters = getattr(pl_module, f"{name}_net").parameters()
            weights.append(torch.cat([p.detach().flatten() for p in parameters]).clone())


def run(tmp_path: Path, **target_sync: Any) -> Weights:
    weights = Weights()
    data = {"env_id": "tests/Corridor-v0", "batch_size": 8, "capacity": 100}
    agent = {"warmup_env_steps": 8}
    fit(tmp_path, data, {}, agent, target_sync, callbacks=[weights], max_steps=9)
    return weights


def test_a_hard_copy_every_four_updates(tmp_path: Path) -> None:
    weights = run(tmp_path, sync_every_updates=4, tau=1.0)
    for update in range(3, 9):
        assert_close(weights.target[update], weights.policy[3 if update < 7 else 7], rtol=0, atol=0)
    assert not torch.equal(weights.target[2], weights.policy[2])


def test_polyak_averaging_by_hand(tmp_path: Path) -> None:
    weights = run(tmp_path, sync_every_updates=1, tau=0.25)
    for update in range(1, 9):
        expected = 0.75 * weights.target[update - 1] + 0.25 * weights.policy[update]
        assert_close(weights.target[update], expected)


def test_no_lag_with_a_copy_at_every_update(tmp_path: Path) -> None:
    weights = run(tmp_path, sync_every_updates=1, tau=1.0)
    for policy, target in zip(weights.policy, weights.target, strict=True):
        assert torch.equal(policy, target)


def test_buffers_are_copied_with_each_sync() -> None:
    module: Any = DQN((3,), 2)
    for net in (module.policy_net, module.target_net):
        net.register_buffer("seen", torch.zeros(1))  # like the running statistics of a batch norm
    trainer: Any = SimpleNamespace(optimizers=[torch.optim.SGD(module.policy_net.parameters())])
    TargetSync(sync_every_updates=2).on_train_start(trainer, module)
    seen = []
    for update in range(1, 5):
        module.policy_net.seen.fill_(update)
        trainer.optimizers[0].step()
        seen.append(float(module.target_net.seen))
    assert seen == [0.0, 2.0, 2.0, 4.0]


@pytest.mark.parametrize(("every", "expected"), [(1, 0.005), (2, 1.0), (500, 1.0)])
def test_by_default_it_creeps_at_every_update_or_copies_now_and_then(every: int, expected: float) -> None:
    """A step of 0.005 every 500 updates would take 69,000 updates to go half of the way."""
    assert TargetSync(sync_every_updates=every).tau == expected
    assert TargetSync(sync_every_updates=every, tau=0.3).tau == 0.3


def test_syncs_that_are_rare_are_copies(tmp_path: Path) -> None:
    weights = run(tmp_path, sync_every_updates=4)
    assert torch.equal(weights.target[3], weights.policy[3])
    assert torch.equal(weights.target[6], weights.policy[3])
    assert torch.equal(weights.target[7], weights.policy[7])


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(("name", "value"), [("tau", 0.5), ("sync_every_updates", 10)])
def test_settings_without_a_target_network_are_refused(tmp_path: Path, name: str, value: float) -> None:
    flags = ["--model=PQN", "--data.env_id=CartPole-v1", f"--trainer.default_root_dir={tmp_path}"]
    status, _, errors = seqrl("fit", *flags, f"--target_sync.{name}={value}")
    assert status == 2
    line = f"seqrl: error: target_sync.{name} is {value}; it must be left out: PQN has no target network"
    assert errors.splitlines()[-1] == line


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"sync_every_updates": 0}, "target_sync.sync_every_updates is 0"),
        ({"tau": 0.0}, "target_sync.tau is 0.0"),
        ({"tau": 1.5}, "target_sync.tau is 1.5"),
    ],
)
def test_bad_settings_are_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TargetSync(**kwargs)
