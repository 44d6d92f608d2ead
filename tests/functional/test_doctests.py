"""The examples in the docstrings, worked out by hand, are what the functions return."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

from seqrl_lightning import functional

MODULES = [f"{functional.__name__}.{module.name}" for module in pkgutil.iter_modules(functional.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_return_what_they_say(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_rule_has_an_example() -> None:
    modules = [name for name in MODULES if not name.endswith("choices")]
    for module in map(importlib.import_module, modules):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_"):
                assert ">>> " in (function.__doc__ or ""), name
