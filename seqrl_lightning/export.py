"""Policies for other programs: ONNX, torch.export and safetensors files, each checked against the module."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqrl_lightning.algorithms.acting import ActingModule
from seqrl_lightning.checkpoints.format import format_note
from seqrl_lightning.errors import needs_extra, require_known
from seqrl_lightning.files import write_bytes
from seqrl_lightning.parts import PackedShape, blank_observations
from seqrl_lightning.policy import Policy, load_policy
from seqrl_lightning.recipe import NOTE, exported
from seqrl_lightning.types import Array, ConfigurationError, RunError, State

SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}
"""The formats and their files' suffixes."""

_TOLERANCE = 1e-4  # relative to the largest value
_NUM_STEPS = 10  # in a row that are checked
_BATCH_SIZES = (1, 2, 7)  # that are checked

Shown = Tensor | dict[str, Tensor]
"""Observations, [B, *obs], or each of their parts."""

Run = Callable[[Shown, State], tuple[Tensor, State]]
"""A policy: (observations, state or None at the start) -> (q_values [B, A], next state)."""


class GreedyPolicy(nn.Module):
    """The greedy policy as one function of tensors.

    Args:
        module: The algorithm.
    """

    def __init__(self, module: ActingModule) -> None:
        super().__init__()
        self.normalization = module.normalization
        self.network = module.policy_net
        self.q_values = module.q_values

    def forward(self, observation: Shown, state: State = None) -> tuple[Tensor, ...]:
        """One step in B environments.

        Args:
            observation: [B, *obs], or a dict of the observations' parts, each [B, *shape].
            state: [S, B, ...] of a network that remembers (zeros at an episode's start), else None.

        Returns:
            ``q_values`` [B, A] float32, ``action`` [B] int64 and, of a network that remembers, ``next_state``.
        """
        if isinstance(observation, dict):
            parts = {name: part.unsqueeze(0) for name, part in observation.items()}
            row: Shown = dict(self.normalization.observation(parts))
        else:
            row = self.normalization.observation(observation.unsqueeze(0))
        outputs, next_state = self.network(row, state, None)
        q_values = self.q_values(outputs).squeeze(0)
        action = q_values.argmax(-1)
        return (q_values, action) if state is None else (q_values, action, next_state)


def export_policy(policy: Policy, file_format: str, path: Path) -> float:
    """Write a policy into a file, whose copy was read back and compared with the module on random inputs.

    - ``onnx`` and ``torch_export``: the inputs are ``observation`` [B, *obs] and, for a network that remembers,
      ``state`` [S, B, ...], zeros at an episode's start; the outputs ``q_values`` [B, A] (of ``DiscreteSAC`` the
      policy's logits), ``action`` [B] (the best; where a task allows some actions only, take the best of these), and
      ``next_state``. B can be any number. Where observations have parts, each of them is an input of its own name
      (of ``torch_export``: ``observation`` is a dict of them).
    - ``safetensors``: the weights, and in the metadata what :func:`seqrl_lightning.load_policy` rebuilds the policy
      from: a checkpoint without optimizer and target network, to hand out.

    Args:
        policy: The policy, on the CPU.
        file_format: One of ``SUFFIXES``.
        path: The file.

    Returns:
        The largest absolute difference of a value, over steps that carry the state on.

    Raises:
        ConfigurationError: If there is no such format, an extra is missing, or the network can't be put into it.
        RunError: If the file's policy would differ from the module.
    """
    require_known("--format", file_format, SUFFIXES)
    to_bytes, read = _FORMATS[file_format]
    contents = to_bytes(policy)
    with TemporaryDirectory() as folder:
        copy = Path(folder, f"policy{SUFFIXES[file_format]}")
        write_bytes(copy, contents)
        difference, largest = compare(policy, read(policy, copy))
    if not difference <= _TOLERANCE * max(1.0, largest):  # NaN is refused too
        raise RunError(f"{path} would differ from the module by {difference:g}, so it isn't written")
    write_bytes(path, contents)
    return difference


def compare(policy: Policy, run: Run) -> tuple[float, float]:
    """Return the largest absolute difference of ``run`` from the module on random inputs, and the largest value."""
    rng = np.random.default_rng(0)
    difference = largest = 0.0
    for batch_size in _BATCH_SIZES:
        state: State = _initial_state(policy, batch_size)
        module_state: State = None
        for _ in range(_NUM_STEPS):
            observation = _random_observations(policy, batch_size, rng)
            expected, module_state = policy.module.act_values(observation.numpy(), module_state)
            q_values, state = run(_shown(policy, observation), state)
            difference = max(difference, float(np.abs(q_values.numpy() - expected).max()))
            largest = max(largest, float(np.abs(expected).max()))
    return difference, largest


def signature(policy: Policy) -> tuple[dict[str, tuple[int | str, ...]], list[str]]:
    """Return an exported policy's inputs, with their shapes, and its outputs."""
    shape = policy.module.obs_shape
    inputs: dict[str, tuple[int | str, ...]] = {"observation": ("batch", *shape)}
    if isinstance(shape, PackedShape):
        inputs = {name: ("batch", *shape.shape_of(name)) for name in shape.parts}
    state = _initial_state(policy, 1)
    if state is None:
        return inputs, ["q_values", "action"]
    inputs["state"] = (len(state), "batch", *state.shape[2:])
    return inputs, ["q_values", "action", "next_state"]


# For each format: how a policy is written, and how it is read back


def _to_onnx(policy: Policy) -> bytes:
    with needs_extra("export"):
        import onnxruntime  # noqa: F401  (reads it back)
        import onnxscript  # noqa: F401  (torch writes with it)
    inputs, outputs = signature(policy)
    with _explained("onnx", policy):
        graph = torch.onnx.export(
            GreedyPolicy(policy.module),
            kwargs=dict(
                zip(("observation", "state"), _example(policy), strict=False)
            ),  # a last dict would be taken for it
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=dict(zip(("observation", "state"), _dynamic_shapes(policy), strict=False)),
            dynamo=True,
            verbose=False,
        )
        assert graph is not None
        contents: bytes = graph.model_proto.SerializeToString()
    return contents


def _read_onnx(policy: Policy, path: Path) -> Run:
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(observation: Shown, state: State) -> tuple[Tensor, State]:
        inputs = list(observation.values()) if isinstance(observation, dict) else [observation]
        inputs += [] if state is None else [state]
        arrays = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        q_values, _, *next_state = map(torch.from_numpy, session.run(None, arrays))
        return q_values, next_state[0] if next_state else None

    return run


def _to_torch_export(policy: Policy) -> bytes:
    file = io.BytesIO()
    with _explained("torch_export", policy):
        graph = torch.export.export(
            GreedyPolicy(policy.module), _example(policy), dynamic_shapes=_dynamic_shapes(policy)
        )
        torch.export.save(graph, file)
    return file.getvalue()


def _read_torch_export(policy: Policy, path: Path) -> Run:
    module = torch.export.load(path).module()

    def run(observation: Shown, state: State) -> tuple[Tensor, State]:
        q_values, _, *next_state = module(observation) if state is None else module(observation, state)
        return q_values, next_state[0] if next_state else None

    return run


def _to_safetensors(policy: Policy) -> bytes:
    with needs_extra("export"):
        from safetensors.torch import save
    state_dict = policy.module.state_dict()
    weights = {name: t.contiguous() for name, t in state_dict.items() if not name.startswith("target_net.")}
    recipe = json.dumps(policy.recipe._asdict())
    contents: bytes = save(weights, {"recipe": recipe, NOTE: json.dumps(format_note(exported(recipe, weights)))})
    return contents


def _read_safetensors(policy: Policy, path: Path) -> Run:
    act_values = load_policy(path, policy.network, allow=policy.trust.allow).module.act_values

    def run(observation: Shown, state: State) -> tuple[Tensor, State]:
        q_values, state = act_values(_stored(policy, observation), state)
        return torch.from_numpy(q_values), state

    return run


_FORMATS: dict[str, tuple[Callable[[Policy], bytes], Callable[[Policy, Path], Run]]] = {
    "onnx": (_to_onnx, _read_onnx),
    "torch_export": (_to_torch_export, _read_torch_export),
    "safetensors": (_to_safetensors, _read_safetensors),
}


# Inputs that a graph is traced with


def _initial_state(policy: Policy, batch_size: int) -> Tensor | None:
    """Return the state at an episode's start, [S, B, ...] zeros; None for a network that doesn't remember."""
    with torch.no_grad():
        _, state = policy.module.policy_net(blank_observations(policy.module.obs_shape, batch_size=batch_size))
    return None if state is None else torch.zeros_like(state)


def _random_observations(policy: Policy, batch_size: int, rng: np.random.Generator) -> Tensor:
    """Return [B, *obs] as they are stored: standard normal numbers, or integers from 0 on."""

    def random(dtype: str, shape: tuple[int, ...]) -> Array:
        if np.issubdtype(dtype, np.integer):
            return rng.integers(0, min(np.iinfo(dtype).max, 255), shape).astype(dtype)
        return rng.normal(size=shape).astype(dtype)

    shape = policy.module.obs_shape
    if isinstance(shape, PackedShape):
        lead = (batch_size, *shape[:-1])
        parts = {name: random(part.dtype, (*lead, *part.shape)) for name, part in shape.parts.items()}
        return torch.from_numpy(shape.pack(parts))
    return torch.from_numpy(random(policy.recipe.obs_dtype, (batch_size, *shape)))


def _shown(policy: Policy, observation: Tensor) -> Shown:
    """Return stored observations as a graph takes them, each part in memory of its own."""
    shape = policy.module.obs_shape
    if not isinstance(shape, PackedShape):
        return observation
    return {name: part.clone() for name, part in shape.unpack_tensor(observation).items()}


def _stored(policy: Policy, shown: Shown) -> Array:
    """Return observations that a graph takes as they are stored; the inverse of :func:`_shown`."""
    shape = policy.module.obs_shape
    if isinstance(shape, PackedShape) and isinstance(shown, dict):
        return shape.pack({name: part.numpy() for name, part in shown.items()})
    assert isinstance(shown, Tensor)
    return shown.numpy()


def _example(policy: Policy) -> tuple[Shown | Tensor, ...]:
    batch_size = 2  # a size of 1 in the example would be fixed in the graph
    state = _initial_state(policy, batch_size)
    observation = _shown(policy, _random_observations(policy, batch_size, np.random.default_rng(0)))
    return (observation,) if state is None else (observation, state)


def _dynamic_shapes(policy: Policy) -> tuple[dict[Any, Any], ...]:
    """Return the dimensions that may vary: the batch, which is 0 of the observation and 1 of the state."""
    batch, shape = torch.export.Dim("batch"), policy.module.obs_shape
    of_observation: dict[Any, Any] = {0: batch}
    if isinstance(shape, PackedShape):
        of_observation = {name: {0: batch} for name in shape.parts}
    return (of_observation,) if _initial_state(policy, 1) is None else (of_observation, {1: batch})


@contextmanager
def _explained(file_format: str, policy: Policy) -> Iterator[None]:
    """Silence torch, and say in one line why a network can't be traced.

    Raises:
        ConfigurationError: If it can't.
    """
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # whatever torch raises, with the reason at the end of the chain
        reason: BaseException = error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        raise ConfigurationError(
            f"{type(policy.module.policy_net).__name__} can't be exported as {file_format} (another --format may do): "
            + str(reason).strip().partition("\n")[0]
        ) from error
    finally:
        logging.disable(logging.NOTSET)
