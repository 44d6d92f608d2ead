"""The tasks, one a file with its vectorised twin beside it; importing this package registers them."""

from typing import Any

import gymnasium as gym

from seqrl_lightning.envs.faults import EnvFault, StepCheck, discard, fault_of
from seqrl_lightning.envs.rollout import Step, action_mask_of, rollout
from seqrl_lightning.envs.sequence import SequenceEnv, SequenceVectorEnv
from seqrl_lightning.envs.sequence_distractor import SequenceDistractorEnv, SequenceDistractorVectorEnv
from seqrl_lightning.envs.solo import SoloVectorEnv
from seqrl_lightning.envs.state import TrackedEnv, set_state, state_of, tracked

__all__ = [
    "EnvFault",
    "SequenceDistractorEnv",
    "SequenceDistractorVectorEnv",
    "SequenceEnv",
    "SequenceVectorEnv",
    "SoloVectorEnv",
    "Step",
    "StepCheck",
    "TrackedEnv",
    "action_mask_of",
    "discard",
    "fault_of",
    "rollout",
    "set_state",
    "state_of",
    "tracked",
]


def _register(env_id: str, single: type[gym.Env[Any, Any]], vector: type[gym.vector.VectorEnv[Any, Any, Any]]) -> None:
    gym.register(
        env_id,
        entry_point=f"{single.__module__}:{single.__name__}",
        vector_entry_point=f"{vector.__module__}:{vector.__name__}",
    )


_register("seqrl/Sequence-v0", SequenceEnv, SequenceVectorEnv)
_register("seqrl/SequenceDistractor-v0", SequenceDistractorEnv, SequenceDistractorVectorEnv)
