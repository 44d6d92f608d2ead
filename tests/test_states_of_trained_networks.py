"""The states of trained networks hold what their tasks need, and what an untrained one holds is no sign of learning.

A recurrent network with random weights is a reservoir: a linear decoder reads past inputs from its states. Training
changes how well, for how long, and above all what the choices follow from.
"""

from pathlib import Path

import numpy as np
import pytest

from seqrl_lightning import recording
from seqrl_lightning.analysis.representations import Representation
from seqrl_lightning.policy import Policy, load_policy
from tests.running import seqrl

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parent.parent / "configs"
NUM_SHUFFLES = 20


def measured(policy: Policy, folder: Path) -> Representation:
    recording.write_played(policy, folder / "trials.csv", 400)
    return recording.measure_states(policy, recording.states_in(policy, folder / "trials.csv"), NUM_SHUFFLES)


def trained_and_untrained(config: str, folder: Path, *settings: str) -> tuple[Representation, Representation]:
    flags = [f"--trainer.default_root_dir={folder}", "--trainer.enable_progress_bar=false", "--data.save_replay=false"]
    status, _, err = seqrl("fit", f"--config={CONFIGS / config}", *flags, *settings)
    assert status == 0, err
    policy = load_policy(next(folder.rglob("last.ckpt")))
    return measured(policy, folder), measured(policy.untrained(), folder)


def ahead(found: Representation) -> np.ndarray:
    """The contribution of an observation to a choice, less that of another episode's."""
    assert found.contributions is not None
    return found.contributions.observed - found.contributions.null.mean(0)


def test_recall_holds_all_items_and_each_choice_follows_from_its_own(tmp_path: Path) -> None:
    trained, untrained = trained_and_untrained("recall_gru.yaml", tmp_path, "--agent.max_env_steps=30_000")
    length = 4
    for found in (trained, untrained):
        assert found.item_steps == list(range(length))
        yet_to_come = [found.items.observed[at, :at].max() for at in range(1, length)]
        assert max(yet_to_come) < found.items.threshold
        assert (found.held > found.items.threshold).all()  # an untrained network is a reservoir
    assert trained.held.min() > 0.99
    assert untrained.held.min() < trained.held.min() - 0.05

    # The choice at step 4 + i follows from the observation of step i, and of no other: only after training.
    choices = ahead(trained)[length:, :length]
    np.testing.assert_array_equal(choices.argmax(1), np.arange(length))
    assert trained.contributions.is_above[length:, :length].diagonal().all()
    assert (ahead(untrained)[length:, :length].argmax(1) != np.arange(length)).any()


def test_delayed_recall_keeps_the_cue_and_lets_distractors_go(tmp_path: Path) -> None:
    delay, settings = 10, ["--data.env_kwargs.delay=10", "--agent.max_env_steps=40_000"]
    trained, untrained = trained_and_untrained("delayed_recall_gru.yaml", tmp_path, *settings)
    assert trained.items.observed[0].min() > 0.99  # at every step of the delay and at the answer
    middle = slice(1, delay // 2)
    assert trained.held[middle].max() < untrained.held[middle].min()  # distractors fade sooner than by themselves
    cue, distractors = trained.similarity.observed[0], trained.similarity.observed[1:]
    assert (cue > distractors.max(0)).all()  # the geometry is about the cue throughout
    assert (untrained.similarity.observed[0] < untrained.similarity.observed[1:].max(0)).any()
    answer = ahead(trained)[-1]
    assert answer.argmax() == 0
    assert answer[0] > 5 * answer[1:].max()
