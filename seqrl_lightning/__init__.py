"""Value-based deep reinforcement learning for sequence learning, as PyTorch Lightning modules."""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqrl_lightning.signals import end_program_at_once

if sys.argv[:1] == ["-m"] or Path(*sys.argv[:1]).name == "seqrl":  # the program: it imports what its command needs
    end_program_at_once()
else:
    import seqrl_lightning.envs  # noqa: F401  (registers the environments)

if TYPE_CHECKING:
    from seqrl_lightning.agent import Agent
    from seqrl_lightning.policy import Policy, load_policy

__all__ = ["Agent", "Policy", "load_policy"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what takes seconds to import on its first use."""
    if name in __all__:
        return getattr(import_module(f"seqrl_lightning.{'agent' if name == 'Agent' else 'policy'}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
