"""The likelihood of each model, against loops over single choices that are written without it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from seqrl_lightning.behavior.fits import own_prior
from seqrl_lightning.behavior.histories import Trial
from seqrl_lightning.behavior.likelihood import latents, log_likelihood
from seqrl_lightning.behavior.model import (
    INVERSE_TEMPERATURE,
    RATE,
    TENDENCY,
    Latents,
    Memory,
    Model,
    Parameter,
    Parameters,
    Size,
    find_model,
)
from seqrl_lightning.types import ConfigurationError, FloatArray
from tests.behavior.tables import histories_of, point

Row = tuple[str, int, float, int]  # state, action, reward, episode
EPISODES: list[Row] = [
    ("s", 0, 0.0, 0), ("t", 1, 1.0, 0),
    ("s", 1, 0.0, 1), ("u", 1, -1.0, 1),
    ("s", 0, 0.0, 2), ("t", 0, 1.0, 2),
    ("s", 0, 0.0, 3), ("u", 1, 1.0, 3),
    ("s", 1, 0.0, 4), ("t", 1, 0.0, 4),
]  # fmt: skip
BANDIT: list[Row] = [(state, action, reward, t) for t, (state, action, reward, _) in enumerate(EPISODES)]


def softmax(logits: Sequence[float]) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum()


def found(name: str, rows: Sequence[Row], **p: float) -> float:
    model = find_model(name)
    return float(
        log_likelihood(model, histories_of(rows, "state action reward episode"), point(model, **p)[None])[0, 0]
    )


def q_learning(rows: Sequence[Row], p: dict[str, float]) -> float:
    """Q-learning with all options, a choice at a time."""
    q = {state: [0.0, 0.0] for state in "stu"}
    last: dict[str, int] = {}
    trace: dict[tuple[str, int], float] = {}
    total = 0.0
    for t, (state, action, reward, episode) in enumerate(rows):
        stay = [p.get("perseveration", 0.0) * (last.get(state) == a) for a in (0, 1)]
        chances = softmax([p["beta"] * q[state][a] + stay[a] for a in (0, 1)])
        lapse = p.get("lapse", 0.0)
        total += np.log((1 - lapse) * chances[action] + lapse / 2)
        ends = t + 1 == len(rows) or rows[t + 1][3] != episode
        following = 0.0 if ends else max(q[rows[t + 1][0]])
        error = reward + p.get("gamma", 0.0) * following - q[state][action]
        if t == 0 or rows[t - 1][3] != episode:
            trace = {}
        trace = {key: value * p.get("gamma", 0.0) * p.get("lambda", 0.0) for key, value in trace.items()}
        trace[state, action] = 1.0
        q[state][1 - action] *= 1 - p.get("forgetting", 0.0)
        rate = p.get("alpha_worse", p["alpha"]) if error < 0 else p["alpha"]
        for (s, a), value in trace.items():
            q[s][a] += rate * error * value
        last[state] = action
    return float(total)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alpha_worse": 0.7},
        {"gamma": 0.8},
        {"gamma": 0.8, "lambda": 0.6},
        {"forgetting": 0.3},
        {"perseveration": -0.8},
        {"lapse": 0.1},
        {"alpha_worse": 0.2, "forgetting": 0.2, "perseveration": 1.0},
    ],
    ids=lambda options: "+".join(options) or "none",
)
def test_q_learning(options: dict[str, float]) -> None:
    p = {"alpha": 0.4, "beta": 3.0, **options}
    name = "+".join(["QLearning", *options])
    for rows in (EPISODES, BANDIT):
        assert found(name, rows, **p) == pytest.approx(q_learning(rows, p))


def sarsa(rows: Sequence[Row], p: dict[str, float]) -> float:
    q = {state: [0.0, 0.0] for state in "stu"}
    total = 0.0
    for number in range(5):
        episode = [row for row in rows if row[3] == number]
        chances = []
        trace: dict[tuple[str, int], float] = {}
        for i, (state, action, reward, _) in enumerate(episode):
            chances.append(softmax([p["beta"] * value for value in q[state]])[action])
            if i > 0:  # the transition before is complete
                before = episode[i - 1]
                error = before[2] + p["gamma"] * q[state][action] - q[before[0]][before[1]]
                for (s, a), value in trace.items():
                    q[s][a] += p["alpha"] * error * value
            trace = {key: value * p["gamma"] * p["lambda"] for key, value in trace.items()} | {(state, action): 1.0}
            if i + 1 == len(episode):
                error = reward - q[state][action]
                for (s, a), value in trace.items():
                    q[s][a] += p["alpha"] * error * value
        total += np.log(chances).sum()
    return float(total)


def test_sarsa() -> None:
    p = {"alpha": 0.5, "beta": 2.0, "gamma": 0.9, "lambda": 0.7}
    assert found("Sarsa+gamma+lambda", EPISODES, **p) == pytest.approx(sarsa(EPISODES, p))


def win_stay(rows: Sequence[Row], p: dict[str, float]) -> float:
    last: dict[str, tuple[int, float]] = {}
    total = 0.0
    for state, action, reward, _ in rows:
        stays = 0.5
        if state in last:
            stays = p["stay"] if last[state][1] > 0 else 1 - p["shift"]
            stays = stays if last[state][0] == action else 1 - stays
        total += np.log(stays)
        last[state] = action, reward
    return total


def working_memory(rows: Sequence[Row], p: dict[str, float]) -> float:
    q, kept = ({state: [0.5, 0.5] for state in "stu"} for _ in range(2))
    total = 0.0
    weight = p["rho"] * min(1.0, p["capacity"] / 3)  # three states
    for state, action, reward, _ in rows:
        learned, held = (softmax([p["beta"] * value for value in table[state]])[action] for table in (q, kept))
        total += np.log(weight * held + (1 - weight) * learned)
        kept = {s: [value + p["decay"] * (0.5 - value) for value in values] for s, values in kept.items()}
        q[state][action] += p["alpha"] * (reward - q[state][action])
        kept[state][action] = reward
    return total


def two_step(rows: Sequence[Row], p: dict[str, float]) -> float:
    q = {state: [0.0, 0.0] for state in "stu"}
    count = {(a, state): 0 for a in (0, 1) for state in "tu"}
    total = 0.0
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        (state, a, _, _), (reached, b, reward, _) = first, second
        planned = []
        for action in (0, 1):
            seen = sum(count[action, s] for s in "tu")
            planned.append(sum(count[action, s] * max(q[s]) for s in "tu") / seen if seen else 0.0)
        mixed = [p["beta_first"] * (p["weight"] * planned[x] + (1 - p["weight"]) * q[state][x]) for x in (0, 1)]
        total += np.log(softmax(mixed)[a]) + np.log(softmax([p["beta_second"] * value for value in q[reached]])[b])
        count[a, reached] += 1
        error = reward - q[reached][b]
        q[state][a] += p["alpha"] * (q[reached][b] - q[state][a] + p["lambda"] * error)
        q[reached][b] += p["alpha"] * error
    return total


def position_code(rows: Sequence[Row], p: dict[str, float]) -> float:
    strength = np.zeros((2, 2))
    total = 0.0
    for t, (_, action, reward, _) in enumerate(rows):
        place = t % 2
        felt = strength[place] + np.exp(-1 / p["width"]) * strength[1 - place]
        total += np.log(softmax(p["beta"] * felt)[action])
        strength[place, action] += p["alpha"] * (reward - strength[place, action])
    return float(total)


def chaining(rows: Sequence[Row], p: dict[str, float]) -> float:
    strength: dict[int | None, np.ndarray] = {cue: np.zeros(2) for cue in (None, 0, 1)}
    total = 0.0
    for t, (_, action, reward, _) in enumerate(rows):
        cue = None if t % 2 == 0 else rows[t - 1][1]
        total += np.log(softmax(p["beta"] * strength[cue])[action])
        strength[cue][action] += p["alpha"] * (reward - strength[cue][action])
    return float(total)


THREES: list[Row] = [
    (state, action, reward, t // 5) for t, (state, action, reward, _) in enumerate([*EPISODES, *EPISODES[::-1]])
]
"""Episodes of five choices: chunks are of three."""


def chunking(rows: Sequence[Row], p: dict[str, float]) -> float:
    chained: dict[int | None, list[float]] = {cue: [0.0, 0.0] for cue in (None, 0, 1)}
    after = {(a, b): [0.0, 0.0] for a in (0, 1) for b in (0, 1)}
    bound = dict.fromkeys(after, 0.0)
    total = 0.0
    for number in range(rows[-1][3] + 1):
        items: list[int] = []
        for _, action, reward, episode in rows:
            if episode != number:
                continue
            cue = items[-1] if items else None
            strengths = list(chained[cue])
            if len(items) >= 2:
                pair = items[-2], items[-1]
                weight = p["binding"] * bound[pair]
                strengths = [(1 - weight) * chained[cue][a] + weight * after[pair][a] for a in (0, 1)]
                after[pair][action] += p["alpha"] * (reward - after[pair][action])
            total += np.log(softmax([p["beta"] * value for value in strengths])[action])
            chained[cue][action] += p["alpha"] * (reward - chained[cue][action])
            if cue is not None:
                for other in (0, 1):
                    bound[cue, other] += p["alpha"] * ((other == action) - bound[cue, other])
            items.append(action)
    return float(total)


def test_chunking() -> None:
    p = {"alpha": 0.4, "beta": 2.0, "binding": 0.7}
    assert found("Chunking", THREES, **p) == pytest.approx(chunking(THREES, p))
    chained = found("Chaining", THREES, alpha=0.4, beta=2.0)
    assert found("Chunking", THREES, **{**p, "binding": 1e-12}) == pytest.approx(chained)
    assert found("Chunking", THREES, **p) != pytest.approx(chained, abs=0.1)


def test_no_chunk_goes_across_a_missed_trial() -> None:
    """By hand, with associations of 1 after each reward and chunks that are bound at once."""
    p = {"alpha": 1.0 - 1e-9, "beta": 2.0, "binding": 1.0 - 1e-9}
    cut = [("s", 0, 1.0, 0), ("s", -1, 0.0, 0), ("s", 0, 0.0, 0), ("s", 1, 1.0, 0)]
    whole = [("s", 0, 1.0, 1), ("s", 0, 1.0, 1), ("s", 1, 1.0, 1)]
    one, other = (np.log(softmax([2.0, 0.0])[a]) for a in (0, 1))
    # Cut: start, missed, and 0 for the first time. Whole: start knows 0; 0 knows 1; the chunk of 0 and 0 knows nothing.
    assert found("Chunking", [*cut, *whole], **p) == pytest.approx(3 * np.log(0.5) + one + other + np.log(0.5))


def test_more_items_than_chunks_can_be_kept_of_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="the number of actions is 27; it must be at most 26 for Chunking"):
        found("Chunking", [("s", 26, 1.0, 0)], alpha=0.5, beta=1.0, binding=0.5)


@pytest.mark.parametrize(
    ("name", "by_hand", "p"),
    [
        ("WinStayLoseShift", win_stay, {"stay": 0.8, "shift": 0.6}),
        (
            "WorkingMemoryRL",
            working_memory,
            {"alpha": 0.2, "beta": 3.0, "decay": 0.3, "rho": 0.8, "capacity": 2.0},
        ),
        (
            "TwoStep",
            two_step,
            {"alpha": 0.4, "beta_first": 3.0, "beta_second": 2.0, "lambda": 0.7, "weight": 0.6},
        ),
        ("PositionCode", position_code, {"alpha": 0.3, "beta": 2.0, "width": 0.8}),
        ("Chaining", chaining, {"alpha": 0.3, "beta": 2.0}),
    ],
)
def test_the_likelihood_is_that_of_each_choice(
    name: str, by_hand: Callable[[Sequence[Row], dict[str, float]], float], p: dict[str, float]
) -> None:
    assert found(name, EPISODES, **p) == pytest.approx(by_hand(EPISODES, p))


def test_values_of_a_runs_table_say_how_many_actions_there_are() -> None:
    """Those alone, of columns that begin alike."""
    columns = "state action reward q_0 q_1 q_2 q_age q_x"
    assert histories_of([("s", 0, 1.0, 0.1, 0.2, 0.3, 40, 1)], columns).num_actions == 3


def test_nothing_follows_from_a_missed_trial() -> None:
    """Each of two choices has the cue that it has by hand: the episode's start, an item, or the missed trial."""
    rows = [("s", 0, 1.0, 0), ("s", -1, None, 0), ("s", 1, 1.0, 0), ("s", 0, 1.0, 1), ("s", 0, 1.0, 1)]
    chance = float(softmax([2.0, 0.0])[0])  # an association of 1, times beta
    by_cue = np.log([0.5, 0.5, chance, 0.5]).sum()  # start: 0; missed: 1; start again: 0, as learned; after 0: new
    assert found("Chaining", rows, alpha=1.0 - 1e-9, beta=2.0) == pytest.approx(by_cue)
    at_position = np.log([0.5, 0.5, chance, 0.5]).sum()
    assert found("PositionCode", rows, alpha=1.0 - 1e-9, beta=2.0, width=0.01) == pytest.approx(at_position)


@pytest.mark.parametrize("missed", [0, 1])
def test_a_missed_stage_of_two_is_not_taken_for_the_other(missed: int) -> None:
    """The second choice has no first one to update; the first one counts its transition, and nothing more."""
    p = {"alpha": 0.4, "beta_first": 3.0, "beta_second": 2.0, "lambda": 0.7, "weight": 0.0}
    rows = list(EPISODES[:6])
    rows[missed + 2] = (rows[missed + 2][0], -1, 0.0, 1)
    q = {state: [0.0, 0.0] for state in "stu"}
    total = 0.0
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        (state, a, _, _), (reached, b, reward, _) = first, second
        total += np.log(softmax(3.0 * np.array(q[state]))[a]) if a >= 0 else 0.0
        total += np.log(softmax(2.0 * np.array(q[reached]))[b]) if b >= 0 else 0.0
        error = reward - q[reached][b]
        if a >= 0 and b >= 0:
            q[state][a] += 0.4 * (q[reached][b] - q[state][a] + 0.7 * error)
        if b >= 0:
            q[reached][b] += 0.4 * error
    assert found("TwoStep", rows, **{**p, "weight": 1e-12}) == pytest.approx(total)


EVERY_MODEL = ["Chance", "WinStayLoseShift", "QLearning+alpha_worse+gamma+lambda+forgetting", "Sarsa+gamma+lambda"]
EVERY_MODEL += ["WorkingMemoryRL", "TwoStep+alpha_second", "PositionCode", "Chaining+perseveration+lapse", "Chunking"]


@pytest.mark.parametrize("name", EVERY_MODEL)
def test_subjects_and_points_at_once_are_as_one_by_one(name: str) -> None:
    """Also with histories of different lengths, and whatever actions are allowed."""
    rng = np.random.default_rng(0)
    rows = [
        (n, f"{rng.integers(3)}", t // 2, int(rng.integers(3)), rng.normal()) for n in (1, 2, 3) for t in range(4 * n)
    ]
    table = [(*row, "0 1 2" if row[3] == 2 else "0 1") for row in rows]
    columns = "subject state episode action reward allowed"
    model = find_model(name)
    points = own_prior(model, 3).mean + rng.normal(size=(2, 3, len(model.free)))
    together = log_likelihood(model, histories_of(table, columns), points)
    for i in range(3):
        alone = histories_of([row for row in table if row[0] == i + 1], columns)
        for k in range(2):
            expected = log_likelihood(model, alone, points[k, i][None, None])[0, 0]
            assert together[k, i] == pytest.approx(expected)


@pytest.mark.parametrize("name", EVERY_MODEL)
def test_missed_trials_teach_nothing(name: str) -> None:
    """If each is an episode of its own, the likelihood equals that of the table without them."""
    rng = np.random.default_rng(0)
    rows = [(n, f"{t % 2}", int(rng.integers(-1, 3)), rng.normal()) for n in range(3) for t in range(12)]
    columns = "subject state action reward"
    model = find_model(name)
    points = own_prior(model, 3).mean[None] + rng.normal(size=(2, 3, len(model.free)))
    with_missed = log_likelihood(model, histories_of(rows, columns), points)
    made = histories_of([row for row in rows if row[2] >= 0], columns)
    np.testing.assert_allclose(with_missed, log_likelihood(model, made, points))


@pytest.mark.parametrize("name", EVERY_MODEL)
def test_probabilities_of_allowed_actions_sum_to_one(name: str) -> None:
    """The likelihoods of both possible second choices add up to that of the first."""
    model = find_model(name)
    rng = np.random.default_rng(1)
    points = own_prior(model, 1).mean[None] + rng.normal(size=(3, 1, len(model.free)))
    start = [("s", 2, 1.0, 0, "0 2"), ("t", 0, 0.5, 0, "0 1 2"), ("s", 0, 1.0, 1, "0 2"), ("s", 0, -1.0, 1, "0 2")]
    columns = "state action reward episode allowed"
    alone = log_likelihood(model, histories_of(start, columns), points)
    # The last row follows in the same episode in both tables, so that only its own choice differs.
    longer = [
        log_likelihood(model, histories_of([*start[:3], ("s", a, -1.0, 1, "0 2")], columns), points) for a in (0, 2)
    ]
    before = log_likelihood(model, histories_of(start, columns), points, np.array([[True], [True], [True], [False]]))
    np.testing.assert_allclose(np.exp(longer[0]) + np.exp(longer[1]), np.exp(before))
    np.testing.assert_allclose(longer[0], alone)


def test_lapses_are_among_the_allowed_actions() -> None:
    rows = [("s", 1, 1.0, "1 2")]
    model = find_model("QLearning+lapse")
    at = point(model, alpha=0.5, beta=3.0, lapse=0.4)[None]
    assert log_likelihood(model, histories_of(rows, "state action reward allowed"), at)[0, 0] == pytest.approx(
        np.log(0.5)
    )


def test_latents_are_those_of_each_trial() -> None:
    model = find_model("QLearning")
    rows = [("a", "s", 1, 1.0), ("b", "s", 0, 0.5), ("a", "s", -1, None), ("a", "s", 1, 0.0)]
    points = np.concatenate([point(model, alpha=alpha, beta=2.0) for alpha in (0.5, 0.1)])
    table = latents(model, histories_of(rows, "subject state action reward"), points)
    assert table.index.tolist() == [0, 1, 2, 3]
    assert table["subject"].tolist() == ["a", "b", "a", "a"]
    assert table["action"].isna().tolist() == [False, False, True, False]
    assert table["value"].tolist() == pytest.approx([0.0, 0.0, np.nan, 0.5], nan_ok=True)
    assert table["prediction_error"].tolist() == pytest.approx([1.0, 0.5, np.nan, -0.5], nan_ok=True)
    chance = np.exp(1) / (np.exp(1) + 1)
    assert table["probability"].tolist() == pytest.approx([0.5, 0.5, np.nan, chance], nan_ok=True)


class Buggy(Model):
    """Its method ``where`` does what it must not."""

    parameters = {"size": Parameter(0.0, 5.0)}

    def __init__(self, where: str, does: Callable[[], object]) -> None:
        super().__init__()
        self._where, self._does = where, does

    def begin(self, size: Size) -> Memory:
        return self._done("begin", {})

    def probabilities(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        return self._done("probabilities", np.full(trial.allowed.shape, 0.5))

    def update(self, memory: Memory, p: Parameters, trial: Trial) -> Latents:
        return self._done("update", {})

    def _done(self, where: str, otherwise: Any) -> Any:
        return self._does() if where == self._where else otherwise


@pytest.mark.parametrize(
    ("where", "does", "message"),
    [
        ("begin", lambda: {}["q"], "the method begin of Buggy raised KeyError: 'q'"),
        ("probabilities", lambda: {}["gamma"], "the method probabilities of Buggy raised KeyError: 'gamma'"),
        ("probabilities", lambda: np.array([[1.5, -0.5]]), "is -0.5 in one place; it must be from 0 to 1"),
        ("update", lambda: None, "the method update of Buggy raised AttributeError"),
        ("update", lambda: {"error": np.zeros(3)}, "latents of Buggy is {'error': (3,)}; it must be [B] = (1,)"),
    ],
)
def test_a_models_bug_gets_one_line_with_its_name(where: str, does: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        log_likelihood(Buggy(where, does), histories_of([("s", 1, 1.0)]), np.zeros((1, 1, 1)))
    assert message in str(refusal.value)


class Broken(Model):
    parameters = {"size": Parameter(0.0, 5.0)}

    def probabilities(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        return np.full((1, int(p["size"][0])), np.nan)


@pytest.mark.parametrize(
    ("size", "message"), [(2, "not all finite"), (3, "of shape (1, 3); it must be [B, A] = (1, 2)")]
)
def test_probabilities_that_are_none_are_refused_by_the_models_name(size: int, message: str) -> None:
    told = histories_of([("s", 1, 1.0)])
    with pytest.raises(ConfigurationError) as refusal:
        log_likelihood(Broken(), told, point(Broken(), size=size + 0.5)[None])
    assert f"the array of probabilities of Broken is {message}" in str(refusal.value)


def test_only_a_scale_can_be_per_reward() -> None:
    with pytest.raises(ConfigurationError, match="a parameter's per_reward is True"):
        Parameter(0.0, 1.0, per_reward=True)


@pytest.mark.parametrize("spec", [RATE, INVERSE_TEMPERATURE, TENDENCY, Parameter(-2.0, 3.0)])
def test_bounds(spec: Parameter) -> None:
    x = np.linspace(-3, 3, 13)
    values = spec.bounded(x)
    assert ((values > spec.lower) & (values < spec.upper)).all()
    np.testing.assert_allclose(spec.unbounded(values), x, atol=1e-12)
    np.testing.assert_allclose(spec.slope(x), (spec.bounded(x + 1e-6) - spec.bounded(x - 1e-6)) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("QLearnin", "--models is 'QLearnin'; did you mean 'QLearning'?"),
        ("QLearning+forgeting", "a parameter of QLearning is 'forgeting'; did you mean 'forgetting'?"),
        ("QLearning+lambda", "it must be QLearning+gamma+lambda"),
        ("no_such_module.Mine", "--models names 'no_such_module.Mine', which can't be imported"),
        ("no_such_file.py:Mine", "--models is 'no_such_file.py'; it must be a Python file"),
    ],
)
def test_what_is_no_model_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        find_model(name)
    assert message in str(refusal.value)


def test_parameters_are_refused_that_have_no_bounds_to_speak_of() -> None:
    with pytest.raises(ConfigurationError, match="a parameter's bounds"):
        Parameter(1.0, 0.0)
    with pytest.raises(ConfigurationError, match="a parameter's lower"):
        Parameter(-np.inf, 0.0)
