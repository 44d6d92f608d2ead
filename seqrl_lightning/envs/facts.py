"""The facts that a task states, read from one of its environments."""

from collections.abc import Sequence
from typing import NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import VectorWrapper

from seqrl_lightning.envs.border import Border, Shown
from seqrl_lightning.envs.faults import EnvFault, EnvValueError
from seqrl_lightning.envs.followed_blocks import FollowsBlocks, block_after, num_blocks_of
from seqrl_lightning.envs.packing import PackedSpace
from seqrl_lightning.envs.parts import CheckedParts, FlatVectorEnv
from seqrl_lightning.envs.solo_border import SoloBorder
from seqrl_lightning.envs.state import Layered, layers
from seqrl_lightning.envs.vector_border import VectorBorder
from seqrl_lightning.envs.wrappers import FlattenMultiDiscreteAction, FlattenMultiDiscreteVectorAction
from seqrl_lightning.signals import EndedBySignal
from seqrl_lightning.types import ConfigurationError, FloatArray, one_line

_NUM_FIRST_STEPS = 3  # steps that are played to read the facts
_MAX_MORE_STEPS = 200  # steps until a reward and an episode's end: some tasks earn or state something only there
_FLATTENING = (CheckedParts, FlatVectorEnv)
_ENUMERATING = (FlattenMultiDiscreteAction, FlattenMultiDiscreteVectorAction)


class EnvFacts(NamedTuple):
    """Facts about a task, read from one of its environments."""

    obs_shape: tuple[int, ...]  # of one observation; a PackedShape if it has parts
    obs_dtype: str  # NumPy's name of the dtype that it is stored in
    obs_is_binary: bool  # its entries are 0 and 1, as those of a one-hot state are
    n_actions: int
    num_blocks: int  # 0 for a task in which one rule holds throughout
    tells_correct_action: bool  # info["correct_action"] says which action is right
    unrepeated: str | None  # the task or setting that makes a second reset with the same seed show something else
    flattened_space: str | None  # the task's own observation space, where it had to be flattened
    flattened_actions: str | None  # the task's own action space, where each combination became an action


def read_facts(envs: Border, env_id: str) -> EnvFacts:
    """Play the first episode of an environment twice, and read what it states.

    Args:
        envs: One environment of the task.
        env_id: The task's id, for errors and warnings.

    Raises:
        ConfigurationError: If it can't be reset or stepped, or its attributes can't be read.
    """
    seen, rewards = _first_steps(envs, env_id)
    num_blocks = _num_blocks(envs, seen[1], env_id)
    _play_on(envs, seen, rewards)
    seen_again, rewards_again = _first_steps(envs, env_id)
    _play_on(envs, seen_again, rewards_again)
    repeats = np.array_equal(rewards, rewards_again) and _are_alike(seen, seen_again)
    space = envs.observation_space
    return EnvFacts(
        space.layout if isinstance(space, PackedSpace) else tuple(space.shape),
        np.dtype(space.dtype).name,
        _is_binary(space, seen),
        envs.n_actions,
        num_blocks,
        tells_correct_action=any(shown.correct_action is not None for shown in seen),
        unrepeated=None if repeats else env_id,
        flattened_space=_space_before(envs, _FLATTENING),
        flattened_actions=_space_before(envs, _ENUMERATING),
    )


def _first_steps(envs: Border, env_id: str) -> tuple[list[Shown], list[FloatArray]]:
    """Return what an environment shows after a reset from a fixed seed and in its first steps, and their rewards."""
    envs.check_bounds = False  # a setting of the agent
    method = "reset"
    rewards: list[FloatArray] = []
    try:
        seen = [envs.reset(seed=0)]
        method = "step"
        for _ in range(_NUM_FIRST_STEPS):
            mask = seen[-1].action_mask
            first = np.zeros(envs.num_envs, np.int64) if mask is None else mask.argmax(1)
            outcome = envs.step(first)
            seen.append(outcome.shown)
            rewards.append(outcome.reward)
    except EnvFault as fault:
        raise ConfigurationError(f"data.env_id is {env_id!r}, whose {method}() fails: {fault.reason}") from fault
    return seen, rewards


def _play_on(envs: Border, seen: list[Shown], rewards: list[FloatArray]) -> None:
    """Play until an episode has ended and something was earned, and add what the environment shows and its rewards."""
    rng = np.random.default_rng(0)
    for _ in range(_MAX_MORE_STEPS):
        mask = seen[-1].action_mask
        allowed = np.arange(envs.n_actions) if mask is None else np.flatnonzero(mask[0])
        try:
            outcome = envs.step(rng.choice(allowed, envs.num_envs))
        except EnvFault:  # training will report it
            return
        seen.append(outcome.shown)
        rewards.append(outcome.reward)
        if (outcome.terminated | outcome.truncated).any() and np.count_nonzero(rewards):
            return


def _is_binary(space: Box, seen: Sequence[Shown]) -> bool:
    """Return whether the entries of observations are 0 and 1, by their space's bounds and the first ones shown."""
    is_bounded = bool((space.low >= 0).all() and (space.high <= 1).all())
    return is_bounded and all(np.isin(shown.observation, (0, 1)).all() for shown in seen)


def _are_alike(seen: Sequence[Shown], again: Sequence[Shown]) -> bool:
    """Return whether an environment showed the same observations twice."""
    pairs = zip(seen, again, strict=False)  # a fault may end one of them
    return len(seen) == len(again) and all(
        np.array_equal(one.observation, other.observation, equal_nan=True) for one, other in pairs
    )


def _num_blocks(envs: Border, shown: Shown, env_id: str) -> int:
    """Return the number of blocks that a task states; 0 if it states none."""
    task = _outermost(envs).unwrapped
    num_blocks = num_blocks_of(task)
    if num_blocks < 2 or shown.block is None:
        return 0
    try:
        if not isinstance(task, FollowsBlocks):
            return num_blocks
        block_after(task, 0, num_blocks)
    except EnvValueError as error:
        raise ConfigurationError(f"data.env_id is {env_id!r}, whose {error}") from error
    except EndedBySignal:
        raise
    except (Exception, SystemExit) as error:  # an attribute may raise anything
        reason = one_line(f"{type(error).__name__}: {error}")
        must_be = "they must have a value, or be left out"
        line = f"data.env_id is {env_id!r}, whose next_block or block_of raises {reason}; {must_be}"
        raise ConfigurationError(line) from error
    envs.follow_block(0)  # it would count its episodes by itself, and be in another block when it is played again
    return num_blocks


def _space_before(envs: Border, kinds: tuple[type, ...]) -> str | None:
    """Return the space that a layer of one of these kinds changed; None if there is no such layer."""
    for layer in layers(_outermost(envs)):
        if isinstance(layer, gym.Wrapper) and type(layer) in kinds:
            return str(layer.env.action_space if kinds is _ENUMERATING else layer.env.observation_space)
        if isinstance(layer, VectorWrapper) and type(layer) in kinds:
            inner = layer.env
            return str(inner.single_action_space if kinds is _ENUMERATING else inner.single_observation_space)
    return None


def _outermost(envs: Border) -> Layered:
    """Return a single environment, or a vectorized implementation, in its wrappers."""
    if isinstance(envs, SoloBorder):
        return envs.env
    assert isinstance(envs, VectorBorder)
    return envs.envs
