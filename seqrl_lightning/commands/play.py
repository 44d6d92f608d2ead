"""Plays a task in the terminal: you see what an agent sees, and no more.

Actions are called by letters, dealt out anew in each game, so that knowing the task's settings doesn't help. In a
terminal every step has the screen for itself: what was shown before has to be remembered.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from seqrl_lightning.commands.envs import rules_of, task_ids
from seqrl_lightning.docstrings import without_settings
from seqrl_lightning.envs.task import TaskEnv
from seqrl_lightning.types import ConfigurationError, require

_OTHER_SCREEN, _BACK, _CLEAR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[2J\x1b[H"


def add_arguments(parser: ArgumentParser) -> None:
    """The task and how it is played."""
    parser.add_argument("--env", required=True, help="the task, like seqrl/Sequence-v0")
    parser.add_argument("--env_kwargs", type=dict[str, Any], default={}, help="like --env_kwargs.objects ABCDE")
    parser.add_argument("--seed", type=int, help="of the task and the letters; by default another one each time")
    parser.add_argument("--episodes", type=PositiveInt, help="how many; by default until you quit")
    parser.add_argument("--reveal", action="store_true", help="show the right action and what is hidden")


def run(arguments: Namespace) -> None:
    """Plays until the episodes are over, or the player quits."""
    env = make_task(arguments.env, dict(arguments.env_kwargs), arguments.reveal)
    game = Game(env, arguments.seed, arguments.reveal)
    try:
        with screen() as is_terminal:
            while len(game.returns) != arguments.episodes:
                game.step(is_terminal)
    except (EOFError, KeyboardInterrupt):
        print()
    print(game.result())


def make_task(env_id: str, env_kwargs: dict[str, Any], reveal: bool) -> gym.Env[Any, Any]:
    """Makes one of the tasks that can be told in words.

    Raises:
        ConfigurationError: If it is none of them, or refuses its settings.
    """
    playable = [known for known in task_ids() if known != "seqrl/CartPoleNoVel-v1"]  # a matter of milliseconds
    require(env_id in playable, "--env", env_id, f"one of {', '.join(playable)}")
    try:
        return gym.make(env_id, render_mode="ansi" if reveal else None, **env_kwargs)
    except TypeError as error:
        raise ConfigurationError(f"--env_kwargs is {env_kwargs}, which {env_id} refuses: {error}") from error


@contextmanager
def screen() -> Iterator[bool]:
    """Whether a person sits at a terminal; if so, on a screen of its own, which leaves nothing to scroll back to."""
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        sys.stdout.write(_OTHER_SCREEN * is_terminal)
        yield is_terminal
    finally:
        sys.stdout.write(_BACK * is_terminal)


class Game:
    """A person and a task.

    Args:
        env: The task.
        seed: Seeds the task and deals the letters out; None for another game each time.
        reveal: Whether to show what is hidden; letters are then the task's own.
    """

    def __init__(self, env: gym.Env[Any, Any], seed: int | None, reveal: bool) -> None:
        self.env = env
        task = env.unwrapped
        assert isinstance(task, TaskEnv)
        self.task = task
        self.reveal = reveal
        dealt = np.random.default_rng(seed).permutation(sorted(task.letters))
        self.letters = task.letters if reveal else "".join(dealt)  # of each action
        self.returns: list[float] = []
        self._news = ""
        self._begin(seed)

    def _begin(self, seed: int | None = None) -> None:
        self._observation, self._info = self.env.reset(seed=seed)
        self._return = 0.0

    def step(self, is_terminal: bool) -> None:
        """Shows what is observed and takes one answer: an action, or ``?``.

        Raises:
            EOFError: If the player quits, or there are no more answers.
        """
        print(_CLEAR * is_terminal + self.view())
        answer = input(f"{' '.join(sorted(self.letters))}, ? for the rule, q to quit: ").strip()
        if not is_terminal:
            print(answer)
        if answer == "?":
            self.show_rule(is_terminal)
        elif (action := self.action_of(answer)) is not None:
            self.act(action)
        elif answer == "q":
            raise EOFError
        else:
            self._news = f"{answer!r} is none of the actions."

    def action_of(self, answer: str) -> int | None:
        """The action that is called so; small letters do too, but for q where that isn't a letter itself."""
        for name in (answer, answer.upper()) if answer != "q" else (answer,):
            if len(name) == 1 and name in self.letters:
                return self.letters.index(name)
        return None

    def act(self, action: int) -> None:
        """Takes an action, and begins the next episode if it ended this one."""
        self._observation, reward, terminated, truncated, self._info = self.env.step(np.int64(action))
        self._return += float(reward)
        self._news = f"{self.letters[action]} earned {reward:+g}."
        if terminated or truncated:
            self.returns.append(self._return)
            how = "is over" if terminated else "was cut off"
            self._news += f" Episode {len(self.returns)} {how}: return {self._return:g}."
            self._begin()

    def view(self) -> str:
        """The news, what is observed and what was earned so far; with ``reveal`` the board and the right action too."""
        lines = [
            self._news,
            f"Episode {len(self.returns) + 1}, return {self._return:g}",
            self.task.in_words(self._observation, self.letters),
        ]
        if self.reveal:
            right = self._info["correct_action"]
            board = str(self.task.render()).strip()
            lines.append(f"(hidden: {board}  right: {self.letters[right] if right >= 0 else 'any'})")
        return "\n".join(["", *filter(None, lines)])

    def show_rule(self, is_terminal: bool) -> None:
        """Shows the rule, in a terminal where one can scroll, until Enter is pressed."""
        print(_BACK * is_terminal + rule(self.task))
        if is_terminal:
            input("\nEnter to go on ")
            sys.stdout.write(_OTHER_SCREEN)

    def result(self) -> str:
        """What was reached."""
        returns = ", ".join(f"{value:g}" for value in self.returns) or "no episode finished"
        return f"Returns: {returns}. Best possible on average: {self.task.optimal_return:g}."


def rule(task: TaskEnv) -> str:
    """The task's docstring without its settings, and those of the tasks that it refers to."""
    entry_points = {gym.spec(env_id).entry_point for env_id in task_ids()}
    parents = [cls for cls in type(task).__mro__[1:] if f"{cls.__module__}:{cls.__name__}" in entry_points]
    texts = [without_settings(rules_of(task)), *(f"{cls.__name__}: {without_settings(cls)}" for cls in parents)]
    return "\n\n".join(texts)
