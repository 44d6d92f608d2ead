"""Exported policies: what is written is what the module computes, or isn't written."""

import functools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqrl_lightning import export
from seqrl_lightning.algorithms import C51, DQN
from seqrl_lightning.checkpoints.format import FORMAT
from seqrl_lightning.export import SUFFIXES, export_policy, signature
from seqrl_lightning.networks import FFM, GRU, LRU, LSTM, MLP, RNN, Composed, DeltaNet, Transformer
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.policy import Policy, load_policy
from seqrl_lightning.recipe import NOTE, Recipe
from seqrl_lightning.types import ConfigurationError, RunError, State


def policy_of(module: DQN, obs_dtype: str = "float32") -> Policy:
    module.freeze()
    data = {"env_id": "CartPole-v1", "wrappers": None}
    recipe = Recipe(f"{type(module).__module__}:{type(module).__name__}", dict(module.hparams), data, obs_dtype)
    return Policy(module, recipe)


def recurrent() -> Policy:
    """With a distribution, whose support isn't part of the network."""
    return policy_of(C51((4,), 3, network=functools.partial(GRU, hidden_size=8), n_atoms=5, v_max=3.0))


def images() -> Policy:
    return policy_of(DQN((3, 2), 3, network=functools.partial(MLP, hidden_sizes=(4,))), "uint8")


def test_torch_export_of_a_recurrent_policy(tmp_path: Path) -> None:
    policy = recurrent()
    assert export_policy(policy, "torch_export", tmp_path / "policy.pt2") < 1e-5
    assert signature(policy) == (
        {"observation": ("batch", 4), "state": (1, "batch", 8)},
        ["q_values", "action", "next_state"],
    )
    module = torch.export.load(tmp_path / "policy.pt2").module()
    policy.reset()
    state = torch.zeros(1, 5, 8)
    for _ in range(3):
        observation = torch.randn(5, 4)
        q_values, action, state = module(observation, state)
        assert action.tolist() == policy.act(observation.numpy()).tolist()  # type: ignore[union-attr]
        assert q_values.numpy() == pytest.approx(policy.values, abs=1e-5)


def parts(network: Any = MLP) -> Policy:
    shape = PackedShape({"picture": ("uint8", (5, 4)), "numbers.0": ("float32", (3,))})
    return policy_of(DQN(shape, 3, network=functools.partial(Composed, network=network)), "uint8")


def remembered_parts() -> Policy:
    return parts(GRU)


@pytest.mark.slow
def test_torch_export_of_a_policy_that_remembers_pictures(tmp_path: Path) -> None:
    policy = remembered_pictures()
    assert export_policy(policy, "torch_export", tmp_path / "policy.pt2") < 1e-5
    assert signature(policy)[0] == {"observation": ("batch", 8, 8), "state": (1, "batch", 16)}


@pytest.mark.slow
def test_torch_export_of_a_policy_whose_observations_have_parts(tmp_path: Path) -> None:
    policy = remembered_parts()
    assert export_policy(policy, "torch_export", tmp_path / "policy.pt2") < 1e-5
    inputs, _ = signature(policy)
    assert inputs == {"picture": ("batch", 5, 4), "numbers.0": ("batch", 3), "state": (1, "batch", 64)}


def normalized() -> Policy:
    """By statistics that make a difference."""
    module = DQN((4,), 3, normalize_observations=True)
    module.normalization.start(np.random.default_rng(0).normal(3.0, 5.0, (20, 4)).astype(np.float32))
    module.normalization.share()
    return policy_of(module)


def remembered_pictures() -> Policy:
    network = functools.partial(Composed, network=functools.partial(LSTM, hidden_size=8))
    return policy_of(DQN((8, 8), 3, network=network), "uint8")


def normalized_parts() -> Policy:
    shape = PackedShape({"picture": ("uint8", (5, 4)), "numbers.0": ("float32", (3,)), "one": ("float32", ())})
    module = DQN(shape, 3, network=Composed, normalize_observations=True)
    numbers = np.random.default_rng(0).normal(3.0, 5.0, (20, 4)).astype(np.float32)
    picture = np.zeros((20, 5, 4), np.uint8)
    module.normalization.start(shape.pack({"picture": picture, "numbers.0": numbers[:, :3], "one": numbers[:, 3]}))
    module.normalization.share()
    return policy_of(module, "uint8")


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(
    ("make", "file_format"),
    [(normalized, "torch_export"), (normalized, "safetensors"), (normalized_parts, "torch_export")],
)
def test_statistics_are_in_the_file(tmp_path: Path, make: Any, file_format: str) -> None:
    if file_format == "safetensors":
        pytest.importorskip("safetensors", reason="needs the extra export")
    policy = make()
    assert export_policy(policy, file_format, tmp_path / f"policy{SUFFIXES[file_format]}") < 1e-5  # it compares
    zeros = np.zeros((1, *policy.module.obs_shape), policy.recipe.obs_dtype)
    values, _ = policy.module.act_values(zeros)
    policy.module.normalization.observations = None
    assert policy.module.act_values(zeros)[0] != pytest.approx(values, abs=1e-3)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    "make", [recurrent, images, parts, remembered_parts, remembered_pictures, normalized, normalized_parts]
)
def test_onnx(tmp_path: Path, make: Any) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra export")
    import onnxruntime

    policy = make()
    assert export_policy(policy, "onnx", tmp_path / "policy.onnx") < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    inputs, outputs = signature(policy)
    assert {node.name: tuple(node.shape) for node in session.get_inputs()} == inputs
    assert [node.name for node in session.get_outputs()] == outputs


@pytest.mark.slow
@pytest.mark.parametrize("network", [RNN, LRU, FFM, DeltaNet])
def test_onnx_of_other_memories(tmp_path: Path, network: Any) -> None:
    """Acting takes one step at a time, without the operations on chunks and sequences that ONNX lacks."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra export")
    policy = policy_of(DQN((4,), 3, network=functools.partial(network, hidden_size=8)))
    assert export_policy(policy, "onnx", tmp_path / "policy.onnx") < 1e-4


def test_safetensors_are_a_policy_again(tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="needs the extra export")
    policy = policy_of(C51((4,), 2, n_atoms=5))
    path = tmp_path / "policy.safetensors"
    assert export_policy(policy, "safetensors", path) == 0.0
    again = load_policy(path)
    assert type(again.module) is C51
    assert again.make_env().observation_space.shape == (4,)
    observation = torch.randn(6, 4).numpy()
    assert again.act(observation).tolist() == policy.act(observation).tolist()  # type: ignore[union-attr]
    path.write_text("something else")
    with pytest.raises(ConfigurationError, match=r"policy\.safetensors can't be used: it holds no policy"):
        load_policy(path)


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        (None, "it has no format version: it isn't seqrl-lightning's, or is from before 0.2"),
        ({"format": FORMAT + 1}, rf"its format is {FORMAT + 1} and this version reads {FORMAT}: upgrade"),
        ({"format": 0}, "its format is 0, which no version writes"),
        ({"format": FORMAT}, "it was changed after it was written"),
        ([], "it has no format version"),
    ],
)
def test_safetensors_of_another_format_are_refused_with_what_to_do(note: Any, reason: str, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="needs the extra export")
    path = tmp_path / "policy.safetensors"
    recipe = json.dumps(images().recipe._asdict())
    safetensors.save_file(images().module.state_dict(), path, {"recipe": recipe, NOTE: json.dumps(note)})
    with pytest.raises(ConfigurationError, match=rf"policy\.safetensors can't be used: {reason}"):
        load_policy(path)


def test_a_recipe_is_plain() -> None:
    recipe = policy_of(C51((4,), 2, n_atoms=5)).recipe
    assert json.loads(json.dumps(recipe._asdict()))["model"]["n_atoms"] == 5


def test_an_exported_transformer_reads_its_whole_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its shapes can't depend on how much of the state is in use; what it puts out doesn't."""
    net = Transformer((4,), (3,), hidden_size=8, num_heads=2, context_length=4)
    observations, outputs = torch.randn(9, 2, 4), {}
    for is_exported in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda is_exported=is_exported: is_exported)
        state: State = torch.zeros_like(net(observations[:1])[1])
        steps = []
        for observation in observations:
            values, state = net(observation[None], state)
            steps.append(values)
        outputs[is_exported] = torch.cat(steps)
    torch.testing.assert_close(outputs[True], outputs[False])


class Undecided(MLP):
    """A network whose way depends on a number."""

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        if float(observation.sum()) > 0:
            observation = -observation
        return super().torso(observation, state, is_first)


def test_a_network_that_cannot_be_traced_is_told_in_a_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigurationError, match="Undecided can't be exported as torch_export") as error:
        export_policy(policy_of(DQN((4,), 2, network=Undecided)), "torch_export", tmp_path / "policy.pt2")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def a_little_off(policy: Policy, path: Path) -> export.Run:
    return lambda observation, state: (torch.zeros(len(observation), 3), state)


def interrupted(policy: Policy, path: Path) -> export.Run:
    raise KeyboardInterrupt


@pytest.mark.parametrize("read", [a_little_off, interrupted])
@pytest.mark.parametrize("earlier", [[], ["policy.pt2"]])
def test_a_file_that_was_not_compared_or_differs_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any, earlier: list[str]
) -> None:
    for name in earlier:
        (tmp_path / name).write_bytes(b"an earlier one")
    monkeypatch.setitem(export._FORMATS, "torch_export", (lambda policy: b"contents", read))
    refusal = pytest.raises(RunError, match=r"policy\.pt2 would differ from the module by \d")
    with pytest.raises(KeyboardInterrupt) if read is interrupted else refusal:
        export_policy(images(), "torch_export", tmp_path / "policy.pt2")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(n, b"an earlier one") for n in earlier]


@pytest.mark.parametrize(("file_format", "package"), [("onnx", "onnxruntime"), ("safetensors", "safetensors")])
def test_a_missing_extra_is_named(
    file_format: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match=rf"this needs {package}\S*, which the extra `export` installs"):
        export_policy(images(), file_format, tmp_path / f"policy{SUFFIXES[file_format]}")
