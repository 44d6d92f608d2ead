"""Any config either trains or ends in one line that names the setting."""

import copy
import sys
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st

from seqrl_lightning.cli import main

CONFIG: dict[str, Any] = {
    "seed_everything": 1,
    "torch_threads": 1,
    "data": {
        "env_id": "seqrl/Sequence-v0",
        "env_kwargs": {"objects": "ABC", "blocks": [{"sequence": "ABC", "episodes": 3}, {"sequence": "reversed"}]},
        "num_envs": 2,
        "batch_size": 4,
        "capacity": 40,
        "batches_per_epoch": 3,
        "eval_episodes": 1,
        "eval_seed": 5,
        "sampler": {"class_path": "PrioritizedSampler", "init_args": {"n_step": 2, "alpha": 0.5, "beta": 0.4}},
    },
    "model": {
        "class_path": "DQN",
        "init_args": {
            "network": {"class_path": "MLP", "init_args": {"hidden_sizes": [4]}},
            "learning_rate": 0.001,
            "gamma": 0.9,
            "huber_delta": 1.0,
            "clip_grad_norm": 1.0,
            "updates_per_step": 1,
        },
    },
    "agent": {
        "warmup_env_steps": 8,
        "env_steps_per_update": 1.0,
        "updates_per_collect": 1,
        "epsilon": {"class_path": "LinearEpsilon", "init_args": {"start": 1.0, "end": 0.1, "decay_env_steps": 10}},
        "max_env_restarts": 3,
    },
    "target_sync": {"sync_every_updates": 1, "tau": 0.5},
    "skipped_updates": {"max_skipped_updates": 3},
    "trainer": {
        "max_steps": 4,
        "log_every_n_steps": 2,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
    },
}
# Of Lightning's own settings only those that a run here needs; it says itself what is wrong with the others.
_LIGHTNINGS = ("enable_progress_bar", "enable_model_summary", "enable_checkpointing", "logger", "log_every_n_steps")
VALUES = st.one_of(
    st.sampled_from([-1, 0, 1, 2, 3, 7, 41, -0.5, 0.5, 1.5, True, False, None, "", "x", "1e3", "ABD", "reversed"]),
    st.sampled_from([[], [0], [-1, 2], [""], {}, {"x": 1}, {"class_path": "x"}, float("nan"), float("inf"), [[1]]]),
    st.floats(-10, 10),
    st.text("ABCx0-.{[:", max_size=4),
)


def settings_of(config: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every setting, whole sections included."""
    items = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    inner = [way for key, value in items if key not in _LIGHTNINGS for way in settings_of(value, (*path, key))]
    return [path, *inner] if path else inner


CHANGES = st.lists(
    st.tuples(st.sampled_from(settings_of(CONFIG)), st.one_of(st.just("missing"), st.just("unknown"), VALUES)),
    min_size=1,
    max_size=2,
)


def changed(changes: list[tuple[tuple[Any, ...], Any]]) -> dict[str, Any]:
    """The config with settings replaced, left out, or joined by one that there isn't."""
    config = copy.deepcopy(CONFIG)
    for path, value in changes:
        section: Any = config
        for key in path[:-1]:
            section = section[key] if isinstance(section, dict | list) and _has(section, key) else None
        if not (isinstance(section, dict | list) and _has(section, path[-1])):
            continue  # an earlier change took it away
        if value == "missing":
            del section[path[-1]]
        elif value == "unknown" and isinstance(section, dict):
            section["unheard_of"] = 1
        else:
            section[path[-1]] = value
    return config


def _has(section: Any, key: Any) -> bool:
    return key in section if isinstance(section, dict) else isinstance(key, int) and key < len(section)


@pytest.mark.slow
@hypothesis.settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
@hypothesis.given(changes=CHANGES)
def test_any_config_ends_in_one_line_or_trains(
    changes: list[tuple[tuple[Any, ...], Any]],
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder: Path = tmp_path_factory.mktemp("config")
    (folder / "config.yaml").write_text(yaml.safe_dump(changed(changes)))
    args = ["fit", f"--config={folder / 'config.yaml'}", f"--trainer.default_root_dir={folder}"]
    monkeypatch.setattr(sys, "argv", ["seqrl", *args])
    capsys.readouterr()
    try:
        main()
        return
    except SystemExit as stop:
        status = stop.code
    errors = capsys.readouterr().err
    assert status == 2, errors  # a setting's fault, not the program's
    assert "Traceback" not in errors
    line = errors.strip().splitlines()[-1]
    assert line.startswith("seqrl: error: ")
    names = {str(key) for path, _ in changes for key in path if isinstance(key, str)} | {"unheard_of", "nothing ends"}
    assert any(name in line for name in names), line
