"""A trained policy, rebuilt from a file, to act in any Gymnasium loop."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, overload

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from seqrl_lightning import collect
from seqrl_lightning.algorithms.acting import ActingModule
from seqrl_lightning.checkpoints.archive import limited_memory
from seqrl_lightning.envs import Border, EnvFactory
from seqrl_lightning.envs.infos import as_mask
from seqrl_lightning.envs.packing import UnpackedParts
from seqrl_lightning.errors import refused_in_a_line
from seqrl_lightning.networks import NetworkCallable
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.rebuild import rebuild
from seqrl_lightning.recipe import Recipe, read_policy, read_safetensors, rebuild_learner
from seqrl_lightning.trust import MAX_FILE_GIB, Trust, settings_of, task_kwargs, task_mode
from seqrl_lightning.types import Array, BoolArray, ConfigurationError, FloatArray, IntArray, require

_ENVIRONMENT_SETTINGS = ("env_id", "env_kwargs", "wrappers", "frame_stack", "autoreset_mode")


class Policy:
    """A greedy policy that keeps its network's state, as returned by :func:`load_policy`.

    An episode of the task that it was trained on::

        policy = seqrl_lightning.load_policy("lightning_logs/version_0/checkpoints/last.ckpt")
        env = policy.make_env()
        observation, info = env.reset(seed=0)
        policy.reset()
        ended = False
        while not ended:
            action = policy.act(observation, info.get("action_mask"))
            observation, reward, terminated, truncated, info = env.step(action)
            ended = terminated or truncated

    Args:
        module: The algorithm with the trained weights.
        recipe: What it was rebuilt from.
        trust: What the recipe may name, for :meth:`make_env`.
        source: The file that it is from, for errors.
        max_gib: The memory that :meth:`make_env` may take, in GiB.
        network: The function that built the network, where the recipe doesn't name it.

    Attributes:
        values: What the last actions were chosen by, ``[n_actions]`` or ``[N, n_actions]`` float32: the Q-values (of
            ``DiscreteSAC`` the policy's logits); None before the first.
    """

    def __init__(
        self,
        module: ActingModule,
        recipe: Recipe,
        trust: Trust | None = None,
        source: str = "the policy",
        max_gib: float = MAX_FILE_GIB,
        network: NetworkCallable | None = None,
    ) -> None:
        self.module = module
        self.recipe = recipe
        self.trust = trust or Trust()
        self._source = source
        self.network = network
        self._max_gib = max_gib
        self._policy = collect.Policy(module.act_values)
        self.reset()

    def reset(self) -> None:
        """Forget what was seen: call it at an episode's start."""
        self._policy.reset()
        self.values: Array | None = None
        self._num_rows: int | None = None
        self._is_single = False

    @property
    def state(self) -> FloatArray | None:
        """A copy of the state that the network carries into the next step.

        Its first dimension is the network's own, its last holds the numbers that belong together:

        - ``GRU``, ``RNN``, ``MinGRU``, ``LRU``, ``FFM``, ``DeltaNet``: ``[num_layers, size]``, a row for each layer.
          ``GRU`` and ``RNN`` carry their units; the size of the others is that of their memory.
        - ``LSTM``: ``[num_layers, 2 * hidden_size]``, the outputs h, then the cells c.
        - ``Transformer``, ``FrameStack``: ``[rows, size]``, what they keep of each of the last steps.
        - A network of your own: its state without the batch.

        Returns:
            ``[S, ...]`` float32 for one observation, ``[S, N, ...]`` for N of them; None before the first step, and
            always of a network without memory.
        """
        state = self._policy.state
        if not isinstance(state, Tensor):
            return None
        copied = state.detach().float().cpu().numpy().copy()
        return copied[:, 0] if self._is_single else copied

    @overload
    def act(
        self,
        observation: object,
        action_mask: Array | Sequence[Any] | None = None,
        is_first: BoolArray | None = None,
        return_state: Literal[False] = False,
    ) -> int | IntArray: ...

    @overload
    def act(
        self,
        observation: object,
        action_mask: Array | Sequence[Any] | None = None,
        is_first: BoolArray | None = None,
        *,
        return_state: Literal[True],
    ) -> tuple[int | IntArray, FloatArray | None]: ...

    def act(
        self,
        observation: object,
        action_mask: Array | Sequence[Any] | None = None,
        is_first: BoolArray | None = None,
        return_state: bool = False,
    ) -> int | IntArray | tuple[int | IntArray, FloatArray | None]:
        """Return the best action, or the best of those that are allowed.

        Args:
            observation: One observation ``[*obs]``, or those of N environments that are played side by side,
                ``[N, *obs]``, as :meth:`make_env` shows them, with the wrappers of the training; where observations
                have parts, a dict of them.
            action_mask: ``[n_actions]`` or ``[N, n_actions]``, true (or 1) where an action is allowed; None allows all.
            is_first: ``[N]`` bool, which of the N environments have just started an episode; None: none of them, since
                :meth:`reset`.
            return_state: Whether to return :attr:`state`, as it is after the observation, beside the action.

        Returns:
            An int for one observation, ``[N]`` int64 for N of them; with ``return_state``, a pair of it and the state.

        Raises:
            ConfigurationError: If the observation isn't of the shape that the policy was trained on, or N has changed
                since :meth:`reset`.
        """
        obs_shape = self.module.obs_shape
        observation = _packed(observation, obs_shape) if isinstance(obs_shape, PackedShape) else np.asarray(observation)
        is_single = observation.shape == obs_shape
        rows = observation[None] if is_single else observation
        must_be = f"{obs_shape}, or (N, ...) of N environments; policy.make_env() makes one that fits"
        require(rows.shape[1:] == obs_shape, "the observation's shape", observation.shape, must_be)
        must_be = f"{self._num_rows}, as before; policy.reset() starts again"
        require(self._num_rows in (None, len(rows)), "the number of environments", len(rows), must_be)
        self._num_rows, self._is_single = len(rows), is_single

        mask = None if action_mask is None else self._masks([action_mask] if is_single else action_mask)
        action, values = self._policy.act(rows, mask, is_first), self._policy.values
        assert values is not None  # after the first action
        self.values = values[0] if is_single else values
        chosen = int(action[0]) if is_single else action
        return (chosen, self.state) if return_state else chosen

    def untrained(self, seed: int = 0) -> "Policy":
        """Return a policy of the same network with random weights, as it was before training.

        Args:
            seed: Of the weights.
        """
        with torch.random.fork_rng(devices=()), refused_in_a_line(self._source):
            torch.manual_seed(seed)
            module = rebuild(type(self.module), _model_settings(self.recipe, self.network), self.trust, self._source)
        module.freeze()
        device = self.module.device
        return Policy(module.to(device), self.recipe, self.trust, self._source, self._max_gib, self.network)

    def _masks(self, masks: Iterable[ArrayLike | None]) -> BoolArray:
        """Return the actions that are allowed in each environment, [N, A]; a vector environment may tell some None."""
        all_allowed = np.ones(self.module.n_actions, np.bool_)
        return np.stack([all_allowed if mask is None else as_mask(mask, all_allowed.shape) for mask in masks])

    def make_env(self, **env_kwargs: Any) -> gym.Env[Any, Any]:
        """Make an environment like those that the policy was trained in, with the same arguments and wrappers.

        Args:
            env_kwargs: Added to the task's own arguments, like ``render_mode="ansi"``.

        Raises:
            ConfigurationError: If the checkpoint doesn't hold the wrappers, the task can't be made, or it or a wrapper
                is in a module that files may not name (``load_policy(..., allow=[...])``).
        """
        has_parts = isinstance(self.module.obs_shape, PackedShape)
        with self._factory() as factory:
            env = factory.make_env(**env_kwargs)
        return UnpackedParts(env) if has_parts else env

    def make_envs(self, num_envs: int) -> Border:
        """Make N such environments side by side, with observations as they are stored; see :meth:`make_env`."""
        with self._factory() as factory:
            return factory.make_envs(num_envs, "the number of environments")

    @contextmanager
    def _factory(self) -> Iterator[EnvFactory]:
        """Yield a factory of environments, within which errors and memory are those of the file."""
        data = self.recipe.data
        if "wrappers" not in data:
            raise ConfigurationError(
                "the checkpoint doesn't hold data.wrappers, which were given from Python; make the environment yourself"
            )
        if data.get("env_id") is None:
            raise ConfigurationError(
                f"{self._source} learned from a log, without a task; make the environment yourself"
            )
        with self.trust.task(data["env_id"], self._source):
            self.trust.require_names(data, self._source)
            settings = {name: data[name] for name in _ENVIRONMENT_SETTINGS if data.get(name) is not None}
            settings["vectorization_mode"] = task_mode(data)
            settings["flatten_observations"] = not isinstance(self.module.obs_shape, PackedShape)
            num_frames, most = settings.get("frame_stack", 1), math.prod(self.module.obs_shape)
            fits = isinstance(num_frames, int) and num_frames <= max(1, most)
            must_be = f"at most {most}, by the observation's shape"
            require(fits, f"data.frame_stack in {self._source}", num_frames, must_be)
            with refused_in_a_line(self._source), limited_memory(self._max_gib):
                yield rebuild(EnvFactory, {**settings, "env_kwargs": task_kwargs(data)}, self.trust, self._source)


def _packed(observation: object, shape: PackedShape) -> Array:
    """Pack the parts of one observation or of several.

    Raises:
        ConfigurationError: If they aren't those that the policy was trained on.
    """
    must_be = f"a dict of {shape}, or of each with N in front; policy.make_env() makes one that fits"
    parts = observation if isinstance(observation, Mapping) else {}
    given = type(observation).__name__ if parts is not observation else sorted(map(str, parts))
    require(set(parts) == set(shape.parts), "the observation", given, must_be)
    arrays = {name: np.asarray(part) for name, part in parts.items()}
    lead = {array.shape[: array.ndim - len(shape.shape_of(name))] for name, array in arrays.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    fits = len(lead) == 1 and all(size == (*next(iter(lead)), *shape.shape_of(n)) for n, size in shapes.items())
    require(fits, "the observation's shape", shapes, must_be)
    return shape.pack(arrays)


def _model_settings(recipe: Recipe, network: NetworkCallable | None) -> dict[str, Any]:
    """Return the settings of the learner, with a network in place of the recipe's if one is given."""
    replaced = {} if network is None else {"network": network}
    return {**settings_of(recipe.model), "compile": False, **replaced}  # compiling pays for itself in training only


def load_policy(
    path: str | Path,
    network: NetworkCallable | None = None,
    device: str = "cpu",
    allow: str | Sequence[str] = (),
    max_gib: float = MAX_FILE_GIB,
) -> Policy:
    """Rebuild a policy: of any algorithm of the package, with any network.

    The file may come from a stranger. It holds tensors and plain values, and names the classes that it was built from
    (algorithm, network, wrappers, task). Of these, only the package's own and a list of torch's and Gymnasium's are
    imported, and those in modules that you allow (see :mod:`seqrl_lightning.trust`). To act, no task and no wrapper is
    needed: whether the file may name them is only asked by :meth:`Policy.make_env`.

    Args:
        path: A checkpoint, or a file that ``seqrl export --format safetensors`` wrote.
        network: Builds the network, in place of what the checkpoint names, or where it names none: it was handed in
            from Python as a function (``functools.partial(GRU, hidden_size=32)``), not as a class or by a config.
        device: Where to compute, like ``cpu`` or ``cuda``.
        allow: Modules that the file may name, like ``["my_networks"]``: your own, or those of somebody you trust.
        max_gib: Larger files are refused, and so are environments that take more memory.

    Raises:
        ConfigurationError: If the file can't be read, names what files may not name, or its network can't be rebuilt.
    """
    path, trust = Path(path), Trust(allow)
    reader = read_safetensors if path.suffix == ".safetensors" else read_policy
    recipe, weights = reader(path, trust, max_gib, () if network is None else ("network",))
    module = rebuild_learner(recipe.algorithm, _model_settings(recipe, network), weights, trust, str(path))
    module.freeze()
    return Policy(module.to(device), recipe, trust, str(path), max_gib, network)
