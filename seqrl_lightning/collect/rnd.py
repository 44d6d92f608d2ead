"""Random network distillation: a bonus for observations that a network has not learned to predict."""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqrl_lightning.collect.bonus import ExplorationBonus
from seqrl_lightning.networks import MLP, NetworkCallable
from seqrl_lightning.networks.normalization import ObservationNorm, RunningNorm
from seqrl_lightning.parts import PackedShape, blank_observations
from seqrl_lightning.saved_optimizer import require_optimizer_state
from seqrl_lightning.saved_state import require_alike, require_saved, saved, saved_tensor
from seqrl_lightning.types import Array, ConfigurationError, FloatArray, require


class RND(ExplorationBonus):
    """Random network distillation (Burda et al., arXiv:1810.12894): the error of predicting a random network.

    A second network learns to predict the features that a fixed random network computes of the observations seen. Its
    squared error, divided by the error's running standard deviation, is large where it has seen little. Both networks
    read floats normalized by running statistics (section 2.4). Unlike in the paper, one value function serves both
    rewards, and a bonus ends with its episode.

    Args:
        scale: Size of a bonus of one standard deviation, in units of the reward.
        network: Builds both networks from ``obs_shape`` and ``(num_features,)``: one without memory.
        num_features: Number of features to predict.
        learning_rate: Learning rate of the prediction (Adam).
        batch_size: Number of observations that each update of the prediction learns from, the newest ones.

    Raises:
        ConfigurationError: If a setting isn't positive, or the network doesn't fit the observations.
    """

    def __init__(
        self,
        scale: float = 0.1,
        network: NetworkCallable = MLP,
        num_features: int = 64,
        learning_rate: float = 1e-4,
        batch_size: int = 32,
    ) -> None:
        super().__init__(scale)
        for name, value in (("num_features", num_features), ("batch_size", batch_size)):
            require(value > 0, f"agent.exploration_bonus.{name}", value, "at least 1")
        require(learning_rate > 0, "agent.exploration_bonus.learning_rate", learning_rate, "positive")
        self.network = network
        self.num_features = num_features
        self.learning_rate = learning_rate
        self.batch_size = batch_size

    def begin(self, obs_shape: tuple[int, ...], obs_dtype: str, rng: np.random.Generator) -> None:
        """Begin with new networks."""
        with torch.random.fork_rng(devices=()):  # torch's global stream stays as it would be without a bonus
            torch.manual_seed(int(rng.integers(2**31)))
            target, predictor = (self._build(obs_shape) for _ in range(2))
        self._form = obs_shape, torch.from_numpy(np.zeros(0, obs_dtype)).dtype  # of an observation
        self._observation_norm = ObservationNorm(obs_shape) if _has_floats(obs_shape, obs_dtype) else None
        self._error_norm = RunningNorm(())
        modules = {"target": target.requires_grad_(False), "predictor": predictor, "errors": self._error_norm}
        if self._observation_norm is not None:
            modules["observations"] = self._observation_norm
        self._modules = nn.ModuleDict(modules)  # all that a checkpoint holds
        self._optimizer = torch.optim.Adam(predictor.parameters(), self.learning_rate)
        self._waiting: list[Tensor] = []  # observations that the prediction will learn from

    def _build(self, obs_shape: tuple[int, ...]) -> nn.Module:
        """Build one of the networks, and try it on one observation."""
        try:
            built = self.network(obs_shape, (self.num_features,))
            with torch.no_grad():
                features, state = built(blank_observations(obs_shape))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise ConfigurationError(f"agent.exploration_bonus.network doesn't fit data.env_id ({reason})") from error
        must_be = f"a network without memory, from observations of shape {obs_shape} to {self.num_features} numbers"
        fits = features.shape == (1, 1, self.num_features) and state is None
        require(fits, "agent.exploration_bonus.network", type(built).__name__, must_be)
        return built

    def novelty(self, observation: Array) -> FloatArray:
        """Return the prediction errors of ``[N, *obs]`` observations over their standard deviation, [N] float64."""
        rows = torch.from_numpy(observation)
        if self._observation_norm is not None:
            self._observation_norm.add(rows)
            self._observation_norm.norm.share()
            rows = self._observation_norm(rows)
        with torch.no_grad():
            errors = self._errors(rows)
        self._error_norm.add(errors)
        self._error_norm.share()
        self._waiting.extend(rows)
        if len(self._waiting) >= self.batch_size:
            self._learn(torch.stack(self._waiting[-self.batch_size :]))
            self._waiting.clear()
        novelty: FloatArray = self._error_norm.rescale(errors).double().numpy()
        return novelty

    def _errors(self, rows: Tensor) -> Tensor:
        """Return the mean squared error of each prediction. ``[N, *obs] -> [N]``."""
        predicted, target = (self._modules[name](rows[None])[0][0] for name in ("predictor", "target"))
        errors: Tensor = (predicted - target).square().mean(-1)
        return errors

    def _learn(self, rows: Tensor) -> None:
        """Make one update of the prediction."""
        self._optimizer.zero_grad()
        with torch.enable_grad():
            self._errors(rows).mean().backward()
        self._optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return networks, statistics, the optimizer's state and the observations to learn from."""
        state = {
            "modules": dict(self._modules.state_dict()),
            "optimizer": self._optimizer.state_dict(),
            "waiting": self._waiting,
        }
        return copy.deepcopy(state)  # the tensors will change in place

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            StateError: If it isn't that of these networks, their optimizer and such observations.
        """
        require_alike(state_dict.get("modules"), self._modules.state_dict(), "the bonus's modules")
        require_optimizer_state(state_dict.get("optimizer"), self._optimizer, "the bonus's optimizer")
        waiting = saved(state_dict.get("waiting"), list, "the bonus's waiting")
        require_saved(len(waiting) < self.batch_size, "the bonus's waiting", len(waiting), "fewer than a batch")
        for row in waiting:
            saved_tensor(row, *self._form, "an observation in the bonus's waiting")
        self._modules.load_state_dict(state_dict["modules"])
        self._optimizer.load_state_dict(state_dict["optimizer"])
        self._waiting = list(waiting)


def _has_floats(obs_shape: tuple[int, ...], obs_dtype: str) -> bool:
    if isinstance(obs_shape, PackedShape):
        return any(part.dtype == "float32" for part in obs_shape.parts.values())
    return bool(np.issubdtype(obs_dtype, np.floating))
