"""Updates by CUDA graphs: on the CPU with a recorder that runs the update again, on a GPU with real graphs."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.testing import assert_close

from seqrl_lightning import speed
from seqrl_lightning.algorithms import C51, DQN, IQN, PQN, QRDQN, SARSA, DiscreteSAC, QLambda, training
from seqrl_lightning.algorithms.trainer_settings import require_gpu_for_graphs
from seqrl_lightning.algorithms.training import TrainingModule
from seqrl_lightning.batches import Update
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.networks import GRU, LSTM, MLP, Composed, MinGRU, Transformer
from seqrl_lightning.replay import PrioritizedSampler, RolloutSampler, Sampler, SequenceSampler
from seqrl_lightning.speed.cuda_graph import GraphedStep
from seqrl_lightning.types import ConfigurationError
from tests.running import fit

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
pytestmark = pytest.mark.skipif(not speed.is_enabled(), reason="fast paths are switched off")


def rerun(run: Callable[[], Update]) -> tuple[Callable[[], None], Update]:
    """Record a function by keeping it; like a graph's, its results are always in the same memory."""
    update: Any = {}

    def replay() -> None:
        for name, value in run().items():
            update.setdefault(name, value.clone()).copy_(value)  # type: ignore[attr-defined]  # a TypedDict's values

    return replay, update


class Losses(Callback):
    """Keeps every step's loss, as a tensor."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.losses.append(outputs["loss"])


CASES: dict[str, tuple[type[TrainingModule[Any]], dict[str, Any], Sampler | None]] = {
    "dqn": (DQN, {"clip_grad_norm": 0.05}, None),
    "double": (DQN, {"double": True, "clip_grad_value": 0.1}, PrioritizedSampler(n_step=3)),
    "munchausen": (DQN, {"munchausen_alpha": 0.9}, None),
    "c51": (C51, {"v_min": -5.0, "v_max": 5.0}, PrioritizedSampler()),
    "qr_dqn": (QRDQN, {}, None),
    "iqn": (IQN, {}, None),
    "sarsa": (SARSA, {}, None),
    "discrete_sac": (DiscreteSAC, {}, None),
    "gru": (DQN, {"network": GRU, "double": True}, SequenceSampler(length=6, burn_in=2, prioritized=True, n_step=2)),
    "lstm": (DQN, {"network": LSTM, "value_rescaling": 1e-3}, SequenceSampler(length=6)),
    "pictures": (
        DQN,
        {"network": functools.partial(Composed, network=functools.partial(LSTM, hidden_size=8))},
        SequenceSampler(length=6, burn_in=2),
    ),
    "min_gru": (DQN, {"network": MinGRU}, SequenceSampler(length=6)),
    "transformer": (DQN, {"network": Transformer}, SequenceSampler(length=6)),
    "q_lambda": (QLambda, {"network": GRU, "lambda_": 0.8}, SequenceSampler(length=6)),
    "pqn": (PQN, {"epochs": 2}, RolloutSampler(8)),
    "pqn_gru": (PQN, {"network": GRU, "epochs": 2}, RolloutSampler(8)),
}


def run(
    tmp_path: Path, case: str, compile: Any, max_steps: int = 20, callbacks: tuple[Callback, ...] = (), **kwargs: Any
) -> tuple[Any, TrainingModule[Any], Tensor]:
    """Train on a task with short episodes, and return all weights."""
    torch.manual_seed(3)
    learner, model, sampler = CASES[case]
    model = {
        "lr_scheduler": lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=15),
        "compile": compile,
        **model,
    }
    agent: dict[str, Any] = {"epsilon": ConstantEpsilon(1.0)}
    env_id = "seqrl/PictureRecall-v0" if case == "pictures" else "seqrl/NBack-v0"
    data = {"env_id": env_id, "batch_size": 8, "num_envs": 2, "capacity": 400, "sampler": sampler}
    if learner is not PQN:
        model, agent = {"updates_per_step": 2, **model}, {"warmup_env_steps": 60, "updates_per_collect": 2, **agent}
    sync = {} if learner is PQN else {"sync_every_updates": 3, "tau": 0.5}
    trainer, module, _ = fit(
        tmp_path, data, model, agent, sync, module_class=learner, max_steps=max_steps, callbacks=[*callbacks], **kwargs
    )
    assert isinstance(module, TrainingModule)
    weights = [p.detach().cpu().flatten() for p in module.parameters()]
    return trainer, module, torch.cat(weights)


@pytest.mark.slow_after(5)
@pytest.mark.parametrize("case", CASES)
def test_recorded_updates_are_the_same_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """With a scheduler, syncs of the target, priorities, and minibatches of many sizes."""
    expected_losses, losses = Losses(), Losses()
    plain_trainer, _, expected = run(tmp_path, case, False, callbacks=(expected_losses,))
    made: list[GraphedStep[Any]] = []

    def graphed(module: Any, optimize_model: Any, mode: object) -> GraphedStep[Any]:
        made.append(GraphedStep(module, optimize_model, compile=False, record=rerun))
        return made[-1]

    monkeypatch.setattr(training, "require_gpu_for_graphs", lambda *args: None)
    monkeypatch.setattr(speed, "plain_step", graphed)
    trainer, _, weights = run(tmp_path, case, "cuda_graphs", callbacks=(losses,))
    assert trainer.global_step == plain_trainer.global_step
    assert made[0].recorded
    assert_close(weights, expected, rtol=1e-4, atol=1e-6)
    assert_close(torch.stack(losses.losses), torch.stack(expected_losses.losses), rtol=1e-4, atol=1e-6)
    learning_rates = (t.optimizers[0].param_groups[0]["lr"] for t in (trainer, plain_trainer))
    assert next(learning_rates) == next(learning_rates)


def test_they_are_refused_without_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"model.compile is 'cuda_graphs'; it must be true or false: .* cpu, not a GPU"
    ):
        run(tmp_path, "dqn", "cuda_graphs", accelerator="cpu")


def by_recorder(monkeypatch: pytest.MonkeyPatch, **case: Any) -> None:
    """Let updates be recorded on the CPU; ``case``: settings of the learner in ``CASES["case"]``."""
    monkeypatch.setattr(training, "require_gpu_for_graphs", lambda *args: None)
    monkeypatch.setattr(speed, "plain_step", lambda *args: GraphedStep(*args[:2], False, record=rerun))
    monkeypatch.setitem(CASES, "case", (DQN, case, None))


class Spare(MLP):
    """An MLP with a layer that it never calls."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.spare = torch.nn.Linear(3, 3)


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ({"optimizer": lambda p, lr: torch.optim.RMSprop(p, lr)}, "model.optimizer is 'RMSprop'; it must be a fused"),
        ({"network": Spare}, "model.network is 'one with weights without a gradient, of shape"),
        (
            {"lr_scheduler": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 1e-3, total_steps=50)},
            "model.lr_scheduler is 'OneCycleLR'; it must be one that changes the learning rate only",
        ),
    ],
)
def test_what_a_graph_cannot_follow_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: dict[str, Any], line: str
) -> None:
    by_recorder(monkeypatch, **case)
    with pytest.raises(ConfigurationError, match=re.escape(line)):
        run(tmp_path, "case", "cuda_graphs")


def test_they_need_updates_by_hand() -> None:
    """Otherwise a run that is resumed without them would count its updates from 0."""

    class Gpu:
        class strategy:
            root_device = torch.device("cuda", 0)

    gpu: Any = Gpu()
    require_gpu_for_graphs(gpu, DQN((3,), 2, updates_per_step=2), "cuda_graphs")
    with pytest.raises(ConfigurationError, match=r"model.updates_per_step is 1; it must be at least 2"):
        require_gpu_for_graphs(gpu, DQN((3,), 2), "cuda_graphs")


# On a GPU

ON_GPU: dict[str, Any] = {"accelerator": "gpu", "devices": 1}


@needs_gpu
@pytest.mark.parametrize("compile", ["cuda_graphs", "compiled_cuda_graphs"])
@pytest.mark.parametrize("case", CASES)
def test_graphs_learn_what_single_kernels_do(tmp_path: Path, case: str, compile: str) -> None:
    """IQN draws its fractions from the device's random stream; so do noisy layers."""
    if compile == "compiled_cuda_graphs" and case not in ("dqn", "double", "c51", "pqn"):
        pytest.skip("compiling takes long")
    flags = {**ON_GPU, "deterministic": case == "pictures"}  # convolutions sum in any order, which Adam enlarges
    _, _, expected = run(tmp_path, case, False, **flags)
    _, _, weights = run(tmp_path, case, compile, callbacks=(losses := Losses(),), **flags)
    assert losses.losses[-1].device.type == "cuda"
    assert_close(weights, expected, rtol=2e-3, atol=2e-4)
    assert torch.stack(losses.losses).isfinite().all()


@needs_gpu
@pytest.mark.parametrize("compile", [False, True, "cuda_graphs"])
@pytest.mark.parametrize("case", ["dqn", "double", "c51", "iqn", "discrete_sac", "gru", "lstm", "transformer"])
def test_no_update_waits_for_the_device(tmp_path: Path, case: str, compile: Any) -> None:
    class Strict(Callback):
        """Forbids synchronization in training steps, after those in which libraries prepare themselves."""

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            step = pl_module.training_step

            def strict_step(*args: Any) -> Any:
                torch.cuda.set_sync_debug_mode("error" if trainer.global_step >= 10 else "default")
                update = step(*args)
                torch.cuda.set_sync_debug_mode("default")
                return update

            pl_module.training_step = strict_step

    strict = Strict()
    try:
        trainer, *_ = run(tmp_path, case, compile, callbacks=(strict,), **ON_GPU)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.global_step == 20


@needs_gpu
@pytest.mark.parametrize("compile", [False, "cuda_graphs"])
def test_a_gradient_that_is_not_finite_is_skipped_on_the_device(tmp_path: Path, compile: Any) -> None:
    class Broken(DQN):
        """Its loss is NaN in one update of the last ten."""

        def optimize_model(self, batch: Any) -> Update:
            update = super().optimize_model(batch)
            update["loss"] = update["loss"] / batch.reward_batch.isfinite().all()
            return update

    class Break(Callback):
        """Plants a reward that isn't a number in a late batch."""

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == 14:
                batch.reward_batch.fill_(torch.nan)
                self.weights = [p.clone() for p in pl_module.policy_net.parameters()]

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            if trainer.global_step == 16:
                self.after = [p.clone() for p in pl_module.policy_net.parameters()]

    case = CASES["dqn"]
    CASES["broken"] = (Broken, *case[1:])
    _, module, weights = run(tmp_path, "broken", compile, callbacks=(spy := Break(),), **ON_GPU)
    del CASES["broken"]
    assert weights.isfinite().all()
    assert int(module.finite_updates.num_refused) == 2
    assert_close(spy.after, spy.weights, rtol=0.0, atol=0.0)


@needs_gpu
@pytest.mark.parametrize("compile", [False, "cuda_graphs"])
@pytest.mark.parametrize("case", ["dqn", "iqn", "pqn", "gru"])
def test_a_run_on_a_gpu_repeats_bit_for_bit(tmp_path: Path, case: str, compile: Any) -> None:
    _, _, once = run(tmp_path, case, compile, deterministic=True, **ON_GPU)
    _, _, again = run(tmp_path, case, compile, deterministic=True, **ON_GPU)
    assert_close(again, once, rtol=0.0, atol=0.0)


@needs_gpu
@pytest.mark.parametrize("compile", [False, "cuda_graphs"])
@pytest.mark.parametrize("case", ["dqn", "iqn", "double", "pqn"])
def test_a_run_on_a_gpu_resumes_bit_for_bit(tmp_path: Path, case: str, compile: Any) -> None:
    flags = {"deterministic": True, **ON_GPU}
    _, _, whole = run(tmp_path / "whole", case, compile, 32, **flags)
    keep = ModelCheckpoint(tmp_path / "part", save_last=True, every_n_train_steps=16)
    run(tmp_path / "part", case, compile, 16, (keep,), **flags)
    _, _, resumed = run(tmp_path / "part", case, compile, 32, ckpt_path=f"{tmp_path}/part/last.ckpt", **flags)
    assert_close(resumed, whole, rtol=0.0, atol=0.0)


@needs_gpu
def test_bfloat16_follows_the_weights(tmp_path: Path) -> None:
    """Autocast's copies of the weights are remade for each update."""
    _, _, expected = run(tmp_path, "dqn", False, **ON_GPU)
    _, _, weights = run(tmp_path, "dqn", "cuda_graphs", precision="bf16-mixed", **ON_GPU)
    assert_close(weights, expected, rtol=0.05, atol=0.02)
