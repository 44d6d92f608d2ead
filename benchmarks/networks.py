"""Time each network's update and acting: ``python -m benchmarks.networks``.

Forward and backward over 60 steps of 32 columns, with no episode start after the first row and with random ones (one in
60 rows and columns); and one step of one environment. One thread; CPU time of this process, so that what else runs
disturbs less.
"""

import statistics
import time
from collections.abc import Callable

import torch

from seqrl_lightning.networks import GRU, LSTM, MLP, FrameStack, MinGRU, Network, Transformer

LENGTH, BATCH_SIZE, OBS_SIZE, ROUNDS = 60, 32, 8, 5


def main() -> None:
    """Measures and prints."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    observation = torch.randn(LENGTH, BATCH_SIZE, OBS_SIZE)
    starts = torch.rand(LENGTH, BATCH_SIZE) < 1 / 60
    print("| microseconds of CPU time | hidden | update | update, random starts | act |")
    print("| --- | --- | --- | --- | --- |")
    for size in (64, 128):
        for name, net in networks(size).items():
            state = net(observation)[1]
            state = None if state is None else state[:, :1].detach()
            whole = microseconds(lambda net=net: update(net, observation, None))  # type: ignore[misc]
            cut = microseconds(lambda net=net: update(net, observation, starts))  # type: ignore[misc]
            step = microseconds(lambda net=net, state=state: act(net, observation[:1, :1], state))  # type: ignore[misc]
            print(f"| {name} | {size} | {whole:,.0f} | {cut:,.0f} | {step:,.0f} |", flush=True)


def networks(size: int) -> dict[str, Network]:
    """The networks, with hidden layers of one size and what else is their default."""
    shapes = (OBS_SIZE,), (4,)
    cores = {core.__name__: core(*shapes, size) for core in (GRU, LSTM, MinGRU, Transformer)}
    feed_forward = {"MLP": MLP(*shapes, (size, size)), "FrameStack": FrameStack(*shapes, 4, (size, size))}
    return {**feed_forward, **cores}


def update(net: Network, observation: torch.Tensor, is_first: torch.Tensor | None) -> None:
    """Forward and backward."""
    net.zero_grad()
    net(observation, None, is_first)[0].sum().backward()


@torch.inference_mode()
def act(net: Network, observation: torch.Tensor, state: torch.Tensor | None) -> None:
    """One step."""
    net(observation, state)


def microseconds(call: Callable[[], None]) -> float:
    """The median over rounds of 10 calls."""
    call()
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(10):
            call()
        rounds.append((time.process_time() - start) / 10 * 1e6)
    return statistics.median(rounds)


if __name__ == "__main__":
    main()
