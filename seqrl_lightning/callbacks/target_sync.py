"""The target network's synchronization with the policy network."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.hooks import RemovableHandle

from seqrl_lightning.algorithms.acting import ActingModule
from seqrl_lightning.saved_state import saved_count
from seqrl_lightning.types import require

_SOFT, _COPY = 0.005, 1.0


class TargetSync(Callback):
    """Keep the target network in step with the policy network: ``target <- (1 - tau) * target + tau * policy``.

    ``tau = 1`` copies (Mnih et al., Nature 518, 2015); a small tau at every update is Polyak averaging (Lillicrap et
    al., arXiv:1509.02971). It acts right after the optimizer's step, whatever the optimization mode: the next update
    already uses the new target, and ``tau = 1`` at every update is learning without a lagging target.

    Args:
        sync_every_updates: Updates of the network between two syncs.
        tau: Size of the target's step towards the policy, in (0, 1]. None for 0.005 if ``sync_every_updates`` is 1, and
            for 1, a copy, if it is larger.

    Attributes:
        tau: Size of the step, by default or as it was given.
        updates: Updates so far.

    Raises:
        ConfigurationError: If a setting is out of its range.
    """

    def __init__(self, sync_every_updates: int = 1, tau: float | None = None) -> None:
        require(sync_every_updates > 0, "target_sync.sync_every_updates", sync_every_updates, "at least 1")
        require(tau is None or 0 < tau <= 1, "target_sync.tau", tau, "in (0, 1]")
        self.sync_every_updates = sync_every_updates
        default = _SOFT if sync_every_updates == 1 else _COPY
        self.tau = default if tau is None else tau
        self._given_tau = tau
        self.updates = 0
        self._hook: RemovableHandle | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse settings for a module that has no target network.

        Raises:
            ConfigurationError: If there are any.
        """
        assert isinstance(pl_module, ActingModule)
        if stage == "fit" and not _has_target(pl_module):
            must_be = f"left out: {type(pl_module).__name__} has no target network"
            require(self._given_tau is None, "target_sync.tau", self._given_tau, must_be)
            require(self.sync_every_updates == 1, "target_sync.sync_every_updates", self.sync_every_updates, must_be)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hook into the optimizer's steps, if the module has a separate target network."""
        assert isinstance(pl_module, ActingModule)
        self._hook = None
        if not _has_target(pl_module):
            return
        move = get_ema_multi_avg_fn(1.0 - self.tau)
        target_net, policy_net = pl_module.target_net, pl_module.policy_net
        parameters = list(target_net.parameters()), list(policy_net.parameters())
        buffers = list(zip(target_net.buffers(), policy_net.buffers(), strict=True))

        @torch.no_grad()
        def sync(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.updates += 1
            if self.updates % self.sync_every_updates == 0:
                move(*parameters, None)
                for target_buffer, policy_buffer in buffers:
                    target_buffer.copy_(policy_buffer)

        self._hook = trainer.optimizers[0].register_step_post_hook(sync)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the hook."""
        if self._hook is not None:
            self._hook.remove()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of updates, so that the next sync comes when it is due."""
        return {"updates": self.updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.updates = saved_count(state_dict.get("updates"), "TargetSync's updates")


def _has_target(learner: ActingModule) -> bool:
    """Whether a learner has a target network beside its policy network."""
    return learner.target_net is not learner.policy_net
