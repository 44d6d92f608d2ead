"""Check and time updates on one GPU: ``python -m benchmarks.gpu``; with ``--pong MINUTES`` also train Pong.

1. Every learner makes 200 updates, on the CPU and on the GPU.
2. Updates per second: ours as single kernels, compiled, as CUDA graphs, and both, beside two bare loops in the same
   process, eager and as a CUDA graph. A bare loop has the network, the loss, Adam and the target network's step, and
   nothing around them: for DQN in plain torch, else with this package's loss.
3. Env steps per second of PQN with ALE's vector environment, in all.
4. With ``--pong``: minutes and env steps until PQN's greedy return in Pong is 18.

It prints each row as soon as it is there, and keeps all of them in ``--json``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import Tensor, nn

from seqrl_lightning.algorithms import C51, DQN, IQN, PQN, QRDQN, SARSA, DiscreteSAC
from seqrl_lightning.algorithms.training import TrainingModule
from seqrl_lightning.batches import Windows
from seqrl_lightning.callbacks import AgentCallback, PriorityWriter, TargetSync
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.networks import LSTM, MLP, Composed, NatureCNN
from seqrl_lightning.replay import RolloutSampler, Sampler, SequenceSampler, UniformSampler

MODES: dict[str, bool | str] = {
    "eager": False,
    "compiled": True,
    "cuda_graphs": "cuda_graphs",
    "compiled_cuda_graphs": "compiled_cuda_graphs",
}
UPDATES_PER_STEP = 8
SECONDS = 1.0  # of each measurement


class Pictures(gym.Env[np.ndarray, int]):
    """Four stacked frames of noise, 84 x 84."""

    observation_space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    action_space = gym.spaces.Discrete(6)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Begin an episode of 1,000 steps."""
        super().reset(seed=seed)
        self.steps = 0
        return self.draw(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Reward the first action."""
        self.steps += 1
        return self.draw(), float(action == 0), False, self.steps == 1000, {}

    def draw(self) -> np.ndarray:
        """Draw an observation."""
        return self.np_random.integers(0, 256, self.observation_space.shape, np.uint8)


class Frames(Pictures):
    """One frame."""

    observation_space = gym.spaces.Box(0, 255, (84, 84), np.uint8)


class Features(Pictures):
    """256 numbers."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (256,), np.float32)

    def draw(self) -> np.ndarray:
        """Draw an observation."""
        return self.np_random.standard_normal(256, np.float32)


class Case:
    """A learner and the batches that it learns from.

    Args:
        learner: Its class.
        env: The task.
        batch_size: Transitions or windows of an update.
        sampler: Draws them.
        model: The learner's settings.
        num_envs: Environments.
    """

    def __init__(
        self,
        learner: type[TrainingModule[Any]],
        env: Any,
        batch_size: int,
        model: dict[str, Any],
        sampler: Sampler | None = None,
        num_envs: int = 1,
    ) -> None:
        self.learner, self.env, self.batch_size, self.num_envs = learner, env, batch_size, num_envs
        self.model, self.sampler = model, sampler or UniformSampler()

    def fit(self, callback: Callback, accelerator: str, compile: bool | str = False, **limits: Any) -> None:
        """Train with few env steps, which cost nothing here."""
        seed_everything(1)
        data = ReplayDataModule(
            self.env,
            num_envs=self.num_envs,
            batch_size=self.batch_size,
            sampler=self.sampler,
            capacity=20_000,
            buffer_device="auto",
            batches_per_epoch=100_000,
            eval_episodes=1,
        )
        is_pqn = self.learner is PQN
        agent: dict[str, Any] = {"epsilon": ConstantEpsilon(1.0), "max_env_steps": 100_000_000}
        model = {**self.model, "compile": compile}
        if not is_pqn:
            agent |= {"warmup_env_steps": 2_000, "env_steps_per_update": 0.01, "updates_per_collect": 800}
            model |= {"updates_per_step": UPDATES_PER_STEP}
        module = self.learner(data.obs_shape, data.n_actions, **model)
        trainer = Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=-1,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            callbacks=[PriorityWriter(), AgentCallback(**agent), TargetSync(), callback],
            **limits,
        )
        trainer.fit(module, data)


class Losses(Callback):
    """Keep each training step's loss."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        """Keep it without waiting for it."""
        self.losses.append(outputs["loss"])


class Meter(Callback):
    """Time updates from one batch, then the Trainer's whole loop, and end the run.

    Attributes:
        updates_per_s: Of ``training_step``, from a batch on the device.
        in_trainer: Of the whole loop: batches drawn, moved and learned from.
        bare: Of bare loops with the same loss, by name.
    """

    def __init__(self, bare: Callable[[Any, Any], dict[str, float]] | None) -> None:
        self.measure_bare = bare
        self.bare: dict[str, float] = {}
        self.updates_per_s = self.in_trainer = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Time updates."""
        if batch_idx == 1:
            num_updates = pl_module.updates_per_step
            self.updates_per_s = num_updates * rate(lambda: pl_module.training_step(batch, 0))
            if self.measure_bare is not None:
                (part, *_) = pl_module.minibatches(batch)
                if isinstance(part, Windows):  # no starts, which a bare loop couldn't reset its memory at
                    part = part._replace(is_first=torch.zeros_like(part.is_first))
                self.bare = self.measure_bare(pl_module, part)
        if batch_idx == 20:
            torch.cuda.synchronize()
            self.start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Time the loop."""
        if batch_idx >= 20 and (batch_idx - 20) % 10 == 9 and time.perf_counter() - self.start > SECONDS:
            torch.cuda.synchronize()
            seconds = time.perf_counter() - self.start
            self.in_trainer = (batch_idx - 19) * pl_module.updates_per_step / seconds
            trainer.should_stop = True


def rate(call: Callable[[], object]) -> float:
    """Return the calls per second, after some to warm up."""
    for _ in range(8):
        call()
    torch.cuda.synchronize()
    start, num_calls = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        for _ in range(5):
            call()
        torch.cuda.synchronize()
        num_calls += 5
    return num_calls / (time.perf_counter() - start)


def same_loss(module: Any, batch: Any) -> dict[str, float]:
    """Time bare loops with the module's own loss."""
    return bare_loops(batch, lambda: module.optimize_model(batch)["loss"], module.policy_net, module.target_net)


def plain_dqn(module: Any, batch: Any) -> dict[str, float]:
    """Time bare loops of DQN in plain torch, with layers of the same sizes."""
    is_picture = batch.state_batch.dim() == 5
    nets = [plain_net(is_picture, batch.state_batch.shape[-1]).to(module.device) for _ in range(2)]
    policy_net, target_net = nets
    states, next_states = batch.state_batch[0].contiguous(), batch.next_state_batch[0].contiguous()
    actions, rewards = batch.action_batch[0][:, None].contiguous(), batch.reward_batch[0, :, 0].contiguous()
    going_on = (~batch.terminated_batch[0]).float()

    def read(net: nn.Module, observation: Tensor) -> Tensor:
        outputs: Tensor = net(observation.float() / 255.0 if is_picture else observation)
        return outputs

    def loss() -> Tensor:
        values = read(policy_net, states).gather(1, actions).squeeze(1)
        with torch.no_grad():
            targets = rewards + module.gamma * going_on * read(target_net, next_states).amax(1)
        return nn.functional.huber_loss(values, targets)

    return bare_loops(batch, loss, policy_net, target_net)


def plain_net(is_picture: bool, size: int) -> nn.Module:
    """Return Nature's network, or an MLP 128-128."""
    if not is_picture:
        return nn.Sequential(nn.Linear(size, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))
    convolutions = nn.Conv2d(4, 32, 8, 4), nn.Conv2d(32, 64, 4, 2), nn.Conv2d(64, 64, 3)
    layers = [layer for convolution in convolutions for layer in (convolution, nn.ReLU())]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 6))


def bare_loops(
    batch: Any, loss: Callable[[], Tensor], policy_net: nn.Module, target_net: nn.Module
) -> dict[str, float]:
    """Time updates with a loss, as they are and as a CUDA graph; each copies a batch to the loss's memory."""
    parameters = list(policy_net.parameters())
    optimizer = torch.optim.Adam(parameters, 1e-4, fused=True, capturable=True)
    targets = list(target_net.parameters()) if target_net is not policy_net else None
    columns = [column for column in batch if column is not None and column.device.type == "cuda"]
    incoming = [column.clone() for column in columns]

    def update() -> None:
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
        if targets is not None:
            with torch.no_grad():
                torch._foreach_lerp_(targets, parameters, 0.005)

    def eager() -> None:
        torch._foreach_copy_(columns, incoming)
        update()

    rates = {"bare eager": rate(eager)}
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            update()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        update()

    def graphed() -> None:
        torch._foreach_copy_(columns, incoming)
        graph.replay()

    return {**rates, "bare graphed": rate(graphed)}


def pictures(learner: type[TrainingModule[Any]], **model: Any) -> Case:
    """Return a learner of pictures, batch 32."""
    return Case(learner, Pictures, 32, {"network": NatureCNN, **model})


TIMED: dict[str, tuple[Case, Callable[[Any, Any], dict[str, float]]]] = {
    "DQN, MLP 128-128, batch 128": (Case(DQN, "CartPole-v1", 128, {"network": MLP}), plain_dqn),
    "DQN, Nature CNN, batch 32": (pictures(DQN), plain_dqn),
    "C51, Nature CNN, batch 32": (pictures(C51, v_min=-10.0, v_max=10.0), same_loss),
    "DQN, LSTM 512, 64 windows of 80": (
        Case(DQN, Features, 64, {"network": partial(LSTM, hidden_size=512), "double": True}, SequenceSampler(80)),
        same_loss,
    ),
    "R2D2, Nature CNN and LSTM 512, 64 windows of 80": (
        Case(
            DQN,
            Frames,
            64,
            {"network": partial(Composed, network=partial(LSTM, hidden_size=512)), "double": True},
            SequenceSampler(80),
        ),
        same_loss,
    ),
    "PQN, Nature CNN, batch 128": (
        Case(PQN, Pictures, 128, {"network": NatureCNN, "epochs": 2}, RolloutSampler(32), 32),
        same_loss,
    ),
}
CHECKED: dict[str, Case] = {
    "DQN": Case(DQN, "CartPole-v1", 32, {}),
    "double DQN": Case(DQN, "CartPole-v1", 32, {"double": True}),
    "Munchausen": Case(DQN, "CartPole-v1", 32, {"munchausen_alpha": 0.9}),
    "C51": Case(C51, "CartPole-v1", 32, {"v_min": 0.0, "v_max": 100.0}),
    "QR-DQN": Case(QRDQN, "CartPole-v1", 32, {}),
    "IQN": Case(IQN, "CartPole-v1", 32, {}),
    "SARSA": Case(SARSA, "CartPole-v1", 32, {}),
    "discrete SAC": Case(DiscreteSAC, "CartPole-v1", 32, {}),
    "PQN": Case(PQN, "CartPole-v1", 32, {"epochs": 2}, RolloutSampler(32), 4),
    "DQN, LSTM": Case(DQN, "CartPole-v1", 8, {"network": LSTM}, SequenceSampler(length=16)),
}


class Table:
    """Rows that are printed and kept as soon as they are there.

    Args:
        path: The JSON file; rows that it holds stay.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self.rows["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
        self.rows["torch"] = torch.__version__

    def add(self, part: str, name: str, row: dict[str, Any]) -> None:
        """Print and keep a row."""
        self.rows.setdefault(part, {})[name] = row
        self.path.write_text(json.dumps(self.rows, indent=1) + "\n")
        numbers = {key: value for key, value in row.items() if not isinstance(value, list)}
        texts = {key: f"{value:,.4g}" if isinstance(value, float) else value for key, value in numbers.items()}
        print(f"{part} | {name} | {' | '.join(f'{key} {text}' for key, text in texts.items())}", flush=True)


def table(rows: dict[str, dict[str, float]]) -> str:
    """Return the table of updates per second, in Markdown."""
    lines = [
        "| updates per second | bare loop | ours | `compile: true` | bare loop as a graph | `cuda_graphs` "
        "| `compiled_cuda_graphs` | `cuda_graphs` / bare loop | / bare graph | `cuda_graphs`, whole run |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        keys = ("bare eager", "eager", "compiled", "bare graphed", "cuda_graphs", "compiled_cuda_graphs")
        cells = [f"{row[key]:,.0f}" if key in row else "not run" for key in keys]
        cells += [f"{row['cuda_graphs'] / row[bare]:.2f}" for bare in ("bare eager", "bare graphed")]
        cells.append(f"{row['cuda_graphs, in the Trainer']:,.0f}")
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def pong_table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table of Pong's evaluations, in Markdown."""
    (row,) = rows.values()
    lines = ["| minutes | env steps | greedy return, 8 episodes |", "| --- | --- | --- |"]
    lines += [f"| {at['minutes']:.1f} | {at['env_steps']:,} | {at['return']:.1f} |" for at in row["curve"]]
    return "\n".join(lines)


def pong_sentence(row: dict[str, Any], device: str) -> str:
    """Return Pong's result in one line."""
    where = f"{row['env_steps']:,} env steps, {row['minutes']:.1f} minutes on one {device}"
    return f"greedy return {row['return']:.1f} after {where}, seed 1 (python -m benchmarks.gpu --parts 0 --pong 8)"


def losses_table(rows: dict[str, dict[str, float]]) -> str:
    """Return the table of losses, in Markdown."""
    lines = ["| 200 updates | last loss, CPU | GPU | largest relative difference |", "| --- | --- | --- | --- |"]
    lines += [f"| {name} | {row['CPU']:.4g} | {row['GPU']:.4g} | {row['largest']:.1g} |" for name, row in rows.items()]
    return "\n".join(lines)


def check_losses(table: Table) -> None:
    """Let every learner make 200 updates on both devices, and compare the losses."""
    for name, case in CHECKED.items():
        losses = {}
        for accelerator in ("cpu", "gpu"):
            case.fit(keep := Losses(), accelerator, max_steps=200)
            losses[accelerator] = torch.stack(keep.losses).cpu()
        cpu, gpu = losses["cpu"], losses["gpu"]
        difference = ((cpu - gpu).abs() / cpu.abs().clamp(min=1e-3)).max()
        first = float((cpu[0] - gpu[0]).abs() / cpu[0].abs())
        row = {"CPU": float(cpu[-1]), "GPU": float(gpu[-1]), "first": first, "largest": float(difference)}
        table.add("losses", name, row)


def time_updates(table: Table, cases: str, modes: list[str]) -> None:
    """Time updates in all modes, and the bare loops."""
    for name, (case, bare) in TIMED.items():
        row: dict[str, Any] = table.rows.get("updates per second", {}).get(name, {})
        for mode in modes if cases in name else ():
            try:
                case.fit(meter := Meter(bare if mode == "eager" else None), "gpu", MODES[mode])
            except Exception as error:  # the other rows still count
                print(f"{name} | {mode} | {type(error).__name__}: {error}"[:400], flush=True)
                continue
            row |= {mode: meter.updates_per_s, f"{mode}, in the Trainer": meter.in_trainer, **meter.bare}
            table.add("updates per second", name, row)


PONG = ("--config", "configs/pong_pqn.yaml", "--seed_everything", "1")
QUIET = ("--trainer.enable_progress_bar=false",)


def time_env_steps(table: Table, num_rollouts: int = 40) -> None:
    """Time whole runs of PQN in Pong, with more and more environments."""
    for num_envs in (16, 64, 128):
        for mode in ("false", "cuda_graphs"):
            if mode == "false" and num_envs != 128:
                continue
            flags = [f"--data.num_envs={num_envs}", f"--agent.max_env_steps={num_rollouts * num_envs * 32}"]
            seconds = run_pong([*flags, f"--model.compile={mode}", "--trainer.callbacks+=benchmarks.gpu.EnvStepRate"])
            table.add("env steps per second", f"{num_envs} environments, compile: {mode}", seconds)


class EnvStepRate(Callback):
    """Print env steps per second, without the first rollouts."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Note when the tenth rollout was learned from."""
        torch.cuda.synchronize()
        self.end, self.end_steps = time.perf_counter(), pl_module.data.progress.env_steps
        if batch_idx == 9:
            self.start, self.start_steps = self.end, self.end_steps

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Print the rate."""
        steps_per_s = (self.end_steps - self.start_steps) / (self.end - self.start)
        print(json.dumps({"env steps per s": steps_per_s}), flush=True)


def run_pong(flags: list[str]) -> dict[str, Any]:
    """Run ``seqrl fit`` in a process of its own, and return what its callback printed."""
    with tempfile.TemporaryDirectory() as folder:
        flags = [*flags, f"--trainer.default_root_dir={folder}", "--trainer.limit_val_batches=0"]
        command = [sys.executable, "-m", "seqrl_lightning.cli", "fit", *PONG, *flags, *QUIET]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    printed = [line for line in result.stdout.splitlines() if line.startswith("{")]
    return json.loads(printed[-1]) if printed else {"error": first_error(result.stderr + result.stdout)}


def first_error(text: str) -> str:
    """Return the first line of a program's output that tells of an error."""
    lines = [line for line in text.splitlines() if "rror" in line]
    return lines[0] if lines else text[:300]


class Goal(Callback):
    """Print each evaluation's return with minutes and env steps, and end the run at a return.

    Args:
        mean_return: The greedy return to reach.
    """

    def __init__(self, mean_return: float) -> None:
        self.mean_return = mean_return
        self.start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Print, and look whether the goal is reached."""
        if trainer.sanity_checking:
            return
        value = float(trainer.callback_metrics["val/return_mean"])
        row = {
            "minutes": (time.perf_counter() - self.start) / 60,
            "env_steps": pl_module.data.progress.env_steps,
            "return": value,
        }
        print(json.dumps(row), flush=True)
        trainer.should_stop |= value >= self.mean_return


def train_pong(table: Table, minutes: float, folder: Path, mode: str) -> None:
    """Train PQN in Pong until its greedy return is 18, or for some minutes; resume what is in the folder."""
    flags = ["--trainer.callbacks+=benchmarks.gpu.Goal", "--trainer.callbacks.mean_return=18"]
    flags += [f"--trainer.default_root_dir={folder}", f"--model.compile={mode}", *QUIET]
    name, rows = f"PQN, compile: {mode}", []
    if any(folder.rglob("last.ckpt")):
        flags += ["--ckpt_path=last"]
        rows = table.rows.get("Pong", {}).get(name, {}).get("curve", [])
    minutes_before = rows[-1]["minutes"] if rows else 0.0
    hours, rest = divmod(minutes * 60, 3600)
    flags += [f"--trainer.max_time=00:{int(hours):02}:{int(rest // 60):02}:{int(rest % 60):02}"]
    command = [sys.executable, "-m", "seqrl_lightning.cli", "fit", *PONG, *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith('{"minutes'):
                row = json.loads(line)
                rows.append({**row, "minutes": minutes_before + row["minutes"]})
                table.add("Pong", name, {**rows[-1], "curve": rows})


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/gpu.json"))
    parser.add_argument("--parts", default="123", help="which parts to run")
    parser.add_argument("--cases", default="", help="part 2: only cases with this in their names")
    parser.add_argument("--modes", nargs="*", choices=MODES, default=[*MODES], help="part 2: only these modes")
    parser.add_argument("--pong", type=float, default=0.0, help="minutes to train Pong for")
    parser.add_argument("--folder", type=Path, default=Path("runs/pong_gpu"), help="Pong's run folder")
    parser.add_argument("--mode", default="cuda_graphs", help="model.compile in Pong")
    arguments = parser.parse_args()
    table = Table(arguments.json)
    if "1" in arguments.parts:
        check_losses(table)
    if "2" in arguments.parts:
        time_updates(table, arguments.cases, arguments.modes)
    if "3" in arguments.parts:
        time_env_steps(table)
    if arguments.pong:
        train_pong(table, arguments.pong, arguments.folder, arguments.mode)


if __name__ == "__main__":
    main()
