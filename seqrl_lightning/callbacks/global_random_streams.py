"""The random streams that everyone draws from: torch's (noisy networks, sampled policies), NumPy's and Python's."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from seqrl_lightning.random_streams import random_stream


class GlobalRandomStreams(Callback):
    """Gives each process a stream of its own, and takes the streams into checkpoints (Lightning doesn't)."""

    def __init__(self) -> None:
        self._resumed: dict[str, Any] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seeds torch by the run's seed and the process's rank: networks were built from the seed alone."""
        torch.manual_seed(int(random_stream("torch", trainer.global_rank).integers(2**63)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Goes on where the checkpoint was taken; whatever drew before was only setting up."""
        if self._resumed is not None:
            torch.set_rng_state(self._resumed["torch"])
            version, words, gauss = self._resumed["python"]
            random.setstate((version, tuple(words), gauss))
            kind, words, *rest = self._resumed["numpy"]
            np.random.set_state((kind, np.array(words, np.uint32), *rest))  # noqa: NPY002
            if self._resumed["cuda"] is not None and torch.cuda.is_available():
                torch.cuda.set_rng_state(self._resumed["cuda"], pl_module.device)

    def state_dict(self) -> dict[str, Any]:
        """The streams as tensors and lists."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        version, words, gauss = random.getstate()
        kind, numpy_words, *rest = np.random.get_state()  # noqa: NPY002
        return {
            "torch": torch.get_rng_state(),
            "cuda": cuda,
            "python": [version, list(words), gauss],
            "numpy": [kind, np.asarray(numpy_words).tolist(), *rest],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken, once training starts."""
        self._resumed = state_dict
