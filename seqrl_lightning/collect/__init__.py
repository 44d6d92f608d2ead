"""Acting in environments, in plain Python without Lightning."""

from seqrl_lightning.collect.bonus import ExplorationBonus
from seqrl_lightning.collect.collector import Collector
from seqrl_lightning.collect.count_bonus import CountBonus
from seqrl_lightning.collect.episodes import Episode, EpisodeLog, RunningEpisodes
from seqrl_lightning.collect.evaluation import EvaluationTasks
from seqrl_lightning.collect.faults import GuardedEnvs
from seqrl_lightning.collect.policy import ExploringPolicy, Policy
from seqrl_lightning.collect.recorder import TrialRecorder, TrialStep
from seqrl_lightning.collect.rnd import RND
from seqrl_lightning.collect.rollout import Step, rollout

__all__ = [
    "RND",
    "Collector",
    "CountBonus",
    "Episode",
    "EpisodeLog",
    "EvaluationTasks",
    "ExplorationBonus",
    "ExploringPolicy",
    "GuardedEnvs",
    "Policy",
    "RunningEpisodes",
    "Step",
    "TrialRecorder",
    "TrialStep",
    "rollout",
]
