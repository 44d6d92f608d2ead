"""Text in a task's settings stays text: in configs, run folders, sweeps, and calls from Python."""

import json
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrl_lightning import Agent
from seqrl_lightning.commands.sweep_space import as_arguments
from seqrl_lightning.running.parser import SeqRLArgumentParser
from seqrl_lightning.types import without_marks
from tests.running import seqrl
from tests.test_trust import TINY

ODD = [
    "yes",
    "no",
    "on",
    "off",
    "null",
    "~",
    "1_0",
    "2026-01-01",
    "1e5",
    "1.5e3",
    "0x1f",
    "1:30",
    ".inf",
    ".nan",
    "[1]",
    "{a:1}",
    "012",
    "08",
    "-08",
    "08.5",
    "٣",
    "1:",
    "1.5:",
    "null:",
    "true",
    "-",
    "=",
    "<<",
    "''",
    '"q"',
    "#c",
    "&a",
    "*a",
    "!x",
    "@x",
]
TEXTS = (
    st.sampled_from([*ODD, "", "a: b", "a\nb", " x", "{a: b", "- x", "a\x85b", "None"])
    | st.text(st.characters(min_codepoint=32, max_codepoint=0xD7FF), max_size=6)
    | st.from_regex(r"[-+]?[0-9._:eExX+-]{1,8}", fullmatch=True)
)
NUMBERS = st.integers(-5, 5) | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    TEXTS | NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=3),
    max_leaves=5,
)


def typed(value: Any) -> Any:
    """The value with the types of its parts: True isn't 1."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    return [typed(item) for item in value] if isinstance(value, list) else (type(value), value)


def parser() -> SeqRLArgumentParser:
    found = SeqRLArgumentParser(exit_on_error=False)
    found.add_argument("--data.env_kwargs", type=dict[str, Any] | None)
    return found


def env_kwargs(config: Any) -> Any:
    """As the task gets them."""
    return typed(without_marks(config.as_dict()["data"]["env_kwargs"]))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(kwargs=st.dictionaries(st.sampled_from(["x", "y"]), VALUES, min_size=1, max_size=2))
def test_a_tasks_settings_in_a_file_are_read_and_written_as_they_are(kwargs: dict[str, Any]) -> None:
    first = parser().parse_string(json.dumps({"data": {"env_kwargs": kwargs}}))
    assert env_kwargs(first) == typed(kwargs)
    written = parser().dump(first)
    assert typed(yaml.safe_load(written)["data"]["env_kwargs"]) == typed(kwargs)
    again = parser().parse_string(written)
    assert env_kwargs(again) == typed(kwargs)
    assert env_kwargs(parser().instantiate(again)) == typed(kwargs)


@settings(max_examples=100, deadline=None)
@given(text=TEXTS.filter(lambda text: text[:1] not in ("[", "{")) | st.integers(-5, 5))
def test_a_sweeps_choice_of_a_tasks_setting_stays_what_it_is(text: object) -> None:
    (argument,) = as_arguments({"data.env_kwargs.x": text})
    if isinstance(text, str) and ("\n" in text or text == "--"):  # which argparse drops
        return  # no choice
    assert env_kwargs(parser().parse_args([argument])) == typed({"x": text})


class Keeper(gym.Env[Any, Any]):
    """Keeps its settings for the test."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)
    made_with: list[Any] = []

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        self.made_with.append(typed(settings))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(2, np.float32), 1.0, True, False, {}


gym.register("tests/Keeper-v0", Keeper)
KWARGS = {"x": "yes", "y": ["null", {"z": "1_0", "n": 2}], "day": "2026-01-01", "flag": True}


@pytest.mark.slow
def test_a_runs_config_starts_a_run_with_the_same_settings_of_the_task(tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text(json.dumps({"data": {"env_kwargs": KWARGS}}))
    arguments = [*(argument for argument in TINY if "env_id" not in argument), "--data.env_id=tests/Keeper-v0"]
    Keeper.made_with.clear()
    for number, config in enumerate(("ours.yaml", "lightning_logs/version_0/config.yaml")):
        more = [f"--trainer.default_root_dir={tmp_path}", f"--config={tmp_path / config}"]
        status, _, err = seqrl("fit", *arguments, *more)
        assert status == 0, err
        written = yaml.safe_load((tmp_path / f"lightning_logs/version_{number}/config.yaml").read_text())
        assert typed(written["data"]["env_kwargs"]) == typed(KWARGS)
    status, _, err = seqrl("fit", *arguments, *more, "--ckpt_path=last", "--trainer.max_steps=12")
    assert status == 0, err
    assert all(made == typed(KWARGS) for made in Keeper.made_with)
    assert not re.search("is used from here on", err)


@pytest.mark.parametrize("text", ["yes", "2", "null"])
def test_an_agents_settings_of_the_task_are_those_of_the_call(text: str, tmp_path: Path) -> None:
    Keeper.made_with.clear()
    Agent("tests/Keeper-v0", folder=tmp_path, env_kwargs={"x": text, "y": [text]})
    assert Keeper.made_with
    assert all(made == typed({"x": text, "y": [text]}) for made in Keeper.made_with)
