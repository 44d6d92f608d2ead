"""``seqrl play``: input from a person, and the screen."""

import io
import re
import sys
from collections.abc import Iterable

import gymnasium as gym
import numpy as np
import pytest

from seqrl_lightning.commands.envs import task_ids
from seqrl_lightning.commands.play import Game, make_task, rule
from seqrl_lightning.envs.task import TaskEnv
from tests.running import seqrl

PLAYABLE = [env_id for env_id in task_ids() if env_id != "seqrl/CartPoleNoVel-v1"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def played(answers: Iterable[str], *arguments: str) -> str:
    """Return what a game prints; its answers come through a pipe, which ends after them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO("".join(f"{answer}\n" for answer in answers)))
        status, out, err = seqrl("play", *arguments)
    assert (status, err) == (0, "")
    return out


@pytest.mark.parametrize("env_id", PLAYABLE)
def test_the_right_answers_earn_the_best_return(env_id: str) -> None:
    """With the letters as they are dealt out, told from the same game's task."""
    game = Game(make_task(env_id, {}, reveal=False), 3, reveal=False)
    answers = []
    while not game.returns:
        right = max(int(game._info["correct_action"]), 0)  # any, where none counts
        answers.append(game.letters[right].lower())
        assert game.action_of(answers[-1]) == right
        game.act(right)
    assert game.returns[0] >= game.task.optimal_return - 1e-9  # more, where nobody could know all of it
    out = played(answers, f"--env={env_id}", "--seed=3", "--episodes=1")
    assert out.endswith(f"Returns: {game.returns[0]:g}. Best possible on average: {game.task.optimal_return:g}.\n")


@pytest.mark.parametrize("env_id", PLAYABLE)
def test_words_tell_all_that_is_observed(env_id: str) -> None:
    """And nothing else, as they are made from the observation alone: as many words as observations.

    But for the place of PictureRecall's bars, which means nothing.
    """
    kwargs = {"backtrack": "first"} if "backtrack" in gym.make(env_id).unwrapped.__dict__ else {}
    task = gym.make(env_id, **kwargs).unwrapped
    assert isinstance(task, TaskEnv)
    rng = np.random.default_rng(0)
    words: dict[bytes, str] = {}
    for episode in range(30):
        observation, _ = task.reset(seed=episode)
        ended = False
        while not ended:
            arrays = observation.values() if isinstance(observation, dict) else [observation]
            words[b"".join(array.tobytes() for array in arrays)] = task.in_words(observation, task.letters)
            observation, _, terminated, truncated, _ = task.step(rng.integers(len(task.letters)))
            ended = terminated or truncated
    if env_id == "seqrl/PictureRecall-v0":
        assert set(words.values()) == {"a horizontal bar (A)", "a vertical bar (B)", "no bar: go"}
        return
    assert len(set(words.values())) == len(words)


def test_the_order_is_not_to_be_seen() -> None:
    """Neither on the board nor by the letters: two orders look the same until a pick tells them apart."""
    games = [
        played("b", "--env=seqrl/Sequence-v0", "--seed=0", f'--env_kwargs={{"blocks": [{{"sequence": "{order}"}}]}}')
        for order in ("ABCDEFGHIJ", "AHCDEFGBIJ")
    ]
    first_views = {game.partition("quit: b")[0] for game in games}
    assert len(first_views) == 1
    dealt = {Game(make_task("seqrl/Sequence-v0", {}, reveal=False), seed, reveal=False).letters for seed in range(4)}
    assert len(dealt) == 4
    assert {"".join(sorted(letters)) for letters in dealt} == {"ABCDEFGHIJ"}


def test_reveal_shows_the_right_action_and_the_board() -> None:
    out = played("B", "--env=seqrl/Sequence-v0", "--env_kwargs.objects=ABC", "--reveal")
    assert "(hidden: [A] B  C   pick: -  right: B)" in out
    assert "B earned +1." in out
    assert "(hidden: [A][B] C   pick: B  right: C)" in out


def test_questions_and_typing_errors_cost_nothing() -> None:
    out = played(["?", "x", "", "q", "a"], "--env=seqrl/BlockSwitch-v0")
    assert "SequenceDistractorEnv: Pick n objects" in out  # the rule that BlockSwitch's refers to
    assert "'x' is not an action." in out
    assert " earned " not in out  # nothing was picked, and after q nothing more is
    assert "Episode 1, return 0" in out
    assert out.endswith("Returns: no episode ended. Best possible on average: 5.\n")


def test_an_object_called_q_is_picked_by_its_letter() -> None:
    out = played(["q"], "--env=seqrl/HiddenSequence-v0", "--env_kwargs.objects=pq")
    assert "q earned" in out


def test_each_step_has_the_terminal_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another screen, which is left in the end: there is nothing to scroll back to."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal("a\n?\n\nb\n"))
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "argv", ["seqrl", "play", "--env=seqrl/Recall-v0"])
    from seqrl_lightning.__main__ import main

    main()
    own, last = terminal.getvalue().rsplit("\x1b[?1049l", 1)
    assert own.startswith("\x1b[?1049h\x1b[2J\x1b[H")
    assert own.count("\x1b[2J\x1b[H") == 4  # one before each action or question, and one at the end of the answers
    assert re.fullmatch(r"\n?Returns: no episode ended\. .*\n", last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env=seqrl/CartPoleNoVel-v1"], "--env is 'seqrl/CartPoleNoVel-v1'; it must be one of seqrl/BlockSwitch-v0"),
        (["--env=CartPole-v1"], "--env is 'CartPole-v1'; it must be one of"),
        (["--env=seqrl/Recall-v0", "--env_kwargs.length=0"], "data.env_kwargs.length is 0; it must be at least 1"),
        (
            ["--env=seqrl/Recall-v0", "--env_kwargs.size=1"],
            "--env_kwargs is {'size': 1}, which seqrl/Recall-v0 refuses",
        ),
    ],
)
def test_what_cannot_be_played_is_one_line(arguments: list[str], message: str) -> None:
    status, _, err = seqrl("play", *arguments)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


def test_the_rule_says_nothing_of_the_settings() -> None:
    task = make_task("seqrl/SerialReaction-v0", {}, reveal=False).unwrapped
    assert isinstance(task, TaskEnv)
    assert "each action names the symbol that comes next" in rule(task)
    assert "ACBD" not in rule(task)
    assert "Args:" not in rule(task)
