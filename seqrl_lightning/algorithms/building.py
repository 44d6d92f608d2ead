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
            _require_state(net, blank_observations(obs_shape, length=2), state)
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


def _require_state(net: nn.Module, rows: Tensor, state: object) -> None:
    """Refuse a state that can't be stored for each environment, or by which windows are read otherwise than steps.

    Args:
        net: The network.
        rows: [2, 1, *obs].
        state: What the network carries after one row.

    Raises:
        ConfigurationError: If it is such a state.
    """
    name, must_be = f"the state of {type(net).__name__}", "one float32 tensor [S, B, ...], here with B = 1"
    require(isinstance(state, Tensor), name, type(state).__name__, must_be)
    assert isinstance(state, Tensor)
    fits = state.dtype == torch.float32 and state.dim() > 1 and state.shape[1] == 1
    require(fits, name, f"{state.dtype} {list(state.shape)}", must_be)
    if state.is_meta:  # built to look at shapes alone
        return
    modes = [(module, module.training) for module in net.modules()]  # a part may be frozen in evaluation mode
    net.train(False)  # no noise
    with torch.no_grad():
        first, after_it = net(rows[:1])
        second, _ = net(rows[1:], after_it)
        at_once, _ = net(rows)
        restarted, _ = net(rows[:1], torch.ones_like(state), torch.ones(1, 1, dtype=torch.bool))
    for module, is_training in modes:
        module.training = is_training
    must_be = "reset before each row in which is_first is true"
    require(_are_close(restarted, first), name, "carried into the next episode", must_be)
    must_be = "one that reads two rows at once as it reads one after the other"
    require(_are_close(at_once, torch.cat([first, second])), "model.network", type(net).__name__, must_be)


def _are_close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
