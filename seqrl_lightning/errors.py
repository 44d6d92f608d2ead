"""Error messages of one line that name the setting."""

import argparse
import difflib
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from seqrl_lightning.launched import ERROR, report
from seqrl_lightning.types import ConfigurationError, RunError, one_line, printable, shortened

KEY = re.compile(r'Parser key "([\w.]+)":')
"""The setting, or a part of its name, in jsonargparse's messages."""
_NESTING = re.compile(  # jsonargparse's lines on the types that it tried, around the one line with the reason
    r"\s*(-? ?Does not validate against.*|Subtypes: .*|Errors:|Given value.*|- Expected a <class 'NoneType'>"
    r"|- Expected a path .*|-? ?Problem with given class_path '.*':)"
)
_UNION = re.compile(r"^Does not validate against any of the Union subtypes - ")
_UNKNOWN = re.compile(  # the ways in which jsonargparse says so
    r"(?:Option '(\w+)' is not accepted|[Uu]nrecognized arguments: --([\w.]+).*|.*Key '([\w.]+)' is not expected.*"
    r"|Subcommand '\w+' does not accept option '([\w.]+)')"
)
# Settings that every learner took before, and that some of them ignored.
_MUNCHAUSEN = " of this learner; leave it out (DQN, QRDQN and IQN have it)"
_OF_OTHER_LEARNERS = {
    "model.double": " of this learner; leave it out (DQN, QRDQN, IQN and C51 have it)",
    "model.huber_delta": " of C51, whose loss is a cross-entropy; leave it out",
    "model.lambda_": " of this learner; leave it out (QLambda and PQN have it)",
    "model.munchausen_alpha": _MUNCHAUSEN,
    "model.munchausen_temperature": _MUNCHAUSEN,
    "model.munchausen_clip": _MUNCHAUSEN,
    "model.updates_per_step": " of PQN, whose updates follow from epochs and minibatches; leave it out",
}
_OTHER_NAMES = {"lr": "model.learning_rate", "seed": "seed_everything"}  # of other libraries, for settings of this one
_OTHER_COMMANDS = {
    **dict.fromkeys(("train", "learn", "run"), "fit"),
    **dict.fromkeys(("eval", "evaluate"), "test"),
    **dict.fromkeys(("plot", "report"), "analyse"),
}
_EXAMPLES = {  # of abstract classes
    "lightning.pytorch.loggers.Logger": "TensorBoardLogger",
    "seqrl_lightning.replay.Sampler": "UniformSampler",
}
_MISSING = re.compile(r"the following arguments are required: (.*)")
_CALLABLE = re.compile(r"\s*-? ?Type \S+Callable\[.*\] expects a function or a callable class: ")
_EXPECTED = re.compile(r"(?:- )?Expected an? (?:<class '(\w+)'>|typing\.Literal\[(.*?)\])(?:\. Got value: (.*))?")
_POSITIVE = re.compile(r"Not of type Positive(Int|Float): (?:(\S+) does not|.*'(.*)'$)?", re.MULTILINE)
_TYPES = {  # Python's names of the types that settings have, in the words of YAML
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping of names to values",
    "NoneType": "null",
}


def shorten_message(message: str, settings: Iterable[str] = (), classes: Iterable[str] = ()) -> str:
    """Shorten a parser's message to the setting's name and the reason.

    Args:
        message: The message.
        settings: Names of settings, with their prefixes, to suggest where one was misspelled.
        classes: Names of classes, likewise.
    """
    key = ".".join(KEY.findall(message))
    lines = [_CALLABLE.sub("", line) for line in KEY.sub("", message).splitlines() if not _NESTING.fullmatch(line)]
    if positive := _POSITIVE.search(message):
        value = positive[2] or positive[3] or _given_value(message)
        return f"{key} is {value!r}; it must be a {'whole number' if positive[1] == 'Int' else 'number'} above 0"
    if expected := _expected(lines, message):
        return f"{key} {expected}"
    reason = one_line(" ".join(lines)).removeprefix("- ")
    reason = _UNION.sub("", reason).split(". Got value: Namespace(")[0]
    if unknown := _UNKNOWN.fullmatch(reason):
        name = next(filter(None, unknown.groups()))
        setting = f"{key}.{name}" if key else name
        hint = _OF_OTHER_LEARNERS.get(setting) or suggested_setting(setting, settings)
        return f"{setting} is not a setting{hint}"
    if abstract := re.search(r"Expected an instantiatable class, but ([\w.]+) is abstract", reason):
        return f"{key} has settings but no class; name one first, as in --{key} {_EXAMPLES.get(abstract[1], 'NAME')}"
    if not_found := re.search(r"Expected a dot import path string: (\w+)", reason):
        must_be = "the name of a class, or where to import it from"
        return f"{key} is {not_found[1]!r}; it must be {must_be}{suggestion(not_found[1], classes)}"
    if no_part := re.search(r"module '([\w.]+)' has no attribute '(\w+)'\. Got value: ([\w.]+)", reason):
        names = [f"{no_part[1]}.{name}" for name in dir(sys.modules.get(no_part[1]))]
        return f"{key} is {no_part[3]!r}, which doesn't exist{suggestion(no_part[3], names)}"
    if extra := re.fullmatch(r"[Uu]nrecognized arguments: ([^-].*)", reason):
        value = extra[1].split()[0]
        option = "ckpt_path" if value.endswith(".ckpt") else "config"
        return f"{extra[1]!r} follows no setting; settings begin with --, as in --{option} {value}"
    if choice := re.match(r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", reason):
        names = re.findall(r"[\w.-]+", choice[3])
        return f"{choice[1]} is {choice[2]!r}; it must be one of {', '.join(names)}{suggestion(choice[2], names)}"
    return f"{key}: {reason}" if key else reason


def _expected(lines: list[str], message: str) -> str:
    """Say what a value must be whose types and choices jsonargparse lists, one a line.

    Args:
        lines: The lines of its message that aren't about nesting.
        message: All of it.

    Returns:
        The end of the sentence that begins with the setting; empty if the message is about something else.
    """
    tried = [_EXPECTED.fullmatch(line.strip()) for line in lines if line.strip()]
    found = [match for match in tried if match is not None]
    value = next((match[3] for match in found if match[3]), _given_value(message))
    if not found or len(found) < len(tried) or value is None:
        return ""
    value = re.sub(r"\. Got value: Namespace\(.*", "", value)
    choices = [name for literal in re.findall(r"Literal\[(.*?)\]", message) for name in literal.split(", ")]
    if any(name.isdecimal() for name in choices):  # a choice of numbers, not any number
        found = [match for match in found if match[1] != "int"]
    names = list(dict.fromkeys(name.strip("'") for name in choices))
    kinds = list(dict.fromkeys(_TYPES.get(match[1], f"a {match[1]}") for match in found if match[1]))
    if not names:
        return f"is {value!r}; it must be {' or '.join(kinds)}"
    must_be = f"{', '.join(kinds)} or one of " if kinds else "one of "
    return f"is {value!r}; it must be {must_be}{', '.join(names)}{suggestion(value, [*names, 'true', 'false'])}"


def _given_value(message: str) -> str | None:
    given = re.search(r"^\s*Given value: (.*)$", message, re.MULTILINE)
    return given[1] if given else None


def require_known(setting: str, value: object, known: Iterable[str | None]) -> None:
    """Refuse a name that isn't known, with the nearest one that is.

    Raises:
        ConfigurationError: If it isn't.
    """
    choices = list(known)
    if value not in choices:
        names = sorted("null" if choice is None else choice for choice in choices)
        hint = suggestion(str(value), names)
        must_be = f"{' It' if hint else '; it'} must be one of {', '.join(names)}"
        raise ConfigurationError(f"{setting} is {value!r}{hint}{must_be}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the question whether another name was meant; empty if none is near."""
    names = {_own_part(other): other for other in known}
    meant = _own_part(name)
    near = [other for other in names if other == _OTHER_COMMANDS.get(meant)]
    near = near or difflib.get_close_matches(meant, names, 1)
    near = near or [other for other in names if len(meant) > 2 and meant in other][:1]
    return "".join(f"; did you mean {names[other]!r}?" for other in near)


def _own_part(name: str) -> str:
    """Return what distinguishes a name from others, in lower case: ``recall`` of ``seqrl/Recall-v0``."""
    return re.sub(r"^.*/|-v\d+$", "", name.lower())


def suggested_setting(setting: str, known: Iterable[str]) -> str:
    """Return the question whether another setting was meant: of the same name elsewhere, a longer one, or a near one.

    Args:
        setting: A name that isn't a setting here, with its prefix.
        known: Names of settings, with their prefixes.

    Returns:
        The question; empty if no setting is near, or if it is a setting of another class in this place.
    """
    known = set(known)
    prefix, _, name = setting.rpartition(".")
    if setting in known:
        return ""
    if name in _OTHER_NAMES:
        return f"; did you mean {_OTHER_NAMES[name]!r}?"
    near = difflib.get_close_matches(name, sorted({other.rpartition(".")[2] for other in known}), 1)
    meant = (
        [other for other in known if other.rpartition(".")[2] == name]
        or [other for other in known if other.startswith(f"{setting}_")]
        or [other for other in known if other.rpartition(".")[2] in near]
    )
    return f"; did you mean {min(meant, key=lambda other: _distance(other, prefix))!r}?" if meant else ""


def _distance(setting: str, prefix: str) -> tuple[bool, int, str]:
    """Order settings: those under a prefix first, then those at a lesser depth, then by their names."""
    return not setting.startswith(f"{prefix}."), setting.count("."), setting


def fail(message: str, status: int = 2) -> NoReturn:
    """Exit with an error message of one line."""
    line = printable(shortened(message))
    sys.stderr.write(f"seqrl: error: {line}\n")
    report(ERROR + line)
    sys.exit(status)


class HelpFormatter(DefaultHelpFormatter):
    """jsonargparse's help in users' words: no Python class as a type, and no default that a sentence has stated."""

    def _get_type_str(self, action: argparse.Action) -> str | None:
        shown: str | None = super()._get_type_str(action)
        for cls, name in ((Path, "path"), (dict, "mapping")):
            shown = shown and shown.replace(f"<class '{cls.__name__}'>", name)
        return shown

    def _get_help_string(self, action: argparse.Action) -> str:
        shown: str = super()._get_help_string(action)
        if action.default in (None, []) and "by default" in (action.help or ""):
            return shown.replace(", default: %(default)s", "").replace(" (default: %(default)s)", "")
        return shown


class OneLineErrors(ArgumentParser):
    """A parser whose error messages are one line, without the list of all options.

    It refuses an abbreviated name like any other that isn't one, as files and Python do.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", HelpFormatter)
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def explain(self, message: str) -> str:
        """Return a message as one line."""
        return shorten_message(message, [action.dest for action in self._actions])

    def hint_of_missing(self, names: list[str]) -> str:
        """Say what to do where arguments are missing."""
        return f"`{self.prog} --help` describes the arguments"

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the reason and exit with status 2."""
        if not self.exit_on_error:  # an inner parser of jsonargparse's: its message becomes part of an outer one
            super().error(message, ex)
        if missing := _MISSING.fullmatch(message):
            positional = {action.dest: action.metavar for action in self._actions if not action.option_strings}
            names = [name.removeprefix("fit.") for name in missing[1].split(", ")]
            labels = [str(positional[name] or name).upper() if name in positional else f"--{name}" for name in names]
            fail(f"{', '.join(labels)}: missing; {self.hint_of_missing(names)}")
        fail(self.explain(message))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn any exception into an exit with one line; with ``SEQRL_TRACEBACK=1``, let it through with its traceback."""
    if os.environ.get("SEQRL_TRACEBACK", "0") != "0":
        yield
        return
    threading.excepthook = _leave_to_caller
    try:
        yield
    except Exception as error:  # of whatever kind
        if (refusal := refusal_in(error)) is not None:
            fail(one_line(refusal))
        message = one_line(error)
        if isinstance(error, RunError):
            fail(message, status=1)
        fail(f"{type(error).__name__}: {message} (SEQRL_TRACEBACK=1 shows where)", status=1)


def refusal_in(error: Exception) -> ConfigurationError | None:
    """Return the refusal of a setting that an error stands for; jsonargparse wraps what the classes raise it builds."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigurationError):
            return cause
        cause = cause.__cause__
    if isinstance(error, ValueError) and "Does not validate against" in str(error):
        return ConfigurationError(shorten_message(str(error)))
    return None


@contextmanager
def refused_in_a_line(source: str) -> Iterator[None]:
    """Say in one line what settings from a file lead to.

    Raises:
        ConfigurationError: If they can't be used.
    """
    try:
        yield
    except ConfigurationError as error:
        if source in str(error):
            raise
        raise ConfigurationError(f"{source} can't be used: {error}") from error
    except MemoryError as error:
        reason = "it takes more memory than there is, or than the limit max_gib"
        detail = f" ({error})" if str(error) else ""
        raise ConfigurationError(f"{source} can't be used: {reason}{detail}") from error
    except Exception as error:  # whatever a class makes of settings that don't fit it
        raise ConfigurationError(
            f"{source} can't be used: {shortened(shorten_message(str(error)), 600) or type(error).__name__}"
        ) from error


def _leave_to_caller(failure: threading.ExceptHookArgs) -> None:
    """Print nothing about a thread that couldn't write a file: whoever gave it something to write gets the error."""
    if not issubclass(failure.exc_type, OSError):
        threading.__excepthook__(failure)


_EXTRA_OF = {
    "atari": r"Namespace ALE|ale_py|\bcv2\b|opencv",
    "box2d": r"Box2D",
    "minigrid": r"No module named 'minigrid",
    "neurogym": r"No module named 'neurogym",
    "popgym": r"No module named 'popgym",
}
_BESIDE_EXTRA = {"neurogym": " && pip install --no-deps neurogym"}  # which asks for an old version of Gymnasium


def extra_in(message: str) -> str:
    """Return what to install if a message says that an environment's package is missing; else an empty text."""
    for extra, pattern in _EXTRA_OF.items():
        if re.search(pattern, message):
            return f'it needs the extra `{extra}`: pip install "seqrl-lightning[{extra}]"{_BESIDE_EXTRA.get(extra, "")}'
    return ""


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Guard imports of packages that only an extra installs.

    Args:
        extra: Name of the extra in pyproject.toml.

    Raises:
        ConfigurationError: If one of the packages is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        command = f'pip install "seqrl-lightning[{extra}]"'
        raise ConfigurationError(f"this needs {error.name}, which the extra `{extra}` installs: {command}") from error
