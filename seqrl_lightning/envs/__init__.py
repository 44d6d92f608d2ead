"""The tasks, one a file with its vectorised twin beside it; importing this package registers them."""

from typing import Any

import gymnasium as gym

from seqrl_lightning.envs.block_switch import BlockSwitchEnv, BlockSwitchVectorEnv
from seqrl_lightning.envs.cartpole_no_vel import CartPoleNoVelEnv, CartPoleNoVelVectorEnv
from seqrl_lightning.envs.chunks import ChunksEnv, ChunksVectorEnv
from seqrl_lightning.envs.context_sequence import ContextSequenceEnv, ContextSequenceVectorEnv
from seqrl_lightning.envs.delayed_recall import DelayedRecallEnv, DelayedRecallVectorEnv
from seqrl_lightning.envs.faults import EnvFault, StepCheck, discard, fault_of
from seqrl_lightning.envs.hidden_sequence import HiddenSequenceEnv, HiddenSequenceVectorEnv
from seqrl_lightning.envs.make import EnvFactory, TaskFacts, Wrapper
from seqrl_lightning.envs.masks import action_mask_of
from seqrl_lightning.envs.memory_chain import MemoryChainEnv, MemoryChainVectorEnv
from seqrl_lightning.envs.n_back import NBackEnv, NBackVectorEnv
from seqrl_lightning.envs.recall import RecallEnv, RecallVectorEnv
from seqrl_lightning.envs.sequence import SequenceEnv, SequenceVectorEnv
from seqrl_lightning.envs.sequence_distractor import SequenceDistractorEnv, SequenceDistractorVectorEnv
from seqrl_lightning.envs.serial_reaction import SerialReactionEnv, SerialReactionVectorEnv
from seqrl_lightning.envs.solo import SoloVectorEnv
from seqrl_lightning.envs.state import TrackedEnv, set_state, state_of, tracked
from seqrl_lightning.envs.wrappers import FlattenMultiDiscreteAction, PreviousActionReward

__all__ = [
    "BlockSwitchEnv",
    "BlockSwitchVectorEnv",
    "CartPoleNoVelEnv",
    "CartPoleNoVelVectorEnv",
    "ChunksEnv",
    "ChunksVectorEnv",
    "ContextSequenceEnv",
    "ContextSequenceVectorEnv",
    "DelayedRecallEnv",
    "DelayedRecallVectorEnv",
    "EnvFactory",
    "EnvFault",
    "FlattenMultiDiscreteAction",
    "HiddenSequenceEnv",
    "HiddenSequenceVectorEnv",
    "MemoryChainEnv",
    "MemoryChainVectorEnv",
    "NBackEnv",
    "NBackVectorEnv",
    "PreviousActionReward",
    "RecallEnv",
    "RecallVectorEnv",
    "SequenceDistractorEnv",
    "SequenceDistractorVectorEnv",
    "SequenceEnv",
    "SequenceVectorEnv",
    "SerialReactionEnv",
    "SerialReactionVectorEnv",
    "SoloVectorEnv",
    "StepCheck",
    "TaskFacts",
    "TrackedEnv",
    "Wrapper",
    "action_mask_of",
    "discard",
    "fault_of",
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


_register("seqrl/BlockSwitch-v0", BlockSwitchEnv, BlockSwitchVectorEnv)
_register("seqrl/CartPoleNoVel-v1", CartPoleNoVelEnv, CartPoleNoVelVectorEnv)
_register("seqrl/Chunks-v0", ChunksEnv, ChunksVectorEnv)
_register("seqrl/ContextSequence-v0", ContextSequenceEnv, ContextSequenceVectorEnv)
_register("seqrl/DelayedRecall-v0", DelayedRecallEnv, DelayedRecallVectorEnv)
_register("seqrl/HiddenSequence-v0", HiddenSequenceEnv, HiddenSequenceVectorEnv)
_register("seqrl/MemoryChain-v0", MemoryChainEnv, MemoryChainVectorEnv)
_register("seqrl/NBack-v0", NBackEnv, NBackVectorEnv)
_register("seqrl/Recall-v0", RecallEnv, RecallVectorEnv)
_register("seqrl/Sequence-v0", SequenceEnv, SequenceVectorEnv)
_register("seqrl/SequenceDistractor-v0", SequenceDistractorEnv, SequenceDistractorVectorEnv)
_register("seqrl/SerialReaction-v0", SerialReactionEnv, SerialReactionVectorEnv)
