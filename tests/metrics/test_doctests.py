"""The examples in the docstrings of measures and statistics."""

import doctest
from importlib import import_module

import pytest

MODULES = (
    "seqrl_lightning.analysis.geometry",
    "seqrl_lightning.analysis.report",
    "seqrl_lightning.analysis.states",
    "seqrl_lightning.analysis.statistics",
    "seqrl_lightning.analysis.survival",
    "seqrl_lightning.behavior.comparison",
    "seqrl_lightning.behavior.model",
    "seqrl_lightning.behavior.recovery",
    "seqrl_lightning.functional.choices",
    "seqrl_lightning.functional.criterion",
    "seqrl_lightning.metrics.criterion",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_show_what_comes_out(name: str) -> None:
    results = doctest.testmod(import_module(name))
    assert results.attempted > 0
    assert results.failed == 0
