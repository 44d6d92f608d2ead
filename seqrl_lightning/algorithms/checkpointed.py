"""A learner's checkpoints: what they say beside its weights, how it is built from them, and when it resumes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from seqrl_lightning.algorithms.evaluation import GreedyEvaluation
from seqrl_lightning.checkpoints.archive import MAX_GIB
from seqrl_lightning.checkpoints.changes import described, require_resumable, shared
from seqrl_lightning.checkpoints.format import read_checkpoint
from seqrl_lightning.checkpoints.loading import load_from_checkpoint
from seqrl_lightning.checkpoints.records import UnusableFileError
from seqrl_lightning.errors import refused_in_a_line
from seqrl_lightning.saved_state import form_of, require_alike
from seqrl_lightning.trainer_access import attributes_of, loops_of
from seqrl_lightning.trust import Allowed, settings_of
from seqrl_lightning.types import ConfigurationError, require


class CheckpointedModule(GreedyEvaluation):
    """A module that is rebuilt from its checkpoints, and refuses those of another task."""

    policy_net: nn.Module
    target_net: nn.Module

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the hyperparameters don't say: how the policy is rebuilt, and what a sampler from Python is."""
        checkpoint["policy"] = {
            "algorithm": f"{type(self).__module__}:{type(self).__qualname__}",
            "obs_dtype": self.data.obs_dtype,
        }
        checkpoint["sampler"] = described(self.data.sampler)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's hparams_file has no meaning here
        cls,
        checkpoint_path: str | Path,
        map_location: torch.device | str = "cpu",
        strict: bool = True,
        weights_only: bool = True,
        *,
        allow: Allowed = (),
        **settings: Any,
    ) -> Self:
        """Build a learner from a checkpoint, with its weights; the file may come from a stranger.

        Args:
            checkpoint_path: The checkpoint.
            map_location: The device to build it on.
            strict: Whether all weights have to be there, and no others.
            weights_only: Always true: a checkpoint holds tensors and plain values.
            allow: Modules that it may name, like ``["my_networks"]``, besides the package's own classes.
            settings: Settings that replace those in the checkpoint.

        Raises:
            ConfigurationError: If the file can't be used, or names what files may not name.
        """
        require(weights_only, "weights_only", weights_only, "true: nothing in a checkpoint is ever executed")
        learner, contents = load_from_checkpoint(cls, checkpoint_path, "hyper_parameters", allow, settings)
        with refused_in_a_line(str(checkpoint_path)):
            learner._require_fitting(contents["state_dict"])
            learner.load_state_dict(contents["state_dict"], strict)
        return learner.to(map_location)

    def start_from(self, checkpoint_path: str | Path, max_gib: float = MAX_GIB) -> None:
        """Begin with the network of a checkpoint: of a clone, for example, which then learns on from what it does.

        Nothing else is taken over; the algorithm may be another one whose network is the same.

        Args:
            checkpoint_path: The checkpoint, from whomever.
            max_gib: Larger files are refused.

        Raises:
            ConfigurationError: If it can't be used, or is of another network.
        """
        try:
            weights = read_checkpoint(Path(checkpoint_path), max_gib=max_gib)["state_dict"]
        except UnusableFileError as error:
            raise ConfigurationError(f"{checkpoint_path} can't be used: {error}") from error
        prefix = "policy_net."
        given = {name.removeprefix(prefix): weights[name] for name in weights if name.startswith(prefix)}
        forms, wanted = (
            {name: form_of(tensor) for name, tensor in net.items()} for net in (given, self.policy_net.state_dict())
        )
        differing = sorted(name for name in forms.keys() | wanted.keys() if forms.get(name) != wanted.get(name))
        must_be = f"a checkpoint of the same network as model.network: {', '.join(differing[:3])} differs"
        require(not differing, "ckpt_path", str(checkpoint_path), must_be)
        self.policy_net.load_state_dict(given)
        self.target_net.load_state_dict(given)

    def _require_fitting(self, weights: Mapping[str, Tensor]) -> None:
        """Refuse weights of another shape or kind of numbers; that none is missing is torch's to check."""
        wanted = {name: form_of(tensor) for name, tensor in self.state_dict().items()}
        for name in weights.keys() & wanted.keys():
            require(form_of(weights[name]) == wanted[name], name, form_of(weights[name]), wanted[name])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another task, before its weights fail to fit; report what else changed.

        Raises:
            ConfigurationError: If the checkpoint's task isn't the datamodule's, its weights have other shapes or
                dtypes, or a run is to be resumed with settings that its replay memory doesn't fit.
            StateError: If the counts of Lightning's loops aren't those of such a Trainer.
        """
        if self._trainer is not None:
            require_alike(checkpoint.get("loops"), loops_of(self._trainer), "loops")
        settings = checkpoint.get("datamodule_hyper_parameters")
        if self._trainer is None or attributes_of(self._trainer).datamodule is None or settings is None:
            self._require_fitting(checkpoint["state_dict"])
            return
        saved = settings.get("env_id")
        is_task = None in (saved, self.data.env_id) or self.data.env_id == saved  # a log may be of no task that is here
        require(is_task, "data.env_id", self.data.env_id, f"the checkpoint's {saved!r}")
        if self._trainer.state.fn == TrainerFn.FITTING:
            self._compare_settings(checkpoint)
        self._require_fitting(checkpoint["state_dict"])

    def _compare_settings(self, checkpoint: dict[str, Any]) -> None:
        """Report which settings changed since a checkpoint was saved; the command line has reported them by itself."""
        datamodule = attributes_of(self.trainer).datamodule
        assert datamodule is not None
        before = {
            "data": {**settings_of(checkpoint["datamodule_hyper_parameters"]), "sampler": checkpoint.get("sampler")},
            "model": settings_of(checkpoint["hyper_parameters"]),
        }
        now = {
            "data": {**settings_of(datamodule.hparams), "sampler": described(self.data.sampler)},
            "model": settings_of(self.hparams),
        }
        if before["data"]["sampler"] is None:  # an earlier version saved it
            del before["data"]["sampler"]
        for change in require_resumable(*shared(before, now)):
            if not self.is_from_command_line:
                rank_zero_info(str(change))

    @property
    def is_from_command_line(self) -> bool:
        """Whether ``seqrl`` built it, which compares the configs of a run and its resumption."""
        return "_instantiator" in self.hparams
