"""Every memory learns what its task needs: a cue after a delay, a count, an association."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqrl_lightning.networks import FFM, GRU, LRU, LSTM, RNN, DeltaNet, MinGRU, Network, Transformer

BATCH_SIZE = 32
Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""Observations [T, B, n], where episodes start [T, B], answers [T, B], and where one is asked for [T, B]."""


def cue_and_question(num_cues: int = 4, length: int = 15) -> Batch:
    """Two episodes in a row, the first of which starts anywhere: a cue, distractors, then the question."""
    row, first = torch.arange(2 * length).unsqueeze(1), torch.randint(length, (BATCH_SIZE,))
    time = (row - first) % length
    starts = (time == 0) & (row >= first)
    is_asked = (time == length - 1) & (row >= first)
    symbols = torch.randint(num_cues, time.shape)
    observation = F.one_hot(symbols.masked_fill(is_asked, num_cues), num_cues + 1).float()
    return observation, starts, symbols.gather(0, (row - time).clamp(min=0)), is_asked


def associations(num_keys: int = 4, length: int = 12) -> Batch:
    """Keys with values, some of which change; then a key alone asks for its last value."""
    keys, values = torch.randint(num_keys, (2, length, BATCH_SIZE))
    observation = torch.cat([F.one_hot(keys, num_keys), F.one_hot(values, num_keys)], dim=-1).float()
    observation[-1, :, num_keys:] = 0.0
    last, is_known = torch.zeros(BATCH_SIZE, dtype=torch.long), torch.zeros(BATCH_SIZE, dtype=torch.bool)
    for key, value in zip(keys[:-1], values[:-1], strict=True):
        is_same = key == keys[-1]
        last, is_known = torch.where(is_same, value, last), is_known | is_same
    is_asked = torch.zeros(length, BATCH_SIZE, dtype=torch.bool)
    is_asked[-1] = is_known
    return observation, torch.zeros_like(is_asked), last.expand(length, -1), is_asked


def counts(length: int = 12) -> Batch:
    """Ones and zeros, and in the last row the question how many ones there were, 3 or more being one answer."""
    ones = torch.rand(length, BATCH_SIZE) < 0.15
    is_asked = torch.zeros_like(ones)
    is_asked[-1] = True
    return ones.float().unsqueeze(-1), torch.zeros_like(ones), ones.cumsum(0).clamp(max=3), is_asked


def accuracy_after_training(core: Callable[..., Network], batch: Callable[[], Batch], num_updates: int) -> float:
    torch.manual_seed(0)
    net = core(batch()[0].shape[2:], (4,), hidden_size=32)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    correct: list[Tensor] = []
    for _ in range(num_updates):
        observation, starts, answer, is_asked = batch()
        logits = net(observation, None, starts)[0][is_asked]
        optimizer.zero_grad()
        F.cross_entropy(logits, answer[is_asked]).backward()
        optimizer.step()
        correct.append((logits.argmax(-1) == answer[is_asked]).float().mean())
    return float(torch.stack(correct[-20:]).mean())


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("core", [GRU, LSTM, RNN, MinGRU, LRU, FFM, DeltaNet, Transformer])
def test_it_bridges_a_delay_in_each_of_several_episodes(core: Any) -> None:
    assert accuracy_after_training(core, cue_and_question, 120) > 0.95


@pytest.mark.slow
def test_ffm_counts() -> None:
    assert accuracy_after_training(FFM, counts, 150) > 0.95


@pytest.mark.slow
def test_delta_net_associates_and_replaces() -> None:
    """A network whose memory is a vector answers half of these after as many updates."""
    assert accuracy_after_training(DeltaNet, associations, 400) > 0.95
    assert accuracy_after_training(LSTM, associations, 400) < 0.7
