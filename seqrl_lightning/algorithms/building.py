"""Networks, built for a task and tried on one observation."""

import torch
from torch import nn

from seqrl_lightning.networks import Network, NetworkCallable
from seqrl_lightning.parts import PackedShape, blank_observations
from seqrl_lightning.types import ConfigurationError, one_line, require


def build_network(network: NetworkCallable, obs_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> nn.Module:
    """Build a network and try it on one observation.

    Raises:
        ConfigurationError: If it doesn't turn observations of ``obs_shape`` into outputs of ``out_shape``, or doesn't
            declare that it remembers.
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
