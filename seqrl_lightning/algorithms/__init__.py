"""The learners. ``dqn.py`` reads from top to bottom; ``learner.py`` and ``training.py`` have what they share."""

from seqrl_lightning.algorithms.behavior_cloning import BehaviorCloning
from seqrl_lightning.algorithms.c51 import C51
from seqrl_lightning.algorithms.discrete_sac import DiscreteSAC
from seqrl_lightning.algorithms.dqn import DQN
from seqrl_lightning.algorithms.iqn import IQN
from seqrl_lightning.algorithms.learner import LearnerModule
from seqrl_lightning.algorithms.pqn import PQN
from seqrl_lightning.algorithms.q_lambda import QLambda
from seqrl_lightning.algorithms.qr_dqn import QRDQN
from seqrl_lightning.algorithms.sarsa import SARSA, ExpectedSARSA

__all__ = [
    "C51",
    "DQN",
    "IQN",
    "PQN",
    "QRDQN",
    "SARSA",
    "BehaviorCloning",
    "DiscreteSAC",
    "ExpectedSARSA",
    "LearnerModule",
    "QLambda",
]
