"""Check that functions and classes keep no state between calls, or only in attributes that are saved."""

import dis
import inspect
import re
import types
from collections.abc import Container, Iterator

import numpy as np

# Libraries whose functions keep nothing, except for those of random numbers.
_LIBRARIES = frozenset({"builtins", "itertools", "math", "numpy", "operator", "seqrl_lightning", "torch"})
_KEEPING = frozenset({"setattr", "globals", "vars", "exec", "eval", "open"})
# Names of what draws random numbers in NumPy and torch; in torch also with "_" at the end, where it draws in place.
_DRAWING = re.compile(
    r"random|randperm|(rand|randn|randint)(_like)?|normal|log_normal|uniform|bernoulli|binomial|multinomial|poisson|cauchy"
    r"|exponential|geometric|\w*dropout\w*|rrelu\w*|gumbel_softmax|fractional_max_pool\w+|scaled_dot_product_attention"
    r"|gru|lstm|rnn_\w+|miopen_rnn|distributions|init|seed|manual_seed"
)
_KEEPING_OF_CLASSES = _KEEPING | {"type", "__class__", "__dict__", "spawn"}  # a generator counts what it spawns
_WRITING_OF_CLASSES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "IMPORT_NAME", "DELETE_ATTR"})
_WRITING = _WRITING_OF_CLASSES | {"STORE_ATTR"}
_LOADING_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"})
_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, np.generic, np.dtype, np.ufunc, type(...))


def has_no_memory(function: object) -> bool:
    """Return whether a function certainly keeps no state between calls.

    It must be a plain function without a closure that writes no globals or attributes, and its defaults and the globals
    that it names must be constants, parts of NumPy and the like, or functions of this kind.

    Args:
        function: Anything that can be called.
    """
    return isinstance(function, types.FunctionType) and _Checker(may_write_attributes=False).has_no_memory(function)


def remembers_elsewhere(kind: type, inherited: Container[str], left_out: Container[str]) -> bool:
    """Return whether a class may keep state anywhere but in the attributes of its objects.

    Its methods must be like the functions of :func:`has_no_memory`, but may write attributes and draw from a generator
    that they are given; its own attributes must be constants.

    Args:
        kind: The class, without its bases.
        inherited: Names of the bases' attributes, whose values don't matter if they are data.
        left_out: Names of methods that don't matter.
    """
    for name, value in vars(kind).items():
        if name in left_out or (name.startswith("__") and not isinstance(value, types.FunctionType)):
            continue
        functions = _functions(value)
        if functions is None:
            is_data = not (callable(value) or hasattr(value, "__get__"))
            if not is_constant(value) and not (is_data and name in inherited):
                return True
        elif not all(map(_Checker(may_write_attributes=True).has_no_memory, functions)):
            return True
    return False


def written_attributes(value: object) -> set[str]:
    """Return the names of the attributes that a method or a property writes."""
    codes = (code for function in _functions(value) or () for code in _codes(function.__code__))
    return {step.argval for code in codes for step in dis.get_instructions(code) if step.opname == "STORE_ATTR"}


def methods(kind: type, left_out: Container[str]) -> set[types.FunctionType]:
    """Return the methods of a class and the functions that they call by a global name, except for libraries'.

    Args:
        kind: The class, without its bases.
        left_out: Names of methods that don't matter.
    """
    found: set[types.FunctionType] = set()
    values = (value for name, value in vars(kind).items() if name not in left_out)
    new: list[object] = [function for value in values for function in _functions(value) or ()]
    while new:
        function = new.pop()
        if isinstance(function, types.FunctionType) and not (function in found or is_constant(function)):
            found.add(function)
            new += _used(function)
    return found


def loaded_attributes(function: types.FunctionType) -> Iterator[tuple[str, ...]]:
    """Yield the attributes that a function reads, ``("rule", "limit")`` for ``self.rule.limit``.

    Texts are among them: they may name an attribute, too.
    """
    for code in _codes(function.__code__):
        chain: tuple[str, ...] = ()
        for step in dis.get_instructions(code):
            if step.opname in _LOADING_ATTRIBUTES:
                chain += (step.argval,)
                continue
            if chain:
                yield chain
            chain = ()
            if step.opname == "LOAD_CONST" and isinstance(step.argval, str):
                yield (step.argval,)


def constants_in(function: types.FunctionType) -> list[object]:
    """Return the constants of a function, its defaults, and the constants of its module that it names."""
    own = [constant for code in _codes(function.__code__) for constant in code.co_consts]
    return [value for value in (*own, *_used(function)) if is_constant(value)]


def _functions(value: object) -> list[types.FunctionType] | None:
    """Return the functions of an attribute of a class; None if it is no method or property."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    parts = (value.fget, value.fset, value.fdel) if isinstance(value, property) else (value,)
    functions = [part for part in parts if isinstance(part, types.FunctionType)]
    return functions or None


class _Checker:
    """Check functions, and the functions that they call.

    Args:
        may_write_attributes: Whether they are methods, whose objects' attributes are known.
    """

    def __init__(self, may_write_attributes: bool) -> None:
        self._is_method = may_write_attributes
        self._writing = _WRITING_OF_CLASSES if may_write_attributes else _WRITING
        self._seen: set[types.FunctionType] = set()

    def has_no_memory(self, function: types.FunctionType) -> bool:
        """Return whether a function keeps no state between calls."""
        if function in self._seen:  # it calls itself
            return True
        self._seen.add(function)
        encloses = set(function.__code__.co_freevars) - ({"__class__"} if self._is_method else set())  # super()'s
        if encloses or vars(function):
            return False
        names = _names(function)
        steps = [step for code in _codes(function.__code__) for step in dis.get_instructions(code)]
        if any(step.opname in self._writing for step in steps) or self._keeps_or_draws(names, steps, function):
            return False
        return all(
            is_constant(value) or (isinstance(value, types.FunctionType) and self.has_no_memory(value))
            for value in _used(function)
        )

    def _keeps_or_draws(self, names: set[str], steps: list[dis.Instruction], function: types.FunctionType) -> bool:
        """Return whether code names an object that keeps state, or draws from a shared random generator."""
        if not self._is_method:
            return any(map(_keeps_or_draws, names))
        is_of_module = False
        for step in steps:
            if step.opname == "LOAD_GLOBAL":
                is_of_module = isinstance(function.__globals__.get(step.argval), types.ModuleType)
            elif is_of_module and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                if _keeps_or_draws(step.argval):
                    return True
            else:
                is_of_module = False
        names = names | {step.argval for step in steps if step.opname == "LOAD_CONST" and isinstance(step.argval, str)}
        return any(name in _KEEPING_OF_CLASSES or (name.endswith("_") and _keeps_or_draws(name)) for name in names)


def _keeps_or_draws(name: str) -> bool:
    return name in _KEEPING or _DRAWING.fullmatch(name.lower().rstrip("_")) is not None


def _names(function: types.FunctionType) -> set[str]:
    """Return the names of the globals and attributes in a function."""
    return {name for code in _codes(function.__code__) for name in code.co_names}


def _used(function: types.FunctionType) -> list[object]:
    """Return the defaults of a function and the globals that it names."""
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return [*defaults, *(function.__globals__[name] for name in _names(function) if name in function.__globals__)]


def _codes(code: types.CodeType) -> list[types.CodeType]:
    """Return the code of a function and of those inside it."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return [code, *(found for one in inner for found in _codes(one))]


def is_constant(value: object) -> bool:
    """Return whether a value can't change: a number, text, read-only array, part of a library, or a tuple of those."""
    if isinstance(value, tuple | frozenset):
        return all(is_constant(item) for item in value)
    if isinstance(value, np.ndarray):
        return not value.flags.writeable
    if isinstance(value, types.ModuleType):
        library, *inner = value.__name__.split(".")
        return library in _LIBRARIES and not any(map(_keeps_or_draws, inner))
    if isinstance(value, _CONSTANTS):
        return True
    if isinstance(value, types.MethodType) and not is_constant(value.__self__):  # it may change its object
        return False
    is_of_library = str(getattr(value, "__module__", "")).partition(".")[0] in _LIBRARIES
    if not is_of_library or not (inspect.isclass(value) or inspect.isroutine(value)):
        return False
    return not _keeps_or_draws(value.__name__)  # it may be imported by another name
