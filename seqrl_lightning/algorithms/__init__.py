"""The learners. ``dqn.py`` reads from top to bottom; the others override one method."""

from seqrl_lightning.algorithms.dqn import DQN

__all__ = ["DQN"]
