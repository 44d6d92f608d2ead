"""Measure and recycle dormant units, and reset layers, so that a network keeps its ability to learn."""

from abc import abstractmethod
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from seqrl_lightning.algorithms.acting import ActingModule
from seqrl_lightning.batches import Batch
from seqrl_lightning.callbacks.writing import LogInterval, leaves_files, log_scalars
from seqrl_lightning.networks.hidden_units import HiddenLayer, hidden_layers, mean_activations, recycle, reset
from seqrl_lightning.random_streams import random_stream
from seqrl_lightning.saved_state import restore_stream, saved_count
from seqrl_lightning.types import require


class FreshWeights(Callback):
    """The base of callbacks that give weights new values at intervals of updates, at the end of a training step.

    All processes draw the same new weights. The target network follows by its synchronization, as in the papers.

    Args:
        setting: Name of the interval's setting.
        every_updates: Updates between two times; None for never.

    Raises:
        ConfigurationError: If the interval isn't positive.
    """

    def __init__(self, setting: str, every_updates: int | None) -> None:
        require(every_updates is None or every_updates > 0, setting, every_updates, "at least 1")
        self._every_updates = every_updates
        self._num_times = 0  # that weights were renewed
        self._updates_before = 0  # the training step under way
        self._rng = random_stream(type(self).__name__)
        self._is_resumed = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a random stream of the run's seed, unless it continues one."""
        if not self._is_resumed:
            self._rng = random_stream(type(self).__name__)
        self._is_resumed = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Note the number of updates, of which a training step may make several."""
        self._updates_before = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Renew weights if the interval ended within this training step."""
        assert isinstance(pl_module, ActingModule)
        if self._every_updates is None:
            return
        if trainer.global_step // self._every_updates > self._updates_before // self._every_updates:
            self._num_times += 1
            seed = trainer.strategy.broadcast(int(self._rng.integers(2**31)))  # without a run's seed they differ
            self.renew(pl_module, pl_module.fresh_network(seed), batch)

    @abstractmethod
    def renew(self, learner: ActingModule, fresh: torch.nn.Module, batch: Batch) -> None:
        """Give weights of ``learner.policy_net`` new values.

        Args:
            learner: The learner.
            fresh: A new network like its ``policy_net``.
            batch: The newest batch.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the number of times so far and the random stream."""
        return {"times": self._num_times, "rng": self._rng.bit_generator.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._num_times = saved_count(state_dict.get("times"), f"{type(self).__name__}'s times")
        restore_stream(self._rng, state_dict.get("rng"), f"{type(self).__name__}'s random stream")
        self._is_resumed = True


class DormantUnits(FreshWeights):
    """Measure the dormant units of the policy network, and recycle them (ReDo: Sokar et al., arXiv:2302.12902).

    A unit's score is its mean absolute activation over the newest batch, divided by the mean over its layer; it is
    dormant if that is at most ``tau`` (definition 3.1). Every ``trainer.log_every_n_steps`` batches their fraction is
    written: ``plasticity/dormant``, and by layer ``plasticity/dormant/<layer>``.

    A recycled unit's incoming weights are reinitialized and its outgoing weights are 0, so that the network's outputs
    change little, or not at all if it was silent; the optimizer's moments of both are 0.

    The units are those that :func:`~seqrl_lightning.networks.hidden_units.hidden_layers` finds: of MLPs and
    convolutional networks, and of the heads and feed-forward layers of networks that remember, not of their memory.

    Args:
        tau: The largest score of a dormant unit, in units of its layer's mean.
        recycle_every_updates: Updates after which dormant units are recycled (1,000 in the paper); None to measure
            only.

    Raises:
        ConfigurationError: If a setting is out of its range.
    """

    def __init__(self, tau: float = 0.1, recycle_every_updates: int | None = None) -> None:
        super().__init__("DormantUnits.recycle_every_updates", recycle_every_updates)
        require(0 <= tau < 1, "DormantUnits.tau", tau, "at least 0 and less than 1")
        self.tau = tau
        self._interval = LogInterval()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a network without units to measure.

        Raises:
            ConfigurationError: If it has none.
        """
        assert isinstance(pl_module, ActingModule)
        must_be = "one with hidden units: a layer, a ReLU and a layer that reads it; others can't have DormantUnits"
        networks = sorted({type(net).__name__ for net in pl_module.networks if not hidden_layers(net)})
        require(not networks or stage != "fit", "model.network", ", ".join(networks), must_be)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Write the fractions every ``log_every_n_steps`` batches, then recycle if it is time."""
        assert isinstance(pl_module, ActingModule)
        if self._interval.ends(trainer) and leaves_files(trainer):
            log_scalars(trainer, self._fractions(pl_module, batch))
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def renew(self, learner: ActingModule, fresh: torch.nn.Module, batch: Batch) -> None:
        """Recycle the dormant units."""
        (optimizer,) = learner.trainer.optimizers
        layers = hidden_layers(learner.policy_net)
        is_dormant = self._dormant(learner, layers, batch)  # all of them, before a change moves the activations
        for layer, new, mask in zip(layers, hidden_layers(fresh), is_dormant, strict=True):
            recycle(layer, new, mask, optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return the position between two measurements, and what the base does."""
        return {**super().state_dict(), "batches": self._interval.batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        super().load_state_dict(state_dict)
        self._interval.batches = saved_count(state_dict.get("batches"), "DormantUnits' batches")

    def _fractions(self, learner: ActingModule, batch: Batch) -> dict[str, float]:
        layers = hidden_layers(learner.policy_net)
        is_dormant = self._dormant(learner, layers, batch)
        named = zip(layers, is_dormant, strict=True)
        fractions = {f"plasticity/dormant/{layer.name}": float(mask.float().mean()) for layer, mask in named}
        return {"plasticity/dormant": float(torch.cat(is_dormant).float().mean()), **fractions}

    def _dormant(self, learner: ActingModule, layers: list[HiddenLayer], batch: Batch) -> list[Tensor]:
        """Return which units are dormant, by the batches of all processes, ``[num_units]`` bool for each layer."""
        normalized = learner.normalization.batch(batch)
        devices = [learner.device] if learner.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices), mean_activations(layers) as means:  # noisy layers draw
            for net in learner.networks:
                normalized.read_states(net)
        activations = means()
        if learner.trainer.world_size > 1:
            activations = [learner.trainer.strategy.reduce(mean, reduce_op="mean") for mean in activations]
        return [mean <= self.tau * mean.mean() for mean in activations]


class PeriodicResets(FreshWeights):
    """Reset the last layers of the policy network from time to time (Nikishin et al., arXiv:2205.07802).

    The weights are reinitialized, and the optimizer's state of them is cleared. The replay memory, which stays, teaches
    the new weights what was known. The return falls after each reset: leave enough updates after the last one.

    Args:
        every_updates: Updates between two resets.
        layers: Names of the modules to reset, by their last parts: ``head`` is the head of each network. None for the
            whole network.
        max_resets: Number of resets after which there are no more; None for no limit.

    Raises:
        ConfigurationError: If a number isn't positive.
    """

    def __init__(
        self, every_updates: int, layers: tuple[str, ...] | None = ("head",), max_resets: int | None = None
    ) -> None:
        super().__init__("PeriodicResets.every_updates", every_updates)
        require(max_resets is None or max_resets > 0, "PeriodicResets.max_resets", max_resets, "at least 1")
        self.layers = layers
        self.max_resets = max_resets

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse names of modules that the network doesn't have.

        Raises:
            ConfigurationError: If there are any.
        """
        assert isinstance(pl_module, ActingModule)
        names = [name for name, _ in pl_module.policy_net.named_modules()]
        unknown = [layer for layer in self.layers or () if not any(_is_called(name, layer) for name in names)]
        known = ", ".join(name for name in names if name and "." not in name)
        require(not unknown, "PeriodicResets.layers", unknown, f"modules of the network, like {known}")

    def renew(self, learner: ActingModule, fresh: torch.nn.Module, batch: Batch) -> None:
        """Reset the modules, unless there were enough resets."""
        if self.max_resets is not None and self._num_times > self.max_resets:
            return
        (optimizer,) = learner.trainer.optimizers
        modules = zip(learner.policy_net.named_modules(), fresh.modules(), strict=True)
        for (name, module), new in modules:
            if name == "" if self.layers is None else any(_is_called(name, layer) for layer in self.layers):
                reset(module, new, optimizer)


def _is_called(name: str, layer: str) -> bool:
    """Whether a module's dotted name is, or ends with, the name of a layer."""
    return name == layer or name.endswith(f".{layer}")
