"""Value-based deep reinforcement learning for sequence learning, as PyTorch Lightning modules."""

import seqrl_lightning.envs  # noqa: F401  (registers the environments)

__version__ = "0.1.0"
