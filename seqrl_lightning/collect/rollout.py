"""Play whole episodes of a policy, one in each environment, for evaluation, testing and prediction."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from seqrl_lightning.envs import Border, Outcome, Shown
from seqrl_lightning.types import Array, BoolArray, IntArray

Act = Callable[[Array, BoolArray | None], IntArray]
"""From observations [N, *obs] and the allowed actions [N, A] to actions [N], like :meth:`Policy.act`."""


class Step(NamedTuple):
    """One step of all environments, N of them."""

    shown: Shown  # before it
    action: IntArray  # [N]
    outcome: Outcome
    is_playing: BoolArray  # [N], whether the environment's first episode was still under way


def rollout(
    act: Act, envs: Border, seed: int, options: dict[str, Any] | None = None, max_steps: int | None = None
) -> Iterator[Step]:
    """Play one episode in each environment, and yield every step until the last of them has ended.

    Args:
        act: Picks the actions.
        envs: The environments, N of them.
        seed: Environment i starts from ``seed + i`` (Gymnasium's own rule for a vector environment).
        options: The environments' options for ``reset``.
        max_steps: Env steps after which an episode is given up; None for no limit.
    """
    shown = envs.reset(seed, options)
    is_playing = np.ones(envs.num_envs, np.bool_)
    for _ in itertools.count() if max_steps is None else range(max_steps):
        action = act(shown.observation, shown.action_mask)
        outcome = envs.step(action)
        yield Step(shown, action, outcome, is_playing)
        is_playing = is_playing & ~(outcome.terminated | outcome.truncated)
        if not is_playing.any():
            return
        shown = outcome.shown
