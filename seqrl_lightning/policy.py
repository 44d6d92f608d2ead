"""A trained policy, rebuilt from a checkpoint alone, to act in any Gymnasium loop."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from seqrl_lightning.algorithms import DQN
from seqrl_lightning.checkpoints.archive import UnusableFileError, limited_memory
from seqrl_lightning.checkpoints.format import digest, read_checkpoint
from seqrl_lightning.envs import EnvFactory, action_mask_of
from seqrl_lightning.errors import needs_extra, shorten_message
from seqrl_lightning.exploration import greedy
from seqrl_lightning.networks import NetworkCallable
from seqrl_lightning.trust import Trust, settings_of
from seqrl_lightning.types import Array, BoolArray, ConfigurationError, IntArray, State, require

MAX_POLICY_GIB = 4.0
"""The largest file of a policy that is read, in GiB, unless the caller gives another limit."""

_TARGET = "target_net."  # how the names of the target network's weights begin
_ENVIRONMENT_SETTINGS = ("env_id", "env_kwargs", "wrappers", "frame_stack")


class Recipe(NamedTuple):
    """What it takes to rebuild a policy but its weights: plain values only."""

    algorithm: str  # its class, as module:name
    model: dict[str, Any]  # its hyperparameters
    data: dict[str, Any]  # the datamodule's
    obs_dtype: str  # of the observations


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

    Attributes:
        values: What the last actions were chosen by, ``[n_actions]`` or ``[N, n_actions]`` float32: the Q-values (of
            ``DiscreteSAC`` the policy's logits); None before the first.
    """

    def __init__(
        self,
        module: DQN,
        recipe: Recipe,
        trust: Trust | None = None,
        source: str = "the policy",
        max_gib: float = MAX_POLICY_GIB,
    ) -> None:
        self.module = module
        self.recipe = recipe
        self.trust = trust or Trust()
        self._source = source
        self._max_gib = max_gib
        self.reset()

    def reset(self) -> None:
        """Forgets what was seen: call it at an episode's start."""
        self.values: Array | None = None
        self._state: State = None
        self._num_rows: int | None = None

    def act(
        self, observation: Any, action_mask: Any | None = None, is_first: BoolArray | None = None
    ) -> int | IntArray:
        """The best action, or the best of those that are allowed.

        Args:
            observation: One observation ``[*obs]``, or those of N environments that are played side by side,
                ``[N, *obs]``. They are what :meth:`make_env` shows, with the wrappers of the training.
            action_mask: ``[n_actions]`` or ``[N, n_actions]``, true (or 1) where an action is allowed; None allows all.
            is_first: ``[N]`` bool, which of the N environments have just started an episode; None: none of them, since
                :meth:`reset`.

        Returns:
            An int for one observation, ``[N]`` int64 for N of them.

        Raises:
            ConfigurationError: If the observation isn't of the shape that the policy was trained on, or N has changed
                since :meth:`reset`.
        """
        observation, obs_shape = np.asarray(observation), self.module.obs_shape
        is_single = observation.shape == obs_shape
        rows = observation[None] if is_single else observation
        would_do = f"{obs_shape}, or (N, ...) of N environments; policy.make_env() makes one that fits"
        require(rows.shape[1:] == obs_shape, "the observation's shape", observation.shape, would_do)
        would_do = f"{self._num_rows}, as before; policy.reset() starts anew"
        require(self._num_rows in (None, len(rows)), "the number of environments", len(rows), would_do)
        self._num_rows = len(rows)

        values, self._state = self.module.act_values(rows, self._state, is_first)
        mask = None if action_mask is None else action_mask_of({"action_mask": np.asarray(action_mask)})
        action = greedy(values, mask)
        self.values = values[0] if is_single else values
        return int(action[0]) if is_single else action

    def make_env(self, **env_kwargs: Any) -> gym.Env[Any, Any]:
        """Make an environment like those that the policy was trained in, with the same arguments and wrappers.

        Args:
            env_kwargs: Added to the task's own arguments, like ``render_mode="ansi"``.

        Raises:
            ConfigurationError: If the checkpoint doesn't hold the wrappers, the task can't be made, or it or a wrapper
                is in a module that files may not name (``load_policy(..., allow=[...])``).
        """
        data = self.recipe.data
        if "wrappers" not in data:
            raise ConfigurationError(
                "the checkpoint doesn't hold data.wrappers, which were given from Python; make the environment yourself"
            )
        self.trust.require_task(data.get("env_id"), self._source)
        self.trust.require_names(data, self._source)
        settings = {name: data[name] for name in _ENVIRONMENT_SETTINGS if data.get(name) is not None}
        num_frames, most = settings.get("frame_stack", 1), int(np.prod(self.recipe.model.get("obs_shape", ())))
        fits = isinstance(num_frames, int) and num_frames <= max(1, most)
        require(fits, f"data.frame_stack in {self._source}", num_frames, f"at most {most}, by the observation's shape")
        with _refused_in_a_line(self._source), limited_memory(self._max_gib):
            return self.trust.rebuild(EnvFactory, settings, self._source).make_env(**env_kwargs)


def load_policy(
    path: str | Path,
    network: NetworkCallable | None = None,
    device: str = "cpu",
    allow: str | Sequence[str] = (),
    max_gib: float = MAX_POLICY_GIB,
) -> Policy:
    """Rebuild a policy: of any algorithm of the package, with any network.

    The file may come from a stranger. It holds tensors and plain values, and names the classes that it was built from
    (algorithm, network, wrappers, task). Of these, only the package's own and a list of torch's and Gymnasium's are
    imported, and those in modules that you allow (see :mod:`seqrl_lightning.trust`).

    Args:
        path: A checkpoint, or a file that ``seqrl export --format safetensors`` wrote.
        network: Builds the network, where the checkpoint doesn't name it: it was handed in from Python as a function
            (``functools.partial(GRU, hidden_size=32)``), not as a class or by a config.
        device: Where to compute, like ``cpu`` or ``cuda``.
        allow: Modules that the file may name, like ``["my_networks"]``: your own, or those of somebody you trust.
        max_gib: Larger files are refused, and so are environments that take more memory.

    Raises:
        ConfigurationError: If the file can't be read, names what files may not name, or its network can't be rebuilt.
    """
    path, trust = Path(path), Trust(allow)
    reader = read_safetensors if path.suffix == ".safetensors" else read_policy
    recipe, weights = reader(path, trust, max_gib)
    settings = {**settings_of(recipe.model), "compile": False}  # compiling pays for itself in training only
    if network is not None:
        settings["network"] = network
    module = rebuild_learner(recipe.algorithm, settings, weights, trust, str(path))
    module.freeze()
    return Policy(module.to(device), recipe, trust, str(path), max_gib)


def rebuild_learner(
    algorithm: str, settings: Mapping[str, Any], weights: Mapping[str, Tensor], trust: Trust, source: str
) -> DQN:
    """Build a learner from what a file holds.

    It is built without memory first (on torch's ``meta`` device), to see that its network has the shapes of the
    weights: settings that ask for more than the file holds are refused before they take anything.

    Args:
        algorithm: The learner's class, as ``module:name``.
        settings: Its arguments.
        weights: Those of the learner, by their names; the target network's may be missing.
        trust: What the file may name.
        source: The file, for errors.

    Raises:
        ConfigurationError: If the file names what it may not name, or its settings and weights don't fit each other.
    """
    cls = trust.find(algorithm.replace(":", ".") if isinstance(algorithm, str) else algorithm, source)
    is_learner = isinstance(cls, type) and issubclass(cls, DQN)
    require(is_learner, f"the algorithm of {source}", algorithm, "a subclass of DQN")
    with _refused_in_a_line(source):
        with torch.device("meta"), _no_more_parameters_than(len(weights)):
            shapes = trust.rebuild(cls, settings, source).state_dict()
        _require_shapes(shapes, weights, source)
        module: DQN = trust.rebuild(cls, settings, source)
        module.load_state_dict(weights, strict=False)
    if module.target_net is not module.policy_net and not any(name.startswith(_TARGET) for name in weights):
        module.target_net.load_state_dict(module.policy_net.state_dict())
    return module


def _require_shapes(shapes: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: str) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in shapes.items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    missing = [name for name in wanted if name not in given and not name.startswith(_TARGET)]
    differing = [name for name in given if wanted.get(name) != given[name]]
    if missing or differing:
        example = (differing or missing)[0]
        raise ConfigurationError(
            f"the network of {source} doesn't fit its weights ({example} has the shape {given.get(example)} there, and "
            f"{wanted.get(example)} by the settings); it must be the one that was trained: give load_policy(..., "
            "network=...)"
        )


@contextmanager
def _no_more_parameters_than(count: int) -> Iterator[None]:
    """End the building of a network that has more parameters than its file has tensors."""
    num_built = 0

    def register(module: nn.Module, name: str, parameter: Tensor | None) -> None:
        nonlocal num_built
        num_built += 1
        if num_built > 4 * count + 100:  # some are replaced while a network is built
            raise ConfigurationError("its settings ask for more parameters than it holds")

    handle = register_module_parameter_registration_hook(register)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _refused_in_a_line(source: str) -> Iterator[None]:
    """Say in one line what settings from a file lead to.

    Raises:
        ConfigurationError: If they can't be used.
    """
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:  # whatever a class makes of settings that don't fit it
        raise ConfigurationError(
            f"{source} can't be rebuilt: {shorten_message(str(error)) or type(error).__name__}"
        ) from error


def read_policy(path: Path, trust: Trust, max_gib: float) -> tuple[Recipe, dict[str, Tensor]]:
    """Read a checkpoint's recipe and weights.

    Raises:
        ConfigurationError: If it can't be read, or names what files may not name.
    """
    try:
        checkpoint = read_checkpoint(path, trust, max_gib, mmap=False)
    except UnusableFileError as error:
        raise ConfigurationError(f"{path} can't be used: {error}") from error
    return policy_in(checkpoint, path)


def policy_in(checkpoint: Mapping[str, Any], path: Path) -> tuple[Recipe, dict[str, Tensor]]:
    """Return the recipe and the weights in a checkpoint's contents.

    Raises:
        ConfigurationError: If they aren't there.
    """
    policy, weights = checkpoint.get("policy"), checkpoint.get("state_dict")
    if not (isinstance(policy, dict) and isinstance(weights, dict)):
        raise ConfigurationError(f"{path} can't be used: it holds no policy")
    model, data = checkpoint.get("hyper_parameters"), checkpoint.get("datamodule_hyper_parameters")
    return _recipe({**policy, "model": model, "data": data}, path), weights


def read_safetensors(path: Path, trust: Trust, max_gib: float) -> tuple[Recipe, dict[str, Tensor]]:
    """Read the same from a file that :func:`seqrl_lightning.export.export_policy` wrote.

    Raises:
        ConfigurationError: If it can't be read, or names what files may not name.
    """
    with needs_extra("export"):
        from safetensors import SafetensorError, safe_open
    require(path.is_file(), "path", str(path), "a checkpoint or a .safetensors file")
    size = path.stat().st_size / 2**30
    require(size <= max_gib, f"the size of {path} in GiB", size, f"at most max_gib = {max_gib:g}")
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            metadata = file.metadata() or {}
            recipe = json.loads(metadata["recipe"])
    except (SafetensorError, TypeError, KeyError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} can't be used: it holds no policy ({error})") from error
    trust.require_names(recipe, str(path))
    if metadata.get("sha256") != policy_digest(metadata["recipe"], weights):
        raise ConfigurationError(f"{path} can't be used: it was changed after it was written")
    return _recipe(recipe, path), weights


def policy_digest(recipe: str, weights: Mapping[str, Tensor]) -> str:
    """Return the checksum of an exported policy: its recipe as it stands in the file, and its weights."""
    return digest({"recipe": recipe, "weights": dict(sorted(weights.items()))})


def _recipe(values: Any, path: Path) -> Recipe:
    texts, mappings = ("algorithm", "obs_dtype"), ("model", "data")
    is_one = isinstance(values, dict) and values.keys() == set(Recipe._fields)
    is_one = is_one and all(isinstance(values[name], str) for name in texts)
    if not (is_one and all(isinstance(values[name], dict) for name in mappings)):
        raise ConfigurationError(f"{path} can't be used: it doesn't say what its policy was built from")
    try:
        dtype = np.dtype(values["obs_dtype"])
    except TypeError as error:
        raise ConfigurationError(f"{path} can't be used: its observations' dtype is {error}") from error
    if dtype.hasobject:
        raise ConfigurationError(f"{path} can't be used: its observations are {values['obs_dtype']!r}")
    return Recipe(**values)
