"""Recipes: what a policy's file says besides the weights, and how its learner is built from it."""

import json
import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from seqrl_lightning.algorithms.acting import ActingModule
from seqrl_lightning.checkpoints.archive import MAX_PLAIN, limited_memory
from seqrl_lightning.checkpoints.format import read_checkpoint, require_format, require_unchanged
from seqrl_lightning.checkpoints.records import UnusableFileError
from seqrl_lightning.errors import needs_extra, refused_in_a_line
from seqrl_lightning.files import require_file
from seqrl_lightning.parts import blank_observations
from seqrl_lightning.reading import values_in
from seqrl_lightning.rebuild import rebuild
from seqrl_lightning.saved_state import form_of
from seqrl_lightning.trust import MAX_FILE_GIB, Trust
from seqrl_lightning.types import ConfigurationError, require, shortened

NOTE = "seqrl_lightning"
"""Under which key an exported policy's metadata hold the format's version and the checksum."""

_TARGET = "target_net."  # how the names of the target network's weights begin
_MAX_VALUES = 1_000_000  # in settings
_MAX_GIB = 0.25  # of memory that the values of one observation take, besides the weights


class Recipe(NamedTuple):
    """The plain values from which, with the weights, a policy is rebuilt."""

    algorithm: str  # its class, as module:name
    model: dict[str, Any]  # its hyperparameters
    data: dict[str, Any]  # the datamodule's
    obs_dtype: str  # of the observations


def rebuild_learner(
    algorithm: str, settings: Mapping[str, Any], weights: Mapping[str, Tensor], trust: Trust, source: str
) -> ActingModule:
    """Build a learner with its weights from what a file holds, after :func:`check_learner`.

    Args:
        algorithm: The learner's class, as ``module:name``.
        settings: Its arguments.
        weights: Those of the learner, by their names; the target network's may be missing.
        trust: What the file may name.
        source: The file, for errors.

    Raises:
        ConfigurationError: If the file names what it may not name, or its settings and weights don't fit each other.
    """
    cls = check_learner(algorithm, settings, weights, trust, source)
    with refused_in_a_line(source):
        module = rebuild(cls, settings, trust, source)
        module.load_state_dict(weights, strict=False)
    if module.target_net is not module.policy_net and not any(name.startswith(_TARGET) for name in weights):
        module.target_net.load_state_dict(module.policy_net.state_dict())
    return module


def check_learner(
    algorithm: str,
    settings: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    trust: Trust,
    source: str,
    is_parsed: bool = False,
) -> type[ActingModule]:
    """Refuse settings that name what files may not name, or that ask for more than the file holds.

    The learner is built without memory, on torch's ``meta`` device, and compared with the weights. Not every network of
    a user's own can be built there; one that can't is built with memory, up to a limit.

    Args:
        algorithm: See :func:`rebuild_learner`, like the arguments that follow it.
        settings: The learner's arguments.
        weights: Its weights.
        trust: What the file may name.
        source: The file, for errors.
        is_parsed: Whether a parser reads the settings afterwards; see :func:`rebuild`.

    Returns:
        The learner's class.

    Raises:
        ConfigurationError: If they can't be used.
    """
    cls = trust.find(algorithm.replace(":", ".") if isinstance(algorithm, str) else algorithm, source)
    if not (isinstance(cls, type) and issubclass(cls, ActingModule)):
        named = shortened(repr(algorithm), 300)
        raise ConfigurationError(f"the algorithm of {source} is {named}; it must be a learner, like DQN")

    def check() -> None:
        with _no_more_tensors_than(weights, source):
            module = rebuild(cls, settings, trust, source, is_parsed)
            _require_little_memory(module, weights)
        _require_fitting(module.state_dict(), weights, source)

    with refused_in_a_line(source):
        try:
            with torch.device("meta"):
                check()
        except Exception:  # of whatever kind: the learner makes a refusal of what its network raises
            if not _holds_users_code([algorithm.replace(":", "."), settings], trust):
                raise
            with limited_memory(MAX_FILE_GIB), torch.random.fork_rng(devices=()):
                check()
    return cls


def _holds_users_code(contents: object, trust: Trust) -> bool:
    """Return whether settings name code of the user's, or hold what only a call from Python can give."""
    return any(callable(value) or trust.is_users(value) for value in values_in(contents, _MAX_VALUES))


def _require_fitting(built: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: str) -> None:
    wanted = {name: form_of(tensor) for name, tensor in built.items()}
    given = {name: form_of(tensor) for name, tensor in weights.items()}
    missing = [name for name in wanted if name not in given and not name.startswith(_TARGET)]
    differing = [name for name in given if wanted.get(name) != given[name]]
    if missing or differing:
        example = (differing or missing)[0]
        forms = (forms.get(example, "no place") for forms in (given, wanted))
        raise _misfit(source, "{} has {} there, and {} by the settings".format(example, *forms))


def _misfit(source: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"the network of {source} doesn't fit its weights ({reason}); it must be the one that was trained: give "
        "load_policy(..., network=...)"
    )


def _require_little_memory(module: ActingModule, weights: Mapping[str, Tensor]) -> None:
    """Refuse a network, built without memory, that would need absurdly much of it to value one observation.

    Not everything depends on the weights' shapes: a network that pools has the same ones for images of any size.
    """
    with torch.no_grad(), _Results() as results:
        outputs, _ = module.policy_net(blank_observations(module.obs_shape))
        module.q_values(outputs)
    gib = (results.num_bytes - 4 * sum(_num_bytes(tensor) for tensor in weights.values())) / 2**30  # some are reshaped
    require(gib <= _MAX_GIB, "what the network takes for one observation, in GiB,", gib, f"at most {_MAX_GIB}")


class _Results(TorchFunctionMode):
    """Count the bytes of all tensors that are computed, the intermediate ones too."""

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.num_bytes += sum(_num_bytes(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        return result


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


@contextmanager
def _no_more_tensors_than(weights: Mapping[str, Tensor], source: str) -> Iterator[None]:
    """End the building of a network that has more parameters and buffers, or larger ones, than its file has weights."""
    # A few more: some are replaced while a network is built.
    most = 4 * len(weights) + 100
    largest = 4 * sum(math.prod(tensor.shape) for tensor in weights.values()) + 10_000
    num_built = num_elements = 0

    def register(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal num_built, num_elements
        num_built += 1
        num_elements += 0 if tensor is None else tensor.numel()
        if num_built > most or num_elements > largest:
            raise _misfit(source, "the settings ask for more parameters and buffers than it holds")

    with ExitStack() as hooks:
        hooks.callback(register_module_parameter_registration_hook(register).remove)
        hooks.callback(register_module_buffer_registration_hook(register).remove)
        yield


def read_policy(
    path: Path, trust: Trust, max_gib: float, replaced: Container[str] = ()
) -> tuple[Recipe, dict[str, Tensor]]:
    """Read a checkpoint's recipe and weights.

    Args:
        path: The file.
        trust: What it may name.
        max_gib: Larger files are refused.
        replaced: Settings of the learner that the caller gives, so that it doesn't matter what the file names there.

    Raises:
        ConfigurationError: If it can't be read, or names what files may not name.
    """
    try:
        checkpoint = read_checkpoint(path, trust, max_gib, mmap=False, replaced=replaced)
    except UnusableFileError as error:
        raise ConfigurationError(f"{path} can't be used: {error}") from error
    return policy_in(checkpoint, path)


def policy_in(checkpoint: Mapping[str, Any], path: Path) -> tuple[Recipe, dict[str, Tensor]]:
    """Return the recipe and the weights in a checkpoint's contents.

    Raises:
        ConfigurationError: If they aren't there.
    """
    policy, weights = checkpoint.get("policy"), checkpoint.get("state_dict")
    if not (isinstance(policy, dict) and isinstance(weights, dict)):
        raise ConfigurationError(f"{path} can't be used: it holds no policy")
    model, data = checkpoint.get("hyper_parameters"), checkpoint.get("datamodule_hyper_parameters")
    return _recipe({**policy, "model": model, "data": data}, path), weights


def read_safetensors(
    path: Path, trust: Trust, max_gib: float, replaced: Container[str] = ()
) -> tuple[Recipe, dict[str, Tensor]]:
    """Read the same from a file that :func:`seqrl_lightning.export.export_policy` wrote.

    Raises:
        ConfigurationError: If it can't be read, or names what files may not name.
    """
    with needs_extra("export"):
        from safetensors import SafetensorError, safe_open
    require_file(path, max_gib)
    try:
        _require_short_header(path)
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            metadata = file.metadata() or {}
            note, recipe = (json.loads(metadata.get(name, "null")) for name in (NOTE, "recipe"))
        note = require_format(note)
        require_unchanged(note, exported(metadata["recipe"], weights))
    except UnusableFileError as error:
        raise ConfigurationError(f"{path} can't be used: {error}") from error
    except (SafetensorError, TypeError, KeyError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} can't be used: it holds no policy ({error})") from error
    found = _recipe(recipe, path)
    trust.require_names({name: value for name, value in found.model.items() if name not in replaced}, str(path))
    return found, weights


def _require_short_header(path: Path) -> None:
    """Refuse a long header, in which the recipe is, before it is read: see ``MAX_PLAIN``."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")  # https://huggingface.co/docs/safetensors, "Format"
    if size > path.stat().st_size:
        raise ValueError("its header is longer than the file")
    if size > MAX_PLAIN:
        raise UnusableFileError(
            f"its header, with the recipe, claims {size / 2**20:.3g} MiB; it must have at most {MAX_PLAIN >> 20} MiB"
        )


def exported(recipe: str, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the contents of an exported policy that its note is on: its recipe, as a text, and its weights."""
    return {"recipe": recipe, "weights": dict(sorted(weights.items()))}


def _recipe(values: object, path: Path) -> Recipe:
    kinds = {"algorithm": str, "model": dict, "data": dict, "obs_dtype": str}
    is_complete = isinstance(values, dict) and values.keys() == kinds.keys()
    if not (isinstance(values, dict) and is_complete and all(isinstance(values[n], kinds[n]) for n in kinds)):
        raise ConfigurationError(f"{path} can't be used: it doesn't say what its policy was built from")
    try:
        dtype = np.dtype(values["obs_dtype"])
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{path} can't be used: its observations' dtype is {shortened(str(error), 300)}"
        ) from error
    if dtype.kind not in "biuf":
        raise ConfigurationError(f"{path} can't be used: its observations are {shortened(repr(dtype), 300)}")
    return Recipe(**values)
