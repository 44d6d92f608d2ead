"""A callback that tells tests what went on in each process."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback


class Witness(Callback):
    """Writes ``rank<R>.pt`` into the run's root: the first update, and the weights and the replay memory at the end."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if "batch" not in self.seen:
            self.seen["batch"] = [None if column is None else column.clone() for column in batch]
            self.seen["first_weights"] = {key: value.clone() for key, value in pl_module.state_dict().items()}

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if "gradient" not in self.seen:
            self.seen["gradient"] = [parameter.grad.clone() for parameter in pl_module.policy_net.parameters()]

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.seen["weights"] = dict(pl_module.state_dict())
        self.seen["data"] = trainer.datamodule.state_dict()
        torch.save(self.seen, Path(trainer.default_root_dir) / f"rank{trainer.global_rank}.pt")
