"""The random streams shared by a whole process: torch's (noisy networks, sampled policies), NumPy's and Python's."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from seqrl_lightning.random_streams import random_stream
from seqrl_lightning.saved_state import require_alike, require_saved, saved_tensor


class GlobalRandomStreams(Callback):
    """Give each process its own streams, and save them in checkpoints, because Lightning doesn't."""

    def __init__(self) -> None:
        self._resumed: dict[str, Any] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed torch by the run's seed and the process's rank: networks were built from the seed alone."""
        torch.manual_seed(int(random_stream("torch", trainer.global_rank).integers(2**63)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the streams back to where the checkpoint was taken; draws before this only set up the run."""
        if self._resumed is None:
            return
        torch.set_rng_state(self._resumed["torch"])
        version, words, gauss = self._resumed["python"]
        random.setstate((version, tuple(words), gauss))
        kind, words, position, *rest = self._resumed["numpy"]
        np.random.set_state((kind, np.array(words, np.uint32), position, *rest))  # noqa: NPY002  (the global stream is meant)
        if self._resumed["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(self._resumed["cuda"], pl_module.device)
        self._resumed = None

    def state_dict(self) -> dict[str, Any]:
        """Return the streams as tensors and lists."""
        version, words, gauss = random.getstate()
        kind, numpy_words, *rest = np.random.get_state()  # noqa: NPY002  (the global stream is meant)
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
            "python": [version, list(words), gauss],
            "numpy": [kind, np.asarray(numpy_words).tolist(), *rest],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned, once training starts.

        Raises:
            StateError: If the streams have no such state.
        """
        own = self.state_dict()
        form = {**own, "cuda": None, "python": [*own["python"][:2], None]}  # the last is None, or a number left over
        require_alike({**state_dict, "cuda": None}, form, "the global random streams")
        (version, words, _), (kind, numpy_words, position, has_gauss, _) = state_dict["python"], state_dict["numpy"]
        for label, value, is_so, must_be in (
            ("Python's version", version, version == own["python"][0], str(own["python"][0])),
            ("Python's words", words, max(words) < 2**32 and words[-1] < len(words), "numbers of 32 bits"),
            ("NumPy's kind", kind, kind == own["numpy"][0], own["numpy"][0]),
            ("NumPy's words", numpy_words, max(numpy_words) < 2**32, "numbers of 32 bits"),
            ("NumPy's position", position, position <= len(numpy_words), "a word's"),  # it would read beyond them
            ("NumPy's has_gauss", has_gauss, has_gauss in (0, 1), "0 or 1"),
        ):
            require_saved(is_so, label, value, must_be)
        cuda = state_dict.get("cuda")
        if cuda is not None:
            saved_tensor(cuda, (None,) if own["cuda"] is None else own["cuda"].shape, torch.uint8, "CUDA's stream")
        self._resumed = {**state_dict, "cuda": cuda}
