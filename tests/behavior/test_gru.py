"""The recurrent network that predicts choices."""

import numpy as np
import pytest
import torch

from seqrl_lightning.behavior.comparison import held_out
from seqrl_lightning.behavior.gru import TinyGRU, batch_of, held_out_by_network
from seqrl_lightning.behavior.histories import Histories
from seqrl_lightning.behavior.model import find_model
from tests.behavior.tables import histories_of

WATCHED = np.arange(60)[:, None] % 10 == np.arange(6)


@pytest.fixture(scope="module")
def alternating() -> Histories:
    """Subjects that alternate between two actions, whatever they earn: no value learner does."""
    rng = np.random.default_rng(0)
    rows = [(n, t // 20, 0, (t + n) % 2, float(rng.integers(2))) for n in range(6) for t in range(60)]
    return histories_of(rows, "subject block state action reward")


@pytest.mark.slow
def test_it_predicts_what_value_learners_cannot(alternating: Histories) -> None:
    state = torch.random.get_rng_state()
    by_network = held_out_by_network(alternating, units=2).sum() / 360
    assert by_network > -0.1
    assert held_out(find_model("QLearning"), alternating, "map").sum() / 360 < -0.6
    assert torch.equal(torch.random.get_rng_state(), state)  # it draws on a stream of its own


def test_it_knows_no_choice_before_it_is_made(alternating: Histories) -> None:
    batch = batch_of(alternating, alternating.is_choice, WATCHED)
    changed = alternating.action.copy()
    changed[20] = 1 - changed[20]
    other = batch_of(alternating.with_columns(action=changed), alternating.is_choice, WATCHED)
    net = TinyGRU(batch.inputs.shape[-1], 2, 6, units=2)
    differs = (net(batch.inputs, batch.allowed) != net(other.inputs, other.allowed)).any(-1).any(-1)
    assert not differs[:21].any()
    assert differs[21]


def test_a_missed_trial_shows_no_choice() -> None:
    rows = [("s", 1, 1.0), ("s", -1, None), ("s", 0, 1.0)]
    batch = batch_of(told := histories_of(rows), told.is_choice, np.zeros((3, 1), bool))
    assert batch.inputs[:, 0, 1:].tolist() == [[0.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    assert batch.fitted[:, 0].tolist() == [True, False, True]


def test_actions_that_are_not_allowed_have_no_probability(alternating: Histories) -> None:
    batch = batch_of(alternating, alternating.is_choice, WATCHED)
    allowed = batch.allowed.clone()
    allowed[5, 2, 0] = False
    chances = TinyGRU(batch.inputs.shape[-1], 2, 6, units=1)(batch.inputs, allowed).exp()
    assert chances[5, 2].tolist() == [0.0, 1.0]
    torch.testing.assert_close(chances.sum(-1), torch.ones(60, 6))
    assert (batch.fitted ^ batch.watched).all()
