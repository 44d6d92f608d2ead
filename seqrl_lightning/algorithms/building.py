"""Networks, built for a task and tried on one observation."""

import torch
from torch import Tensor, nn

from seqrl_lightning.networks import Network, NetworkCallable
from seqrl_lightning.parts import PackedShape, blank_observations
from seqrl_lightning.types import ConfigurationError, one_line, require


def build_network(network: NetworkCallable, obs_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> nn.Module:
    """Build a network and try it on one observation.

    Raises:
        ConfigurationError: If it doesn't turn observations of ``obs_shape`` into outputs of ``out_shape``, doesn't
            declare that it remembers, or carries what isn't a state.
    """
    has_parts = isinstance(obs_shape, PackedShape)
    given = f"with the parts {obs_shape}" if has_parts else f"of shape {obs_shape}"
    fits = f"a network that turns observations {given} into outputs of shape {out_shape}"
    name = getattr(network, "__name__", "the network")  # of a class; a partial has none
    try:
        net = network(obs_shape, out_shape)
        reads_them = not has_parts or (isinstance(net, Network) and net.reads_parts)
        must_be = f"Composed, or data.flatten_observations true: the observations have parts ({obs_shape})"
        require(reads_them, "model.network", type(net).__name__, must_be)
        with torch.no_grad():
            outputs, state = net(blank_observations(obs_shape))
        if state is not None:
            _require_state(net, blank_observations(obs_shape), state)
    except ConfigurationError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = one_line(error)
        raise ConfigurationError(f"model.network does not fit data.env_id: it must be {fits} ({reason})") from error
    require(tuple(outputs.shape) == (1, 1, *out_shape), "model.network", name, f"{fits}, not {tuple(outputs.shape)}")
    if isinstance(net, Network):
        carries = "carries a state" if state is not None else "carries no state"
        must_be = f"{state is not None}: {type(net).__name__} {carries} from step to step"
        require(net.remembers == (state is not None), "remembers of model.network", net.remembers, must_be)
    return net


def _require_state(net: nn.Module, observation: Tensor, state: object) -> None:
    """Refuse a state that can't be stored for each environment, or that reaches into the next episode.

    Args:
        net: The network.
        observation: [1, 1, *obs].
        state: What the network carries after it.

    Raises:
        ConfigurationError: If it is such a state.
    """
    name = f"the state of {type(net).__name__}"
    must_be = "one float32 tensor [S, B, ...], here with B = 1"
    require(isinstance(state, Tensor), name, type(state).__name__, must_be)
    assert isinstance(state, Tensor)
    fits = state.dtype == torch.float32 and state.dim() > 1 and state.shape[1] == 1
    require(fits, name, f"{state.dtype} {list(state.shape)}", must_be)
    was_training = net.training
    net.eval()  # no noise
    with torch.no_grad():
        afresh, _ = net(observation)
        restarted, _ = net(observation, torch.ones_like(state), torch.ones(1, 1, dtype=torch.bool))
    net.train(was_training)
    is_reset = torch.allclose(afresh, restarted, rtol=1e-4, atol=1e-5, equal_nan=True)
    require(is_reset, name, "carried into the next episode", "reset before each row in which is_first is true")
