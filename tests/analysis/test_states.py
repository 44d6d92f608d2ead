"""Labels of steps, and episodes side by side."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest

from seqrl_lightning.analysis.states import (
    MOST_STEPS,
    Observations,
    States,
    aligned,
    delays,
    labels_of,
    ordered,
    table_of,
    write_arrays,
)
from seqrl_lightning.analysis.trials import read_trials
from seqrl_lightning.metrics import TaskFacts
from seqrl_lightning.types import ConfigurationError

SYMBOLS = TaskFacts(num_symbols=3)


def table(folder: Path, rows: list[tuple[int, int, list[float], int, int]]) -> Path:
    """Writes a table of trials: episode, trial, observation, action and right action of each."""
    path = folder / "trials.csv"
    columns = ["episode", "trial", "state", "action", "correct_action"]
    frame = pd.DataFrame([(e, t, json.dumps(shown), *rest) for e, t, shown, *rest in rows], columns=columns)
    frame.assign(env=0, block=2, reward=0.5).to_csv(path, index=False)
    return path


def labels(folder: Path, rows: list[tuple[int, int, list[float], int, int]], facts: TaskFacts) -> pd.DataFrame:
    return labels_of(ordered(read_trials(table(folder, rows), facts)), facts)


def test_steps_are_labeled_by_what_is_shown(tmp_path: Path) -> None:
    found = labels(
        tmp_path,
        [
            (7, 0, [0, 1, 0, 0.5], 0, -1),
            (7, 1, [0, 0, 1, 0.5], 2, -1),
            (7, 2, [0, 0, 0, 1.0], 1, 1),
            (8, 0, [0, 0, 0, 1.0], 1, 1),  # the symbol of the episode before doesn't count
        ],
        SYMBOLS,
    )
    assert found["episode"].tolist() == [0, 0, 0, 1]
    assert found["trial"].tolist() == [0, 1, 2, 0]
    assert found["item"].tolist() == [1, 2, -1, -1]
    assert found["delay"].tolist() == [-1, -1, 2, -1]
    assert found["position"].tolist() == [-1, -1, 0, 0]  # answers before this one
    assert found["context"].tolist() == [-1] * 4
    assert found["action"].tolist() == [0, 2, 1, 1]
    assert found["reward"].tolist() == [0.5] * 4


def test_actions_are_the_items_of_tasks_without_symbols_and_contexts_are_shown_last(tmp_path: Path) -> None:
    rows = [(0, 0, [1, 0, 0, 1], 2, 0), (0, 1, [0, 1, 0, 1], 1, 1)]
    found = labels(tmp_path, rows, TaskFacts(num_positions=2, num_contexts=2))
    assert found["item"].tolist() == [2, 1]
    assert found["context"].tolist() == [1, 1]
    assert found["position"].tolist() == [0, 1]
    found = labels(tmp_path, [(0, 0, [0.3, 0.2, -0.1], 2, 0)], SYMBOLS)  # no symbols, whatever the attribute says
    assert found["item"].tolist() == [2]
    assert labels(tmp_path, [(0, 0, [[0, 1], [1, 0]], 1, 0)], SYMBOLS)["item"].tolist() == [1]  # stacked


def test_tasks_tell_where_symbols_and_contexts_are_shown() -> None:
    env = gym.make("seqrl/ContextSequence-v0", contexts=["ABCDE", "reversed", "swap_2_4"])
    facts = TaskFacts.of(env.unwrapped)
    assert facts.num_contexts == 3
    assert env.reset(seed=0)[0][-3:].sum() == 1
    env = gym.make("seqrl/Recall-v0", num_symbols=5)
    assert TaskFacts.of(env.unwrapped).num_symbols == 5
    assert env.reset(seed=0)[0][:5].sum() == 1


def test_a_delay_is_counted_from_the_last_showing() -> None:
    rows = pd.DataFrame({"episode": [0] * 4, "item": [1, 1, 0, -1], "correct_action": [-1, -1, 1, 0]})
    assert delays(rows).tolist() == [-1, -1, 1, 1]


def states(lengths: list[int]) -> States:
    """States whose unit is 100 * episode + step."""
    rows = [(episode, step) for episode, length in enumerate(lengths) for step in range(length)]
    frame = pd.DataFrame(rows, columns=["episode", "trial"]).assign(item=lambda t: t["episode"] % 2, action=1)
    frame["position"] = frame["trial"] * 2
    units = (100 * frame["episode"] + frame["trial"]).to_numpy(np.float32)[:, None]
    seen = Observations(np.zeros((0, 0)), np.zeros((0, 0), bool))
    return States("net", frame, units, seen, units[:, None], has_positions=True)


def test_episodes_are_laid_side_by_side_up_to_where_nearly_all_of_them_go(tmp_path: Path) -> None:
    found = aligned(states([2, *[5] * 20, 7]))
    assert found.kept.tolist() == list(range(1, 22))
    assert found.units.shape == (21, 5, 1)
    np.testing.assert_array_equal(found.units[:, 3, 0], 100 * found.kept + 3)
    np.testing.assert_array_equal(found.position[0], [0, 2, 4, 6, 8])
    assert found.item_steps == list(range(5))
    assert found.reference_step == 4
    assert aligned(states([MOST_STEPS + 5] * 20)).units.shape[1] == MOST_STEPS
    with pytest.raises(ConfigurationError, match="episodes is 19; it must be at least 20"):
        aligned(states([3] * 19))


def test_states_are_written_with_their_labels(tmp_path: Path) -> None:
    one = states([2, 3])
    write_arrays(one, tmp_path / "states.npz")
    with np.load(tmp_path / "states.npz") as read:
        assert set(read) == {*one.labels, "units", "state"}
        assert read["state"].shape == (5, 1, 1)
        np.testing.assert_array_equal(read["trial"], [0, 1, 0, 1, 2])
        np.testing.assert_array_equal(read["units"][:, 0], 100 * read["episode"] + read["trial"])
    both = table_of([one, one])
    assert len(both) == 10
    assert {"network", "item", "unit_0"} <= set(both)
