"""Make an update as one CUDA graph: the processor launches all of its kernels at once."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Generic, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins import MixedPrecision, Precision
from torch import Tensor

from seqrl_lightning.batches import BatchT, Minibatch, Update, Windows
from seqrl_lightning.speed.fused_adam import FusedAdamStep
from seqrl_lightning.speed.plain_step import PlainStep
from seqrl_lightning.types import require

Recorder = Callable[[Callable[[], Update]], tuple[Callable[[], None], Update]]
"""Record a function's kernels without running them: return what runs them again, and the memory of the results."""

_WARM_UP = 3  # updates before one is recorded, in which libraries choose their kernels


class RecordedUpdate(Generic[BatchT]):
    """An update that can be repeated, and the memory that it reads and writes.

    Args:
        batch: A batch, whose columns on the device are copied to memory of the update's own.
        columns: Those columns, by number.
    """

    def __init__(self, batch: BatchT, columns: dict[int, Tensor]) -> None:
        own = {index: column.clone(memory_format=torch.contiguous_format) for index, column in columns.items()}
        self.columns = list(own.values())
        self.batch = with_columns(batch, own)
        self.num_made = 0
        self.replay: Callable[[], None] | None = None
        self.results: Update | None = None


class GraphedStep(PlainStep[BatchT]):
    """One update by a CUDA graph: loss, gradient, its limits, and Adam's step.

    The first updates from batches of a shape are made as usual, then one is recorded. All others are replayed, after
    their batch was copied to the memory that the graph reads. What depends on numbers that change (schedulers, the
    target network's sync) follows on the same stream.

    Args:
        module: A learner that it ``fits``, in training.
        optimize_model: Computes the loss of a batch.
        compile: Whether ``torch.compile`` makes one function of the loss and its gradient first.
        record: Records an update.
    """

    def __init__(
        self,
        module: LightningModule,
        optimize_model: Callable[[BatchT], Update],
        compile: bool,
        record: Recorder | None = None,
    ) -> None:
        super().__init__(module, optimize_model, compile)
        must_be = "a fused Adam or AdamW without amsgrad and without groups with CUDA graphs, like the default"
        fits = isinstance(self.step, FusedAdamStep)
        require(fits, "model.optimizer", type(self.optimizer).__name__, must_be)
        assert isinstance(self.step, FusedAdamStep)
        self.adam = self.step
        self.learning_rate = self.adam.group["lr"]
        self.adam.learning_rate = torch.tensor(self.learning_rate, dtype=torch.float32, device=module.device)
        self.constants = self._constants()
        self.record = record or CudaRecorder(module.device)
        self.recorded: dict[object, RecordedUpdate[BatchT]] = {}

    @staticmethod
    def fits_precision(precision: Precision) -> bool:
        """Whether nothing scales gradients: full precision, or bfloat16 in autocast."""
        is_unscaled = isinstance(precision, MixedPrecision) and precision.scaler is None
        return is_unscaled or PlainStep.fits_precision(precision)

    def __call__(self, batch: BatchT) -> Update:
        """Make one update. Returns what ``optimize_model`` does, with the loss detached, in memory of its own."""
        self._follow_scheduler()
        batch = with_starts_on_device(batch, self.module.device)
        columns = device_columns(batch, self.module.device)
        shape = tuple((index, column.shape, column.dtype) for index, column in columns.items())
        if shape not in self.recorded:
            self.recorded[shape] = RecordedUpdate(batch, columns)
        recorded = self.recorded[shape]
        torch._foreach_copy_(recorded.columns, list(columns.values()))
        if recorded.num_made < _WARM_UP:
            recorded.num_made += 1
            return _copied(super().__call__(recorded.batch))
        if recorded.replay is None:
            recorded.replay, results = self.record(partial(self._update, recorded.batch))
            recorded.results = results
        self.counted._on_before_step()
        recorded.replay()
        self.adam.call_hooks()
        self.counted._on_after_step()
        if self.scheduler is not None:
            self.scheduler.step()
        return _copied(recorded.results)

    def _constants(self) -> tuple[object, ...]:
        """Return Adam's numbers that a graph can't follow."""
        return tuple(self.adam.group[name] for name in ("betas", "eps", "weight_decay", "maximize"))

    def _follow_scheduler(self) -> None:
        """Write the learning rate, a number that schedulers change, to the device.

        Raises:
            ConfigurationError: If a scheduler changed another number.
        """
        must_be = "one that changes the learning rate only with CUDA graphs (OneCycleLR: with cycle_momentum false)"
        require(self._constants() == self.constants, "model.lr_scheduler", type(self.scheduler).__name__, must_be)
        if self.adam.group["lr"] != self.learning_rate:
            assert self.adam.learning_rate is not None
            self.learning_rate = self.adam.group["lr"]
            self.adam.learning_rate.fill_(self.learning_rate)

    def _update(self, batch: BatchT) -> Update:
        """Make all of an update that runs on the device."""
        unused = [tuple(p.shape) for p in self.adam.parameters if p not in self.optimizer.state]
        must_be = "one whose weights are all learned and used in the loss with CUDA graphs"
        require(not unused, "model.network", f"one with weights without a gradient, of shape {unused}", must_be)
        assert self.adam.state is not None
        update = self.differentiate(batch)
        self.module.configure_gradient_clipping(self.optimizer)
        self.adam.move(self.adam.state)
        return update


def _copied(update: Update | None) -> Update:
    """Return results in memory of their own, which the next update doesn't write to."""
    assert update is not None
    return cast(Update, {name: value.clone() for name, value in cast(Mapping[str, Tensor], update).items()})


class CudaRecorder:
    """Record kernels as CUDA graphs that share their memory: no two of them run at the same time.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.device = device

    def __call__(self, run: Callable[[], Update]) -> tuple[Callable[[], None], Update]:
        """Record; see :data:`Recorder`."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device), torch.cuda.graph(graph, pool=self.pool):
            update = run()
        return graph.replay, update


def with_starts_on_device(batch: BatchT, device: torch.device) -> BatchT:
    """Move ``is_first``, on which no kernel's launch may then depend, to the device, if any episode starts."""
    if not isinstance(batch, Windows | Minibatch) or batch.is_first is None:
        return batch
    if batch.is_first.any():
        return cast(BatchT, batch._replace(is_first=batch.is_first.to(device, non_blocking=True)))
    return cast(BatchT, batch._replace(is_first=None)) if isinstance(batch, Minibatch) else batch


def with_columns(batch: BatchT, columns: dict[int, Tensor]) -> BatchT:
    """Return the batch with other columns in the places of those numbers."""
    build: Callable[..., BatchT] = type(batch)  # a NamedTuple's class takes its columns one by one
    return build(*(columns.get(index, column) for index, column in enumerate(batch)))


def device_columns(batch: Sequence[Tensor | None], device: torch.device) -> dict[int, Tensor]:
    """Return the columns on the device by their number: of the others no kernel reads values."""
    return {
        index: column for index, column in enumerate(batch) if column is not None and column.device.type == device.type
    }
