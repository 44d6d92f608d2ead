"""Brings the target network after the policy network."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from seqrl_lightning.types import require


class TargetSync(Callback):
    """Every N updates: ``target <- (1 - tau) * target + tau * policy``.

    ``tau = 1`` copies (Mnih et al., Nature 518, 2015); a small tau at every update is Polyak averaging (Lillicrap et
    al., arXiv:1509.02971). It acts right after the optimizer's step, whatever the optimization mode: the next update
    already sees the new target, and ``tau = 1`` at every update is learning without a lagging target.

    Args:
        sync_every_updates: Updates of the network between two syncs.
        tau: How far the target goes towards the policy, in (0, 1].

    Raises:
        ConfigurationError: If a setting is out of its range.
    """

    def __init__(self, sync_every_updates: int = 1, tau: float = 0.005) -> None:
        require(sync_every_updates > 0, "target_sync.sync_every_updates", sync_every_updates, "at least 1")
        require(0 < tau <= 1, "target_sync.tau", tau, "in (0, 1]")
        self.sync_every_updates = sync_every_updates
        self.tau = tau
        self.updates = 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Follows the optimizer's steps from here on, unless the module has no target network of its own."""
        self._hook = None
        if pl_module.target_net is pl_module.policy_net:
            return
        move = get_ema_multi_avg_fn(1.0 - self.tau)  # type: ignore[no-untyped-call]
        target = list(pl_module.target_net.parameters())
        policy = list(pl_module.policy_net.parameters())
        target_buffers, policy_buffers = (
            list(pl_module.target_net.buffers()),
            list(pl_module.policy_net.buffers()),
        )

        @torch.no_grad()
        def sync(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.updates += 1
            if self.updates % self.sync_every_updates == 0:
                move(target, policy, None)
                for target_buffer, policy_buffer in zip(target_buffers, policy_buffers, strict=True):
                    target_buffer.copy_(policy_buffer)

        self._hook = trainer.optimizers[0].register_step_post_hook(sync)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets the optimizer go."""
        if self._hook is not None:
            self._hook.remove()

    def state_dict(self) -> dict[str, Any]:
        """How many updates there were, so that the next sync comes when it is due."""
        return {"updates": self.updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        self.updates = state_dict["updates"]
