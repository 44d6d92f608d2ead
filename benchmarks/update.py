"""One update of the seed's network, in variants that take turns: ``python -m benchmarks.update``.

MLP 128-128, batch 128, gradients clipped by value, fused Adam. Prints microseconds of CPU time for an update: as it is,
with ``model.compile``, and with variants of a part that the library does not use.
"""

import statistics
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from seqrl_lightning.algorithms import DQN
from seqrl_lightning.batches import Transitions
from seqrl_lightning.speed.compiled import compiled_differentiate
from seqrl_lightning.speed.fused_adam import FusedAdamStep

ROUNDS, UPDATES = 40, 50  # updates of each variant in a round
BATCH, OBS, ACTIONS = 128, 10, 10


class Update:
    """An update as the library does it, part by part."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.dqn = DQN((OBS,), ACTIONS, learning_rate=1e-4, clip_grad_value=1.0)
        self.parameters = list(self.dqn.policy_net.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, 1e-4, fused=True)
        self.adam = FusedAdamStep(self.optimizer)
        self.one = torch.ones(())
        self.batch = Transitions(
            torch.randn(1, BATCH, OBS),
            torch.randint(ACTIONS, (1, BATCH)),
            torch.randn(1, BATCH, 1),
            torch.randn(1, BATCH, OBS),
            torch.rand(1, BATCH) < 0.1,
        )

    def __call__(self) -> None:
        """One update."""
        self.differentiate()
        self.clip()
        self.step()

    def differentiate(self) -> None:
        """Fills the parameters' gradients."""
        for parameter in self.parameters:
            parameter.grad = None
        self.dqn.optimize_model(self.batch)["loss"].backward(self.one)  # type: ignore[no-untyped-call]

    def clip(self) -> None:
        """Clips them."""
        self.dqn.configure_gradient_clipping(self.optimizer)

    def step(self) -> None:
        """Moves the parameters."""
        self.adam()


class OptimizersStep(Update):
    """torch's own ``step()``."""

    def step(self) -> None:
        """Steps."""
        self.optimizer.step()


class NormsForFiniteness(Update):
    """Finds gradients that aren't finite by their largest element."""

    def __init__(self) -> None:
        super().__init__()
        self.dqn.finite_updates = self.look  # type: ignore[assignment]

    @staticmethod
    def look(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
        """Waits for the answer."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        assert torch.stack(torch._foreach_norm(gradients, float("inf"))).max().isfinite()


class FlatOptimizer(Update):
    """Clips and steps on one flat tensor, into which the gradients are copied; the weights would be views of it."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Parameter(torch.cat([p.detach().view(-1) for p in self.parameters]))
        self.flat.grad = torch.zeros_like(self.flat)
        self.adam = FusedAdamStep(torch.optim.Adam([self.flat], 1e-4, fused=True))

    def clip(self) -> None:
        """Clips."""
        assert self.flat.grad is not None
        torch.cat([p.grad.view(-1) for p in self.parameters if p.grad is not None], out=self.flat.grad)
        self.flat.grad.clamp_(-1.0, 1.0)


class Compiled(Update):
    """The loss and its gradient as ``model.compile`` makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.compiled = compiled_differentiate(self.dqn.optimize_model, self.parameters)

    def differentiate(self) -> None:
        """Calls compiled code."""
        self.compiled(self.batch)


class HandWrittenGradient(Update):
    """The same loss and gradients without autograd, for this network and this loss alone."""

    @torch.no_grad()
    def differentiate(self) -> None:
        """The chain rule, layer by layer."""
        states, actions, rewards, next_states, terminated = (
            column[0] for column in self.batch[:5] if column is not None
        )
        actions, rewards = actions.unsqueeze(1), rewards.squeeze(1)
        parameters = self.in_order(self.parameters)
        q_values, layers = self.forward(parameters, states)
        next_q_values, _ = self.forward(self.in_order(self.dqn.target_net.parameters()), next_states)
        targets = rewards.add(next_q_values.amax(1).masked_fill_(terminated, 0.0), alpha=self.dqn.gamma)
        errors = (q_values.gather(1, actions).squeeze(1) - targets).clamp_(-1.0, 1.0).div_(BATCH)
        gradient = torch.zeros_like(q_values).scatter_(1, actions, errors.unsqueeze(1))
        for i in range(len(layers) - 1, -1, -1):
            weight, bias = parameters[2 * i], parameters[2 * i + 1]
            weight.grad, bias.grad = gradient.t().mm(layers[i]), gradient.sum(0)
            if i:
                gradient = gradient.mm(weight).mul_(layers[i] > 0)

    @staticmethod
    def in_order(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        """From the first layer to the last: a network's own order begins with its head."""
        head_weight, head_bias, *hidden = parameters
        return [*hidden, head_weight, head_bias]

    @staticmethod
    def forward(parameters: list[nn.Parameter], features: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns the values and the inputs of each layer."""
        layers = []
        for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            layers.append(features)
            features = torch.addmm(bias, features, weight.t()).relu_()
        return torch.addmm(parameters[-1], features, parameters[-2].t()), [*layers, features]


VARIANTS: dict[str, Callable[[], Update]] = {
    "as it is": Update,
    "compiled": Compiled,
    "optimizer.step()": OptimizersStep,
    "_foreach_norm": NormsForFiniteness,
    "flat parameters": FlatOptimizer,
    "hand-written gradient": HandWrittenGradient,
}


def main() -> None:
    """Measures and prints."""
    torch.set_num_threads(1)
    updates = {name: variant() for name, variant in VARIANTS.items()}
    for name in ("compiled", "hand-written gradient"):
        check(updates["as it is"], updates[name])
    times: dict[str, list[float]] = {name: [] for name in updates}
    for _ in range(ROUNDS):
        for name, update in updates.items():
            start = time.process_time()
            for _ in range(UPDATES):
                update()
            times[name].append((time.process_time() - start) / UPDATES * 1e6)
    print("| one update | microseconds | of the time as it is |\n| --- | --- | --- |")
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(values, times["as it is"], strict=True))
        print(f"| {name} | {statistics.median(values):,.0f} | {ratio:.2f} |")


def check(update: Update, other: Update) -> None:
    """Check that both compute the same gradients."""
    update.differentiate()
    other.differentiate()
    for a, b in zip(update.parameters, other.parameters, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


if __name__ == "__main__":
    main()
