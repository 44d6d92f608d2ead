"""Observations and rewards on a scale of their own, by statistics of all env steps so far."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from seqrl_lightning.batches import Batch, Transitions
from seqrl_lightning.functional import Moments, merge_moments, moments_of
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.saved_state import require_saved, saved_tensor
from seqrl_lightning.types import Array, BoolArray, FloatArray, require

_LIMIT = 10.0  # normalized values are clipped to [-10, 10], as in OpenAI Baselines and Stable-Baselines3
_EPSILON = 1e-8  # added to the variance, which is 0 of an element that never changes

ObservationT = TypeVar("ObservationT", Tensor, Mapping[str, Tensor])


class RunningNorm(nn.Module):
    """Normalize values by the mean and the variance of all rows that were seen, each element by itself.

    The statistics are float64 buffers, whatever the dtype of the weights, and change in :meth:`share` only: between
    two calls, all values are normalized alike.

    Args:
        shape: Shape of one row.
    """

    num_rows: Tensor
    mean: Tensor
    m2: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        for name, size in (("num_rows", ()), ("mean", shape), ("m2", shape)):
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))
        self._new: Moments | None = None  # of the rows that this process has seen since the last call of share

    def add(self, rows: Tensor) -> None:
        """Take in ``[N, *shape]`` rows, on the CPU."""
        moments = moments_of(rows)
        self._new = moments if self._new is None else merge_moments(self._new, moments)

    def share(self, world_size: int = 1) -> None:
        """Include the rows that all processes have seen since the last call; each of them has to call it."""
        new = self._new or moments_of(torch.zeros(0, *self.mean.shape))
        mine = torch.cat([column.reshape(-1) for column in new]).to(self.mean.device)
        gathered = [mine]
        if world_size > 1:
            gathered = [torch.empty_like(mine) for _ in range(world_size)]
            torch.distributed.all_gather(gathered, mine)
        moments = self.moments
        for num_rows, *columns in (process.tensor_split((1, 1 + self.mean.numel())) for process in gathered):
            mean, m2 = (column.view(self.mean.shape) for column in columns)
            moments = merge_moments(moments, Moments(num_rows.squeeze(0), mean, m2))
        for buffer, value in zip(self.moments, moments, strict=True):
            buffer.copy_(value)
        self._new = None

    @property
    def moments(self) -> Moments:
        """The statistics in use."""
        return Moments(self.num_rows, self.mean, self.m2)

    def forward(self, values: Tensor) -> Tensor:
        """Return ``[..., *shape]`` values of mean 0 and variance 1, float32."""
        return self.rescale(values - self.mean)

    def rescale(self, values: Tensor) -> Tensor:
        """Return ``[..., *shape]`` values divided by their standard deviation, float32; their mean stays in them."""
        return (values / (self.moments.variance + _EPSILON).sqrt()).clamp(-_LIMIT, _LIMIT).float()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow the module to another device, but not to another dtype, in which a count would soon be full."""

        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        super()._apply(move, recurse)  # type: ignore[no-untyped-call]  # torch's
        return self


class ObservationNorm(nn.Module):
    """Normalize observations: arrays of floats, or those parts of packed ones that are floats.

    Args:
        obs_shape: Shape of one observation.

    Raises:
        ConfigurationError: If observations have parts, and none of them are floats.
    """

    def __init__(self, obs_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layout = obs_shape if isinstance(obs_shape, PackedShape) else None
        self.shapes: dict[str, tuple[int, ...]] = {}  # of the parts that are floats
        if self.layout is not None:
            parts = self.layout.parts.items()
            self.shapes = {name: self.layout.shape_of(name) for name, part in parts if part.dtype == "float32"}
            must_be = f"false: no part of the observations is made of floats ({self.layout})"
            require(bool(self.shapes), "model.normalize_observations", True, must_be)
        size = sum(map(math.prod, self.shapes.values()))
        self.norm = RunningNorm(obs_shape if self.layout is None else (size,))

    def forward(self, observation: ObservationT) -> ObservationT:
        """Return normalized observations.

        Args:
            observation: ``[..., *obs]``, or their parts by name, each ``[..., *shape]``. They aren't changed in place.
        """
        if isinstance(observation, Mapping):
            return {**observation, **self._normalized(observation)}
        if self.layout is None:
            normalized: Tensor = self.norm(observation)
            return normalized
        rows = observation.clone()
        parts = self.layout.unpack_tensor(rows)  # views of it
        for name, part in self._normalized(parts).items():
            parts[name].copy_(part)
        return rows

    def add(self, observation: Tensor) -> None:
        """Take in ``[N, *obs]`` observations, on the CPU."""
        self.norm.add(observation if self.layout is None else self._joined(self.layout.unpack_tensor(observation)))

    def _normalized(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        pieces = self.norm(self._joined(parts)).split([math.prod(shape) for shape in self.shapes.values()], dim=-1)
        return {name: piece.reshape(parts[name].shape) for name, piece in zip(self.shapes, pieces, strict=True)}

    def _joined(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return the numbers of all parts that are floats in one row, ``[..., size]``."""
        flat = (parts[name].reshape(*_lead(parts[name], shape), -1) for name, shape in self.shapes.items())
        return torch.cat(list(flat), dim=-1)


class RewardNorm(nn.Module):
    """Divide rewards by the running standard deviation of the discounted return (Engstrom et al., arXiv:2005.12729).

    The return of an env step is the discounted sum of the rewards of its episode so far. Its mean is not subtracted:
    that would change which behavior is best.

    Args:
        gamma: Discount factor.

    Attributes:
        returns: [N] float64, of the episodes under way in N environments; None before the first env step.
    """

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.norm = RunningNorm(())
        self.returns: FloatArray | None = None

    def forward(self, reward: Tensor) -> Tensor:
        """Return rescaled rewards, of the same shape and dtype."""
        return self.norm.rescale(reward).to(reward.dtype)

    def add(self, reward: FloatArray, ended: BoolArray, is_step: BoolArray) -> None:
        """Take in one step of N environments; see :meth:`Normalization.add`."""
        before = np.zeros(len(reward)) if self.returns is None else self.returns
        returns = self.gamma * before + reward
        self.norm.add(torch.from_numpy(returns[is_step]))
        self.returns = np.where(ended, 0.0, returns)


class Normalization(nn.Module):
    """Statistics of all env steps so far, and what a learner normalizes by them.

    The replay memory holds observations and rewards as they are. They are normalized when a batch is read, old ones
    with the current statistics.

    Args:
        obs_shape: Shape of one observation.
        observations: Whether observations are normalized.
        rewards: Whether rewards are.
        gamma: Discount factor, for rewards.
    """

    def __init__(self, obs_shape: tuple[int, ...], observations: bool, rewards: bool, gamma: float) -> None:
        super().__init__()
        self.observations = ObservationNorm(obs_shape) if observations else None
        self.rewards = RewardNorm(gamma) if rewards else None

    # Normalizing

    def observation(self, observation: ObservationT) -> ObservationT:
        """Return observations as the network reads them; see :class:`ObservationNorm`."""
        return observation if self.observations is None else self.observations(observation)

    def array(self, observation: Array) -> Array:
        """Return observations in NumPy as the network reads them, of a learner on the CPU."""
        return observation if self.observations is None else self.observations(torch.from_numpy(observation)).numpy()

    def batch(self, batch: Batch) -> Batch:
        """Return a batch with its observations and rewards normalized."""
        if self.rewards is not None:
            batch = batch._replace(reward_batch=self.rewards(batch.reward_batch))
        if self.observations is None:
            return batch
        if isinstance(batch, Transitions):
            states, next_states = map(self.observation, (batch.state_batch, batch.next_state_batch))
            return batch._replace(state_batch=states, next_state_batch=next_states)
        return batch._replace(observation=self.observation(batch.observation))

    # Following the env steps

    def start(self, observation: Array) -> None:
        """Take in the first observations of new episodes in all environments, ``[N, *obs]``; older ones are over."""
        if self.observations is not None:
            self.observations.add(torch.from_numpy(observation))
        if self.rewards is not None:
            self.rewards.returns = None

    def add(self, observation: Array, reward: FloatArray, ended: BoolArray, is_step: BoolArray) -> None:
        """Take in one step of N environments, in the order in which the replay memory stores them.

        Args:
            observation: ``[N, *obs]``, after it.
            reward: [N] float.
            ended: [N] bool, where it ended the episode.
            is_step: [N] bool, where it wasn't only a reset.
        """
        if self.observations is not None:
            self.observations.add(torch.from_numpy(observation))
        if self.rewards is not None:
            self.rewards.add(reward, ended, is_step)

    def share(self, world_size: int = 1) -> None:
        """Include what all processes have seen since the last call; each of them has to call it."""
        for norm in (self.observations, self.rewards):
            if norm is not None:
                norm.norm.share(world_size)

    def running_state(self) -> dict[str, Any]:
        """Return what belongs to this process's episodes under way, as tensors: the statistics are buffers."""
        returns = None if self.rewards is None else self.rewards.returns
        return {} if returns is None else {"returns": torch.from_numpy(returns)}

    def load_running_state(self, state: Mapping[str, Any], num_envs: int) -> None:
        """Restore what :meth:`running_state` returned.

        Raises:
            StateError: If it isn't that of ``num_envs`` environments.
        """
        names = [] if self.rewards is None else ["returns"]
        require_saved(list(state) == names, "the normalization of running episodes", list(state), str(names))
        if self.rewards is not None:
            returns = saved_tensor(state["returns"], (num_envs,), torch.float64, "the returns of running episodes")
            self.rewards.returns = returns.numpy()


def _lead(tensor: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the dimensions before those of one value."""
    return tuple(tensor.shape[: tensor.dim() - len(shape)])
