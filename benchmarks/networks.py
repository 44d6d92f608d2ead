"""Time each network's update and acting: ``python -m benchmarks.networks``.

One thread; CPU time of this process, so that what else runs disturbs less; the networks of a table take turns. An
update is a pass forward and backward over T steps of 32 columns, without an episode start after the first row unless
the table says otherwise.
"""

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from seqrl_lightning.networks import (
    FFM,
    GRU,
    LRU,
    LSTM,
    MLP,
    RNN,
    DeltaNet,
    FrameStack,
    MinGRU,
    Network,
    Transformer,
)
from seqrl_lightning.networks.parallel import ParallelNetwork
from seqrl_lightning.networks.recurrent import RecurrentNetwork

BATCH_SIZE, OBS_SIZE, N_ACTIONS, ROUNDS = 32, 8, 4, 7
SHAPES = (OBS_SIZE,), (N_ACTIONS,)
CORES = (RNN, GRU, LSTM, MinGRU, LRU, FFM, DeltaNet, Transformer)


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    whole_networks()
    episode_starts()
    single_layers()


def whole_networks() -> None:
    """Print what every network takes, with its defaults, for an update of T = 60 and to act after 200 steps."""
    observation, past = torch.randn(60, BATCH_SIZE, OBS_SIZE), torch.randn(200, 16, OBS_SIZE)
    starts = torch.rand(60, BATCH_SIZE) < 1 / 60
    nets: dict[str, Network] = {core.__name__: core(*SHAPES) for core in CORES}
    nets |= {"MLP": MLP(*SHAPES, (64, 64)), "FrameStack": FrameStack(*SHAPES, 4, (64, 64))}
    print("| hidden 64, milliseconds | update | update, starts in 1/60 of the rows | act | act in 16 environments |")
    print("| --- | --- | --- | --- | --- |")
    for name, net in nets.items():
        times = milliseconds(
            {
                "whole": functools.partial(update, net, observation, None),
                "starts": functools.partial(update, net, observation, starts),
                "act": functools.partial(act, net, past[:1, :1], state_after(net, past[:, :1])),
                "act in 16": functools.partial(act, net, past[:1], state_after(net, past)),
            }
        )
        print(f"| {name} | {' | '.join(f'{ms:.2f}' for ms in times.values())} |", flush=True)


def episode_starts() -> None:
    """Print what episode starts cost: read in one call, and by cutting the batch wherever an episode starts."""
    length = 128
    observation = torch.randn(length, BATCH_SIZE, OBS_SIZE)
    print("\n| T = 128, hidden 64, milliseconds | no starts | 2 % of rows | 10 % | 10 %, cut at every start |")
    print("| --- | --- | --- | --- | --- |")
    for core in (GRU, LSTM):
        net = core(*SHAPES)
        few, many = (torch.rand(length, BATCH_SIZE) < probability for probability in (0.02, 0.1))
        times = milliseconds(
            {
                "none": functools.partial(update, net, observation, None),
                "few": functools.partial(update, net, observation, few),
                "many": functools.partial(update, net, observation, many),
                "cut": functools.partial(update, Cut(net), observation, many),
            }
        )
        print(f"| {core.__name__} | {' | '.join(f'{ms:.1f}' for ms in times.values())} |", flush=True)


def single_layers() -> None:
    """Print what one layer on 64 inputs takes beside an LSTM: its memory alone, and with its feed-forward layer."""
    print("\n| one layer, 64 inputs, hidden 64, milliseconds (times the LSTM's) | T = 128 | T = 1024 |")
    print("| --- | --- | --- |")
    rows: dict[str, list[str]] = {}
    for length in (128, 1024):
        features = torch.randn(length, BATCH_SIZE, 64)
        layers: dict[str, nn.Module] = {"LSTM": LSTM((64,), (N_ACTIONS,))}
        for core in (MinGRU, LRU, FFM, DeltaNet):
            net = core(*SHAPES, num_layers=1)
            layers |= {f"{core.__name__}, memory": Layer(net, False), f"{core.__name__}, whole": Layer(net, True)}
        times = milliseconds({name: functools.partial(update_layer, layer, features) for name, layer in layers.items()})
        for name, ms in times.items():
            rows.setdefault(name, []).append(f"{ms:.1f} ({ms / times['LSTM']:.2f})")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |")


class Cut(nn.Module):
    """A recurrent network whose batch is cut into a call for each row in which any episode starts."""

    def __init__(self, net: RecurrentNetwork) -> None:
        super().__init__()
        self.net = net

    def forward(self, observation: Tensor, state: Tensor | None, is_first: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute what the network does."""
        rows = [0, *(is_first[1:].any(1).nonzero().flatten() + 1).tolist(), len(observation)]
        outputs = []
        for first, end in itertools.pairwise(rows):
            segment, state = self.net(observation[first:end], state, is_first[first:end])
            outputs.append(segment)
        return torch.cat(outputs), state


class Layer(nn.Module):
    """The only layer of a network, with or without its feed-forward layer."""

    def __init__(self, net: ParallelNetwork, is_whole: bool) -> None:
        super().__init__()
        (self.layer,) = net.layers
        self.is_whole = is_whole

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the layer's outputs from its inputs."""
        memory = features.new_zeros(1, features.shape[1], self.layer.memory_size)
        if self.is_whole:
            outputs, memory = self.layer(features, memory, None)
            return outputs, memory
        mixed, memory = self.layer.mix(self.layer.norm(features), memory, None)
        return features + mixed, memory


def update(net: nn.Module, observation: Tensor, is_first: Tensor | None) -> None:
    """Forward and backward."""
    net.zero_grad()
    net(observation, None, is_first)[0].sum().backward()


def update_layer(layer: nn.Module, features: Tensor) -> None:
    """Forward and backward through a layer."""
    layer.zero_grad()
    layer(features.requires_grad_())[0].sum().backward()


def state_after(net: Network, observation: Tensor) -> Tensor | None:
    """Return the state after [T, B, *obs] were read."""
    state = net(observation)[1]
    return None if state is None else state.detach()


@torch.inference_mode()
def act(net: Network, observation: Tensor, state: Tensor | None) -> None:
    """One step."""
    net(observation, state)


def milliseconds(calls: Mapping[str, Callable[[], None]]) -> dict[str, float]:
    """Return the median over rounds, in which the calls take turns, of the time of each."""
    for call in calls.values():
        call()
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.process_time()
            for _ in range(4):
                call()
            rounds[name].append((time.process_time() - start) / 4 * 1e3)
    return {name: statistics.median(times) for name, times in rounds.items()}


if __name__ == "__main__":
    main()
