"""Decide which classes, functions and tasks a file may name.

A checkpoint, an exported policy or a run's folder may come from a stranger. torch reads their tensors without running
code, but such a file also names what it was built from: a network's class, a wrapper, the module of a task. Calling
whatever a file names would run whatever the stranger likes, so a name becomes an object only if it is

- one of the algorithms, networks and environments that this package exports, a task that it registers,
- one of the layers, activation functions, optimizers and schedulers of torch and the wrappers of Gymnasium that
  ``trusted_names.py`` lists,
- in a module that the user allows, or
- a name that the user's own config gave as well.
"""

import pkgutil
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import gymnasium as gym

from seqrl_lightning.env_ids import EnvMaker, guarded_by, spec_of
from seqrl_lightning.trusted_names import LISTED, OWN_ROOMS, TASK_MODULES, is_dotted, is_in, names_of, own_classes
from seqrl_lightning.types import ConfigurationError, require, shortened

Allowed = str | Iterable[str]
"""A module, or several, that files may name: "my_networks" or ["my_networks", "my_tasks"]."""

MAX_FILE_GIB = 4.0
"""The largest file from somebody else that is read, in GiB, unless the caller gives another limit."""

_OF_CLASSES = frozenset(("class_path", "_class_path", "init_args", "dict_kwargs"))
"""The keys by which a config names a class and its settings."""


class Trust:
    """The names that files may turn into objects.

    Args:
        allow: Modules whose classes and functions a file may name, like ``["my_networks"]``, or a single one; a
            package stands for all its modules.
        names: Single classes and functions, by their full names, and other texts that the user's own config gave.

    Raises:
        ConfigurationError: If an entry of ``allow`` isn't the name of a module that can be imported.
    """

    def __init__(self, allow: Allowed = (), names: Iterable[str] = ()) -> None:
        must_be = "a module's name, like my_package.networks, or a list of them"
        require(isinstance(allow, Iterable), "allow", allow, must_be)
        self.allow = (allow,) if isinstance(allow, str) else tuple(allow)
        self.names = frozenset(names)
        for module in self.allow:
            require(isinstance(module, str) and is_dotted(module), "allow", module, must_be)
            require(_is_found(module), "allow", module, f"{must_be}, which Python finds (without .py)")

    def find(self, name: object, where: str) -> Callable[..., Any]:
        """Return the class or function that a file names.

        Args:
            name: The full name, like ``torch.nn.Linear``.
            where: What names it, for the error.

        Raises:
            ConfigurationError: If files may not name it, or it can't be imported.
        """
        if isinstance(name, str) and (known := LISTED.get(name) or own_classes().get(name)) is not None:
            return known
        if not isinstance(name, str) or not (self._is_allowed(name) or name in self.names):
            raise self.refusal(name, where)
        # What the user's config names as a class was imported when it was read; other texts in it name nothing.
        if not self._is_allowed(name) and not _is_imported(name):
            raise self.refusal(name, where)
        try:
            found = pkgutil.resolve_name(name)
        except (ImportError, AttributeError, ValueError) as error:
            advice = f". {_of_a_script(name)}" if name.startswith("__main__.") else ""
            raise ConfigurationError(f"{where} needs {name}, which can't be imported: {error}{advice}") from error
        if name in self.names:
            return typing.cast(Callable[..., Any], found)
        if not names_of(found):
            must_be = "a class or a function, unless your own --config gives it, or load_policy(..., network=...)"
            raise ConfigurationError(f"{where} names {shortened(repr(name), 300)}; it must be {must_be}")
        # `my_module.subprocess.Popen` is found in my_module too, but isn't my_module's.
        if not (found in own_classes().values() or is_in(str(found.__module__), self.allow)):
            raise self.refusal(name, where, str(found.__module__))
        return typing.cast(Callable[..., Any], found)

    def require_name(self, text: str, where: str) -> None:
        """Refuse a text that is no name which files may use, wherever a parser might take it for one.

        Raises:
            ConfigurationError: If it isn't.
        """
        if text not in self.names:  # which is the user's own text, whatever it reads like
            self.find(text, where)

    def is_users(self, name: object) -> bool:
        """Return whether a text names code of the user's: by the config, or in a module that is allowed."""
        if not isinstance(name, str) or name in LISTED or not is_dotted(name) or is_in(name, OWN_ROOMS):
            return False
        return name in self.names or is_in(name.rpartition(".")[0], self.allow)

    @contextmanager
    def task(self, env_id: object, where: str) -> Iterator[None]:
        """Look for a file's task, and within the context for no other one that files may not name.

        A task that is defined in a module which files may not name is refused before that module is imported.

        Args:
            env_id: Gymnasium id of the task; ``package:Id`` imports a package first.
            where: What names it, for the error.

        Raises:
            ConfigurationError: If files may not name it, or there is no such task.
        """
        if not isinstance(env_id, str):
            raise ConfigurationError(f"{where} names the task {shortened(repr(env_id), 300)}; it must be an id")
        with guarded_by(_TaskGuard(self, where)):
            try:
                spec_of(env_id)
            except (gym.error.Error, ImportError) as error:
                named, reason = shortened(repr(env_id), 300), shortened(str(error), 300)
                raise ConfigurationError(f"{where} names the task {named}, which can't be made: {reason}") from error
            yield

    def require_names(self, settings: object, where: str) -> None:
        """Refuse settings in which a class path, at any depth, is one that files may not name.

        Args:
            settings: Numbers, texts and collections.
            where: What they come from, for the error.

        Raises:
            ConfigurationError: If there is one.
        """
        if isinstance(settings, Mapping):
            for key, value in settings.items():
                *outer, name = str(key).split(".")
                if outer and not _OF_CLASSES.isdisjoint((*outer, name)):  # which a parser would take apart
                    shown = shortened(repr(key), 300)
                    raise ConfigurationError(f"{where} has a setting called {shown}; names of settings have no dots")
                if name in ("class_path", "_class_path"):
                    self.find(value, where)
                self.require_names(value, where)
        elif isinstance(settings, list | tuple):
            for value in settings:
                self.require_names(value, where)
        elif isinstance(settings, str) and "class_path" in settings:  # a parser might take it for a mapping
            raise self.refusal(settings, where)

    def _is_allowed(self, name: str) -> bool:
        return is_dotted(name) and is_in(name.rpartition(".")[0], self.allow)

    def refusal(self, name: object, where: str, module: str | None = None) -> ConfigurationError:
        """Return the error that refuses a name, and says how to allow it.

        Args:
            name: The name.
            where: What names it.
            module: The module to allow; None for the one that the name begins with.
        """
        if module is None:
            module = name.rpartition(".")[0] if isinstance(name, str) else ""
        module = shortened(module, 100) or "my_module"
        shown = shortened(repr(name), 300)
        advice = f"If you trust {module}: --allow {module} (from Python: allow=[{module!r}])"
        if self.names:  # the command takes a config
            advice += "; a run of your own also resumes with its --config"
        if module == "__main__":
            advice = _of_a_script(str(name))
            if str(name).startswith("python/"):
                advice = (
                    "A script or a notebook defined this task: allow=['__main__'] in the same script, or move it into "
                    "a module before you train, which files can name"
                )
        return ConfigurationError(
            f"{where} names {shown}, which is not this package's or one of the names that files may use. {advice}"
        )


class _TaskGuard(typing.NamedTuple):
    """A guard that admits the tasks that this package and Gymnasium register, and those of allowed modules."""

    trust: Trust
    where: str

    def require_package(self, env_id: str, package: str) -> None:
        is_trusted = package == "seqrl_lightning" or is_in(package, (*self.trust.allow, *OWN_ROOMS))
        if not (is_dotted(package) and is_trusted):
            raise self.trust.refusal(package, self.where, module=package)

    def require_entry_point(self, env_id: str, entry_point: str | EnvMaker) -> None:
        name = entry_point if isinstance(entry_point, str) else _place_of(entry_point)
        module = name.partition(":")[0]
        is_registered = any(name in (spec.entry_point, spec.vector_entry_point) for spec in gym.registry.values())
        if not (is_in(module, self.trust.allow) or (is_registered and is_in(module, TASK_MODULES))):
            raise self.trust.refusal(env_id, self.where, module)


def _place_of(maker: EnvMaker) -> str:
    """Return where a class or a function is defined, as ``module:name``; others have no name."""
    return f"{getattr(maker, '__module__', '')}:{getattr(maker, '__qualname__', '')}"


def _of_a_script(name: str) -> str:
    """Return how to load what a script or a notebook defined: ``__main__`` is another program's now."""
    own = shortened(name.removeprefix("__main__."), 100)
    return (
        f"A script or a notebook defined {own}: give it from Python, as in load_policy(..., network={own}), or move it "
        "into a module (my_networks.py) before you train, which files can name"
    )


def settings_of(hyper_parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's settings without the notes that Lightning keeps among them."""
    return {name: value for name, value in hyper_parameters.items() if name not in ("_instantiator", "_class_path")}


def task_kwargs(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the task that a file holds; whether it opens a window is for its user to say.

    Args:
        data: Settings of the datamodule.
    """
    found = data.get("env_kwargs") or {}
    require(isinstance(found, Mapping), "data.env_kwargs", found, "settings by their names")
    return {name: value for name, value in found.items() if (name, value) != ("render_mode", "human")}


def task_mode(data: Mapping[str, Any]) -> str | None:
    """Return the vectorization mode that a file holds, if it decides which task is made; others start processes.

    Args:
        data: Settings of the datamodule.
    """
    mode = data.get("vectorization_mode")
    return "vector_entry_point" if mode == "vector_entry_point" else None


def names_in(config: object) -> Iterator[str]:
    """Yield every text in a user's own config, at any depth; for a name also that by which its module defines it."""
    if isinstance(config, Mapping):
        config = list(config.values())
    if isinstance(config, list | tuple):
        for value in config:
            yield from names_in(value)
    elif isinstance(config, str):
        yield config
        module, _, name = config.rpartition(".")
        yield from names_of(getattr(sys.modules.get(module), name, None))  # the config's own parser has imported it
    else:
        yield from names_of(config)


def _is_imported(name: str) -> bool:
    """Return whether the module in a full name, like ``my_module.Outer.Mine``, has been imported."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in sys.modules for end in range(len(parts) - 1, 0, -1))


def _is_found(module: str) -> bool:
    """Return whether there is a module of a name; only the packages that it lies in are imported."""
    try:
        return module in sys.modules or find_spec(module) is not None
    except ModuleNotFoundError:
        return False
