"""Silence Lightning's messages: always those that mislead in this package, all of them in runs within a command."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seqrl_lightning.types import printable

_WARNINGS = (
    # Batches are drawn from the replay memory when they are asked for: workers would only delay them.
    ".*does not have many workers.*",
    # The state of the data is the replay memory's, and it is in the checkpoint.
    ".*your dataloader is not resumable.*",
    # ReplayDataset's length is the epoch's, in every process: none sees fewer batches than another.
    ".*Your `IterableDataset` has `__len__` defined.*",
    # Logged trials of no task are learned from without evaluation.
    ".*Total length of `list` across ranks is zero.*",
    # The program's own arguments are not those of an Agent.
    ".*LightningCLI's args parameter is intended to run from within Python.*",
    # A resumed run continues in its own folder.
    ".*Checkpoint directory .* exists and is not empty.*",
    # torchmetrics sums the statistics over all processes before they are logged.
    ".*It is recommended to use `self.log.*sync_dist=True.*",
    # Lightning's and TensorBoard's own dependencies deprecate what these use.
    ".*treespec, LeafSpec.*",
    # torch's own reading of a checkpoint.
    ".*TypedStorage is deprecated.*",
    # The new name of DDP's `broadcast_buffers` is unknown to older versions of torch.
    ".*`broadcast_buffers` is deprecated.*",
    # The summary that this package prints counts parameters, not megabytes.
    "Precision .* is not supported by the model summary.*",
    # Fewer batches than log_every_n_steps only mean that the first epoch logs nothing.
    ".*The number of training batches .* is smaller than the logging interval.*",
)
# An advertisement, the summary that this package replaces, a remark about saving optimizers that reads as if it were
# about loading pickles, and a signal, of which the program's last line tells.
_REMARKS = (
    ("utilities.rank_zero", "litlogger"),
    ("utilities.rank_zero", "Trainer already configured with model summary callbacks"),
    ("trainer.connectors.checkpoint_connector", "`weights_only`"),
    ("trainer.connectors.signal_connector", "Received SIGTERM"),
)


def silence_misleading_messages() -> None:
    """Filter Lightning's warnings and log records, for the rest of the process.

    The names of files that are left in them are shown without what a terminal would obey.
    """
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message)
    for module, text in _REMARKS:
        logging.getLogger(f"lightning.pytorch.{module}").addFilter(_Without(text))
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_make_printable)
    warnings.formatwarning = _format_warning


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's remarks, which would repeat for each of many runs."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


_PACKAGE = Path(__file__).parent
_plain_format = warnings.formatwarning


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    if Path(filename).is_relative_to(_PACKAGE):  # about a run's settings or its task, not about the line of code
        return f"seqrl: warning: {printable(str(message))}\n"
    return printable(_plain_format(message, category, filename, lineno, line))


def _make_printable(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), ()
    return True


class _Without(logging.Filter):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def filter(self, record: logging.LogRecord) -> bool:
        return self.text not in record.getMessage()
