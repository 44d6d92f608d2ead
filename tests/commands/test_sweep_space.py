from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from seqrl_lightning.commands.sweep_space import as_arguments, boundary_values, read_space
from seqrl_lightning.types import ConfigurationError

SPACE = """
model.init_args.learning_rate: {low: 1e-4, high: 1.0e-2, log: true}
model.init_args.gamma: {low: 0.5, high: 0.99, step: 0.1}
data.batch_size: {low: 16, high: 50, step: 16}
agent.warmup_env_steps: {low: 1, high: 64, log: true}
data.sampler: {choices: [UniformSampler, null, {class_path: PrioritizedSampler}]}
model.init_args.double: {choices: [true, false]}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text)
    return path


def test_ranges_and_choices(tmp_path: Path) -> None:
    space = read_space(write(tmp_path, SPACE))
    assert list(space.values()) == [
        FloatDistribution(1e-4, 1e-2, log=True),
        FloatDistribution(0.5, 0.9, step=0.1),  # as far as the steps go
        IntDistribution(16, 48, step=16),
        IntDistribution(1, 64, log=True),
        CategoricalDistribution(("UniformSampler", "null", '{"class_path": "PrioritizedSampler"}')),
        CategoricalDistribution((True, False)),
    ]


def test_lows_highs_and_every_choice_are_tried(tmp_path: Path) -> None:
    space = read_space(write(tmp_path, "a.b: {low: 1, high: 3}\nc.d: {choices: [x, y, z]}"))
    assert list(boundary_values(space)) == [{"a.b": 1, "c.d": "x"}, {"a.b": 3, "c.d": "y"}, {"a.b": 3, "c.d": "z"}]


def test_values_as_they_stand_in_a_config() -> None:
    values = {"a": 7 * 0.1, "b": 1e-05, "c": 3, "d": True, "e": "null", "f": "[64, 64]"}
    assert as_arguments(values) == ["--a=0.7", "--b=1e-05", "--c=3", "--d=true", "--e=null", "--f=[64, 64]"]


HOSTILE = {
    "a: [": "isn't YAML: ",
    "": "is None; it must be settings by their names",
    "3": "is 3; it must be settings by their names",
    "3: {low: 1, high: 2}": "is 3; it must be a setting's name in the config",
    "print_config: {low: 1, high: 2}": "is 'print_config'; it must be a setting's name in the config",
    "a.b: 3": "a.b in space.yaml is 3; it must be {low: ..., high: ...}",
    "a.b: {low: 1}": "a.b in space.yaml is {'low': 1}; it must be {low: ..., high: ...}",
    "a.b: {low: 1, high: 2, base: 3}": "'base': 3}; it must be {low: ..., high: ...}",
    "a.b: {choices: [1], log: true}": "'log': True}; it must be {low: ..., high: ...}",
    "a.b: {choices: []}": "choices of a.b in space.yaml is []; it must be a list of values",
    "a.b: {choices: [1, 1]}": "choices of a.b in space.yaml is [1, 1]; it must be without duplicates",
    "a.b: {low: 2, high: 2}": "low of a.b in space.yaml is 2; it must be less than high = 2",
    "a.b: {low: x, high: 2}": "low of a.b in space.yaml is 'x'; it must be a finite number",
    "a.b: {low: true, high: 2}": "low of a.b in space.yaml is True; it must be a finite number",
    "a.b: {low: 0, high: .inf}": "high of a.b in space.yaml is inf; it must be a finite number",
    "a.b: {low: 0, high: 2, log: true}": "low of a.b in space.yaml is 0; it must be positive with `log: true`",
    "a.b: {low: 1, high: 2, log: 10}": "log of a.b in space.yaml is 10; it must be true or false",
    "a.b: {low: 1, high: 2, log: true, step: 1}": "step of a.b in space.yaml is 1; it must be left out with `log",
    "a.b: {low: 1, high: 2, step: 0}": "step of a.b in space.yaml is 0; it must be positive, and at most high - low",
    "a.b: {low: 1, high: 2, step: 3}": "step of a.b in space.yaml is 3; it must be positive, and at most high - low",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_space_that_is_none(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, text)
    with pytest.raises(ConfigurationError) as error:
        read_space(Path("space.yaml"))
    assert HOSTILE[text] in str(error.value)
    assert "\n" not in str(error.value)


def test_no_space_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="it must be a YAML file"):
        read_space(tmp_path)
