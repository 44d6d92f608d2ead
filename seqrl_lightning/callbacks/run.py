"""The callbacks that every run needs."""

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from seqrl_lightning.callbacks.agent import AgentCallback
from seqrl_lightning.callbacks.best_checkpoint import BestOfBlock
from seqrl_lightning.callbacks.board import BoardPages
from seqrl_lightning.callbacks.env_step_logger import EnvStepLogger
from seqrl_lightning.callbacks.global_random_streams import GlobalRandomStreams
from seqrl_lightning.callbacks.last_checkpoint import LastCheckpoint
from seqrl_lightning.callbacks.learning import LearningMetrics
from seqrl_lightning.callbacks.priorities import PriorityWriter
from seqrl_lightning.callbacks.probes import ProbeWriter
from seqrl_lightning.callbacks.progress import EnvStepProgressBar, ProgressReport
from seqrl_lightning.callbacks.sidecars import Sidecars
from seqrl_lightning.callbacks.skipped_updates import SkippedUpdates
from seqrl_lightning.callbacks.target_sync import TargetSync
from seqrl_lightning.callbacks.trials import PredictionWriter, TrialWriter
from seqrl_lightning.checkpoints.archive import MAX_GIB
from seqrl_lightning.launched import is_reporting


def run_callbacks(
    agent: AgentCallback | None,
    target_sync: TargetSync | None = None,
    *,
    progress_bar: bool = True,
    checkpointing: bool = True,
    max_gib: float = MAX_GIB,
) -> list[Callback]:
    """Return the callbacks of a run that is built from Python, for ``Trainer(callbacks=...)``, in their order.

    They are those of ``seqrl fit``: the agent, the target network's synchronization, priorities, curves, tables,
    checkpoints and the progress bar.

    Args:
        agent: Acts in the environments, and ends the run; None with ``LoggedTrials``.
        target_sync: Keeps the target network in step; None for the default, a soft update after every update.
        progress_bar: Whether there is one; False with ``Trainer(enable_progress_bar=False)``.
        checkpointing: Whether the last and the best policy are saved; False with
            ``Trainer(enable_checkpointing=False)``.
        max_gib: Larger checkpoints are refused when they are read.
    """
    callbacks: list[Callback] = [PriorityWriter(), target_sync or TargetSync(), SkippedUpdates()]
    if agent is not None:
        callbacks.insert(1, agent)
    if checkpointing:
        callbacks.append(ModelCheckpoint(monitor="val/return_mean", mode="max"))
    return [*callbacks, *background_callbacks(progress_bar, checkpointing, max_gib, agent is not None)]


def background_callbacks(
    progress_bar: bool, checkpointing: bool, max_gib: float, has_agent: bool = True
) -> list[Callback]:
    """Return the callbacks without settings of their own; see :func:`run_callbacks`."""
    callbacks: list[Callback] = [GlobalRandomStreams(), Sidecars(max_gib), EnvStepLogger()]
    if has_agent:
        callbacks += [TrialWriter(), ProbeWriter(), LearningMetrics()]
    callbacks += [PredictionWriter(), BoardPages()]
    if progress_bar:
        callbacks.append(EnvStepProgressBar())
    if is_reporting():
        callbacks.append(ProgressReport())
    if checkpointing:
        callbacks += [BestOfBlock(), LastCheckpoint()]
    return callbacks
