"""Functions that can't remember anything from one call to the next."""

import dis
import inspect
import re
import types

import numpy as np

# Libraries whose functions keep nothing, but for those of random numbers.
_LIBRARIES = frozenset({"builtins", "math", "numpy", "operator", "torch"})
_KEEPING = frozenset({"setattr", "globals", "vars", "exec", "eval", "open"})
# Names of what draws random numbers in NumPy and torch; in torch also with "_" at the end, where it draws in place.
_DRAWING = re.compile(
    r"random|randperm|(rand|randn|randint)(_like)?|normal|log_normal|uniform|bernoulli|binomial|multinomial|poisson|cauchy"
    r"|exponential|geometric|\w*dropout\w*|rrelu\w*|gumbel_softmax|fractional_max_pool\w+|scaled_dot_product_attention"
    r"|gru|lstm|rnn_\w+|miopen_rnn|distributions|init|seed|manual_seed"
)
_WRITING = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR", "IMPORT_NAME"})
_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, np.generic, np.dtype, np.ufunc, type(...))


def has_no_memory(function: object) -> bool:
    """Return whether a function surely has nowhere to remember anything.

    It must be a plain function without a closure that writes no globals or attributes, and its defaults and the globals
    that it names must be constants, parts of NumPy and the like, or functions of this kind.

    Args:
        function: Anything that can be called.
    """
    return _has_no_memory(function, frozenset())


def _has_no_memory(function: object, callers: frozenset[types.FunctionType]) -> bool:
    if not isinstance(function, types.FunctionType) or function.__closure__ or vars(function):
        return False
    if function in callers:  # it calls itself
        return True
    callers |= {function}
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    codes = _codes(function.__code__)
    names = {name for code in codes for name in code.co_names}
    steps = (step for code in codes for step in dis.get_instructions(code))
    if any(map(_keeps_or_draws, names)) or any(step.opname in _WRITING for step in steps):
        return False
    used = [*defaults, *(function.__globals__[name] for name in names if name in function.__globals__)]
    return all(_is_constant(value) or _has_no_memory(value, callers) for value in used)


def _keeps_or_draws(name: str) -> bool:
    return name in _KEEPING or _DRAWING.fullmatch(name.lower().rstrip("_")) is not None


def _codes(code: types.CodeType) -> list[types.CodeType]:
    """Return the code of a function and of those inside it."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return [code, *(found for one in inner for found in _codes(one))]


def _is_constant(value: object) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(_is_constant(item) for item in value)
    if isinstance(value, np.ndarray):
        return not value.flags.writeable
    if isinstance(value, types.ModuleType):
        library, *inner = value.__name__.split(".")
        return library in _LIBRARIES and not any(map(_keeps_or_draws, inner))
    if isinstance(value, _CONSTANTS):
        return True
    is_of_library = str(getattr(value, "__module__", "")).partition(".")[0] in _LIBRARIES
    if not is_of_library or not (inspect.isclass(value) or inspect.isroutine(value)):
        return False
    return not _keeps_or_draws(value.__name__)  # it may be imported by another name
