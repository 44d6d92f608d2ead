"""A tiny recurrent network that predicts choices without a theory of them (Ji-An et al. 2025).

10.1038/s41586-025-09142-4. Its parameters have no meaning, and it is compared by held-out likelihood alone.
"""

from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, Dataset

from seqrl_lightning.behavior.comparison import require_folds
from seqrl_lightning.behavior.histories import NO_ACTION, Histories
from seqrl_lightning.lightning_messages import quiet
from seqrl_lightning.types import BoolArray, FloatArray

_WATCHED = 0.1  # of the choices that are not left out: they say when to stop, where there is no third session or block
_CHECK_EPOCHS, _MAX_EPOCHS = 10, 1000
_LEAST_GAIN, _PATIENCE = 1e-3, 5  # of a check, in nats for each choice, and how many checks may have less


class Batch(NamedTuple):
    """The choices of N subjects, as a network reads them."""

    inputs: Tensor  # [T, N, I] float32: the state, and the last action and reward
    allowed: Tensor  # [T, N, A] bool
    action: Tensor  # [T, N] int64
    fitted: Tensor  # [T, N] bool: the choices to fit
    watched: Tensor  # [T, N] bool: those that say when to stop


class _Single(Dataset[Batch]):
    """A single batch."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Batch:
        return self._batch


class TinyGRU(LightningModule):
    """A GRU that predicts each choice from the ones before, with an embedding of the subject.

    Args:
        num_inputs: I.
        num_actions: A.
        num_subjects: N.
        units: Number of its units.
        embedding_size: Size of a subject's embedding.
        learning_rate: Learning rate of Adam.
    """

    def __init__(
        self,
        num_inputs: int,
        num_actions: int,
        num_subjects: int,
        units: int,
        embedding_size: int = 2,
        learning_rate: float = 0.02,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.subject = nn.Embedding(num_subjects, embedding_size)
        self.gru = nn.GRU(num_inputs + embedding_size, units)
        self.head = nn.Linear(units + embedding_size, num_actions)
        self.learning_rate = learning_rate
        self.best_loss = float("inf")
        self.best_weights: dict[str, Tensor] = {}

    def forward(self, inputs: Tensor, allowed: Tensor) -> Tensor:
        """Return the log-probability of each action.

        Args:
            inputs: [T, N, I] float32.
            allowed: [T, N, A] bool.

        Returns:
            [T, N, A] float32.
        """
        subject = self.subject.weight.expand(len(inputs), -1, -1)
        hidden, _ = self.gru(torch.cat([inputs, subject], -1))
        logits: Tensor = self.head(torch.cat([hidden, subject], -1))
        return logits.masked_fill(~allowed, -torch.inf).log_softmax(-1)

    def log_likelihood(self, batch: Batch) -> Tensor:
        """Return the log-probability of each choice, [T, N] float32."""
        log_probabilities: Tensor = self(batch.inputs, batch.allowed)
        return log_probabilities.gather(-1, batch.action[..., None])[..., 0]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of the choices to fit."""
        return -self.log_likelihood(batch)[batch.fitted].mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the weights that predict the watched choices best."""
        loss = -self.log_likelihood(batch)[batch.watched].mean()
        self.log("val/loss", loss, batch_size=1)
        if float(loss) < self.best_loss:
            self.best_loss = float(loss)
            self.best_weights = {name: weight.clone() for name, weight in self.state_dict().items()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), self.learning_rate)


def held_out_by_network(histories: Histories, units: int, seed: int = 0) -> FloatArray:
    """Compute the log-likelihood of choices that a network was not trained on.

    Each session or block is left out once, as by :func:`seqrl_lightning.behavior.comparison.held_out`. The next one or,
    of two, a tenth of the choices in the other, says when training stops.

    Args:
        histories: The choices of N subjects.
        units: Number of the network's units.
        seed: Seed of the weights, and of the choices that say when to stop.

    Returns:
        [N] float64: for each subject, the sum over its sessions or blocks.

    Raises:
        ConfigurationError: If a subject has fewer than two of them.
    """
    require_folds(histories)
    total = np.zeros(histories.num_subjects)
    num_folds = int(histories.fold.max()) + 1
    for fold in range(num_folds):
        is_left_out = histories.is_choice & (histories.fold == fold)
        if num_folds > 2:
            is_watched = histories.fold == (fold + 1) % num_folds
        else:
            is_watched = np.random.default_rng(seed).random(is_left_out.shape) < _WATCHED
        batch = batch_of(histories, histories.is_choice & ~is_left_out, is_watched)
        net = train(batch, histories.num_subjects, units, seed)
        each = net.log_likelihood(batch).detach().double().numpy()
        total += np.where(is_left_out, each, 0.0).sum(0)
    return total


def batch_of(histories: Histories, counted: BoolArray, is_watched: BoolArray) -> Batch:
    """Lay out the choices for a network: those that count are fitted or watched."""
    state, action = torch.from_numpy(histories.state), torch.from_numpy(np.maximum(histories.action, 0))
    outcome = torch.from_numpy(histories.reward).float()[..., None]
    before = torch.cat([one_hot(action, histories.num_actions).float(), outcome], -1)
    before = before * torch.from_numpy(histories.action != NO_ACTION)[..., None]  # zeros after a missed trial
    before = torch.cat([torch.zeros_like(before[:1]), before[:-1]])
    return Batch(
        torch.cat([one_hot(state, histories.num_states).float(), before], -1),
        torch.from_numpy(histories.allowed),
        action,
        torch.from_numpy(counted & ~is_watched),
        torch.from_numpy(counted & is_watched),
    )


def train(batch: Batch, num_subjects: int, units: int, seed: int) -> TinyGRU:
    """Train a network until it no longer gets better at the watched choices; return the best one."""
    with torch.random.fork_rng(devices=()), quiet():
        torch.manual_seed(seed)
        net = TinyGRU(batch.inputs.shape[-1], batch.allowed.shape[-1], num_subjects, units)
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=_MAX_EPOCHS,
            check_val_every_n_epoch=_CHECK_EPOCHS,
            callbacks=[EarlyStopping("val/loss", min_delta=_LEAST_GAIN, patience=_PATIENCE)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        loader = DataLoader(_Single(batch), batch_size=None)
        trainer.fit(net, loader, loader)
    net.load_state_dict(net.best_weights)
    return net
