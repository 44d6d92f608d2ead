"""Lightning callbacks, each with one job."""

from seqrl_lightning.callbacks.agent import AgentCallback
from seqrl_lightning.callbacks.best_checkpoint import BestOfBlock
from seqrl_lightning.callbacks.board import BoardPages
from seqrl_lightning.callbacks.env_step_logger import EnvStepLogger
from seqrl_lightning.callbacks.global_random_streams import GlobalRandomStreams
from seqrl_lightning.callbacks.last_checkpoint import LastCheckpoint
from seqrl_lightning.callbacks.learning import LearningMetrics
from seqrl_lightning.callbacks.plasticity import DormantUnits, PeriodicResets
from seqrl_lightning.callbacks.priorities import PriorityWriter
from seqrl_lightning.callbacks.probes import ProbeWriter
from seqrl_lightning.callbacks.progress import EnvStepProgressBar, ProgressReport
from seqrl_lightning.callbacks.run import run_callbacks
from seqrl_lightning.callbacks.sidecars import Sidecars
from seqrl_lightning.callbacks.skipped_updates import SkippedUpdates
from seqrl_lightning.callbacks.target_sync import TargetSync
from seqrl_lightning.callbacks.trials import PredictionWriter, TrialWriter

__all__ = [
    "AgentCallback",
    "BestOfBlock",
    "BoardPages",
    "DormantUnits",
    "EnvStepLogger",
    "EnvStepProgressBar",
    "GlobalRandomStreams",
    "LastCheckpoint",
    "LearningMetrics",
    "PeriodicResets",
    "PredictionWriter",
    "PriorityWriter",
    "ProbeWriter",
    "ProgressReport",
    "Sidecars",
    "SkippedUpdates",
    "TargetSync",
    "TrialWriter",
    "run_callbacks",
]
