"""A trained policy, rebuilt from a checkpoint alone, to act in any Gymnasium loop."""

import json
import pkgutil
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from lightning.pytorch.cli import instantiate_module
from torch import Tensor

from seqrl_lightning.algorithms import LearnerModule
from seqrl_lightning.callbacks.side_cars import what_is_wrong
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.envs import action_mask_of
from seqrl_lightning.errors import essential, needs_extra
from seqrl_lightning.exploration import greedy
from seqrl_lightning.networks import NetworkCallable
from seqrl_lightning.types import Array, BoolArray, ConfigurationError, IntArray, State, require


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

    Attributes:
        values: What the last actions were chosen by, ``[n_actions]`` or ``[N, n_actions]`` float32: the Q-values (of
            ``DiscreteSAC`` the policy's logits); None before the first.
    """

    def __init__(self, module: LearnerModule, recipe: Recipe) -> None:
        self.module = module
        self.recipe = recipe
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
        """Makes an environment like those that the policy was trained in, with the same arguments and wrappers.

        Args:
            env_kwargs: Added to the task's own arguments, like ``render_mode="ansi"``.

        Raises:
            ConfigurationError: If the checkpoint doesn't hold the wrappers, or the task can't be made.
        """
        data = {**self.recipe.data, "num_envs": 1, "batch_size": 1, "capacity": 100, "mmap_dir": None}
        if "wrappers" not in data:
            raise ConfigurationError(
                "the checkpoint doesn't hold data.wrappers, which were given from Python; make the environment yourself"
            )
        datamodule: ReplayDataModule = _instantiated(ReplayDataModule, data)
        return datamodule.make_env(**env_kwargs)


def load_policy(path: str | Path, network: NetworkCallable | None = None, device: str = "cpu") -> Policy:
    """Rebuilds a policy: of any algorithm of the package, with any network.

    A checkpoint holds tensors and plain values, and names the classes that it was built from (algorithm, network,
    wrappers), so that nothing in it is executed; classes of your own must be importable.

    Args:
        path: A checkpoint, or a file that ``seqrl export --format safetensors`` wrote.
        network: Builds the network, where the checkpoint doesn't name it: it was handed in from Python as a function
            (``functools.partial(GRU, hidden_size=32)``), not as a class or by a config.
        device: Where to compute, like ``cpu`` or ``cuda``.

    Raises:
        ConfigurationError: If the file can't be read, or its network can't be rebuilt.
    """
    path = Path(path)
    recipe, weights = (read_safetensors if path.suffix == ".safetensors" else read_checkpoint)(path)
    try:
        algorithm = pkgutil.resolve_name(recipe.algorithm)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"{path} needs {recipe.algorithm}, which can't be imported: {error}") from error
    is_ours = isinstance(algorithm, type) and issubclass(algorithm, LearnerModule)
    require(is_ours, f"the algorithm of {path}", recipe.algorithm, "a LearnerModule, like DQN")
    # What is compiled pays for itself in training only.
    settings = {**recipe.model, "compile": False, **({} if network is None else {"network": network})}
    module: LearnerModule = _instantiated(algorithm, settings)
    try:
        missing, unexpected = module.load_state_dict(weights, strict=False)
        fits = not unexpected and all(name.startswith("target_net.") for name in missing)
    except RuntimeError:  # sizes that differ
        fits = False
    would_do = "the one that was trained: give load_policy(..., network=...)"
    require(fits, f"the network of {path}", type(module.policy_net).__name__, would_do)
    module.target_net.load_state_dict(module.policy_net.state_dict())
    module.freeze()
    return Policy(module.to(device), recipe)


def read_checkpoint(path: Path) -> tuple[Recipe, dict[str, Tensor]]:
    """A checkpoint's recipe and weights.

    Raises:
        ConfigurationError: If it can't be read.
    """
    if (reason := what_is_wrong(path, with_side_cars=False)) is not None:
        raise ConfigurationError(f"{path} can't be used: {reason}")
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if "policy" not in checkpoint:
        raise ConfigurationError(f"{path} can't be used: it holds no policy of this version of seqrl-lightning")
    policy = checkpoint["policy"]
    model, data = dict(checkpoint["hyper_parameters"]), dict(checkpoint["datamodule_hyper_parameters"])
    return Recipe(policy["algorithm"], model, data, policy["obs_dtype"]), checkpoint["state_dict"]


def read_safetensors(path: Path) -> tuple[Recipe, dict[str, Tensor]]:
    """The same of a file that :func:`seqrl_lightning.export.export_policy` wrote.

    Raises:
        ConfigurationError: If it can't be read.
    """
    with needs_extra("export"):
        from safetensors import SafetensorError, safe_open
    require(path.is_file(), "path", str(path), "a checkpoint or a .safetensors file")
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            return Recipe(**json.loads(file.metadata()["recipe"])), weights
    except (SafetensorError, TypeError, KeyError, ValueError) as error:
        raise ConfigurationError(f"{path} can't be used: it holds no policy ({error})") from error


def _instantiated(cls: type[Any], settings: dict[str, Any]) -> Any:
    """An instance of ``cls``; classes among its settings are named as in a config if the CLI built the original.

    Raises:
        ConfigurationError: If a setting can't work, or a class can't be imported.
    """
    settings = dict(settings)
    by_cli = settings.pop("_instantiator", None) is not None
    try:
        return instantiate_module(cls, settings) if by_cli else cls(**settings)
    except ConfigurationError:
        raise
    except Exception as error:  # whatever a class of the user's leads to
        raise ConfigurationError(f"{cls.__name__} can't be rebuilt: {essential(str(error))}") from error
