from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.testing import assert_close

from seqrl_lightning.callbacks import TargetSync
from seqrl_lightning.types import ConfigurationError
from tests.running import fit


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
