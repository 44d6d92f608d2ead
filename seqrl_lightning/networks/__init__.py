"""Torch modules with one contract (:class:`Network`): a torso, then a head.

A network is built as ``Net(obs_shape, out_shape, **settings)`` and computes
``forward(observation, state, is_first) -> (outputs, state)``. Observations are ``[T, B, *obs]`` and outputs
``[T, B, *out_shape]``: Q-values, ``(n_actions,)``, or distributions, ``(n_actions, n_atoms)``. ``state`` is carried
from one call to the next; ``is_first`` marks the rows in which an episode starts.
"""

from seqrl_lightning.networks.cnn import ImpalaResNet, NatureCNN, SmallCNN
from seqrl_lightning.networks.composed import Composed
from seqrl_lightning.networks.delta_net import DeltaNet
from seqrl_lightning.networks.ffm import FFM
from seqrl_lightning.networks.frame_stack import FrameStack
from seqrl_lightning.networks.heads import DuelingHead, HeadCallable, LinearCallable, LinearHead
from seqrl_lightning.networks.lru import LRU
from seqrl_lightning.networks.min_gru import MinGRU
from seqrl_lightning.networks.mlp import MLP
from seqrl_lightning.networks.network import Network, NetworkCallable
from seqrl_lightning.networks.noisy import NoisyLinear
from seqrl_lightning.networks.recurrent import GRU, LSTM
from seqrl_lightning.networks.rnn import RNN
from seqrl_lightning.networks.table import Table
from seqrl_lightning.networks.transformer import Transformer

__all__ = [
    "FFM",
    "GRU",
    "LRU",
    "LSTM",
    "MLP",
    "RNN",
    "Composed",
    "DeltaNet",
    "DuelingHead",
    "FrameStack",
    "HeadCallable",
    "ImpalaResNet",
    "LinearCallable",
    "LinearHead",
    "MinGRU",
    "NatureCNN",
    "Network",
    "NetworkCallable",
    "NoisyLinear",
    "SmallCNN",
    "Table",
    "Transformer",
]
