"""The tasks, one in each file; importing this package registers them with Gymnasium."""

from typing import Any

import gymnasium as gym

from seqrl_lightning.envs.admitted import AdmittedEnv
from seqrl_lightning.envs.block_switch import BlockSwitchEnv, BlockSwitchVectorEnv
from seqrl_lightning.envs.border import Border, Outcome, Shown
from seqrl_lightning.envs.cartpole_no_vel import CartPoleNoVelEnv, CartPoleNoVelVectorEnv
from seqrl_lightning.envs.chunks import ChunksEnv, ChunksVectorEnv
from seqrl_lightning.envs.context_sequence import ContextSequenceEnv, ContextSequenceVectorEnv
from seqrl_lightning.envs.delayed_recall import DelayedRecallEnv, DelayedRecallVectorEnv
from seqrl_lightning.envs.facts import EnvFacts
from seqrl_lightning.envs.faults import EnvFault, EnvValueError
from seqrl_lightning.envs.followed_blocks import FollowsBlocks
from seqrl_lightning.envs.hidden_sequence import HiddenSequenceEnv, HiddenSequenceVectorEnv
from seqrl_lightning.envs.make import EnvFactory
from seqrl_lightning.envs.memory_chain import MemoryChainEnv, MemoryChainVectorEnv
from seqrl_lightning.envs.minigrid import MinigridParts
from seqrl_lightning.envs.n_back import NBackEnv, NBackVectorEnv
from seqrl_lightning.envs.neurogym import NeuroGymTrials
from seqrl_lightning.envs.picture_cue import PictureCueEnv, PictureCueVectorEnv
from seqrl_lightning.envs.picture_recall import PictureRecallEnv, PictureRecallVectorEnv
from seqrl_lightning.envs.recall import RecallEnv, RecallVectorEnv
from seqrl_lightning.envs.sequence import SequenceEnv, SequenceVectorEnv
from seqrl_lightning.envs.sequence_distractor import SequenceDistractorEnv, SequenceDistractorVectorEnv
from seqrl_lightning.envs.serial_reaction import SerialReactionEnv, SerialReactionVectorEnv
from seqrl_lightning.envs.task import TaskEnv
from seqrl_lightning.envs.vector import TaskVectorEnv, vectorized
from seqrl_lightning.envs.wrappers import (
    FlattenMultiDiscreteAction,
    MaskInObservation,
    PreviousActionReward,
    ScaleReward,
)
from seqrl_lightning.envs.wrapping import Wrapper

__all__ = [
    "AdmittedEnv",
    "BlockSwitchEnv",
    "BlockSwitchVectorEnv",
    "Border",
    "CartPoleNoVelEnv",
    "CartPoleNoVelVectorEnv",
    "ChunksEnv",
    "ChunksVectorEnv",
    "ContextSequenceEnv",
    "ContextSequenceVectorEnv",
    "DelayedRecallEnv",
    "DelayedRecallVectorEnv",
    "EnvFactory",
    "EnvFacts",
    "EnvFault",
    "EnvValueError",
    "FlattenMultiDiscreteAction",
    "FollowsBlocks",
    "HiddenSequenceEnv",
    "HiddenSequenceVectorEnv",
    "MaskInObservation",
    "MemoryChainEnv",
    "MemoryChainVectorEnv",
    "MinigridParts",
    "NBackEnv",
    "NBackVectorEnv",
    "NeuroGymTrials",
    "Outcome",
    "PictureCueEnv",
    "PictureCueVectorEnv",
    "PictureRecallEnv",
    "PictureRecallVectorEnv",
    "PreviousActionReward",
    "RecallEnv",
    "RecallVectorEnv",
    "ScaleReward",
    "SequenceDistractorEnv",
    "SequenceDistractorVectorEnv",
    "SequenceEnv",
    "SequenceVectorEnv",
    "SerialReactionEnv",
    "SerialReactionVectorEnv",
    "Shown",
    "TaskEnv",
    "TaskVectorEnv",
    "Wrapper",
    "vectorized",
]


def _register(env_id: str, env_class: type[gym.Env[Any, Any]]) -> None:
    """Register a task and, by the name that ends with ``VectorEnv``, its vectorized form."""
    path = f"{env_class.__module__}:{env_class.__name__.removesuffix('Env')}"
    gym.register(env_id, entry_point=f"{path}Env", vector_entry_point=f"{path}VectorEnv")


_register("seqrl/BlockSwitch-v0", BlockSwitchEnv)
_register("seqrl/CartPoleNoVel-v1", CartPoleNoVelEnv)
_register("seqrl/Chunks-v0", ChunksEnv)
_register("seqrl/ContextSequence-v0", ContextSequenceEnv)
_register("seqrl/DelayedRecall-v0", DelayedRecallEnv)
_register("seqrl/HiddenSequence-v0", HiddenSequenceEnv)
_register("seqrl/MemoryChain-v0", MemoryChainEnv)
_register("seqrl/NBack-v0", NBackEnv)
_register("seqrl/PictureCue-v0", PictureCueEnv)
_register("seqrl/PictureRecall-v0", PictureRecallEnv)
_register("seqrl/Recall-v0", RecallEnv)
_register("seqrl/Sequence-v0", SequenceEnv)
_register("seqrl/SequenceDistractor-v0", SequenceDistractorEnv)
_register("seqrl/SerialReaction-v0", SerialReactionEnv)
