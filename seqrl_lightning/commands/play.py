"""Play a task in the terminal: you see exactly what an agent sees.

Actions are named by letters that are shuffled in each game, so that knowing the task's settings doesn't help. In a
terminal, each step clears the screen: what was shown before has to be remembered.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from seqrl_lightning.commands.envs import task_ids
from seqrl_lightning.docstrings import description
from seqrl_lightning.envs.task import TaskEnv
from seqrl_lightning.errors import require_known
from seqrl_lightning.types import ConfigurationError

# Terminal codes. The alternate screen has no scrollback, so that earlier observations can't be looked up.
_ALTERNATE_SCREEN, _MAIN_SCREEN, _CLEAR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[2J\x1b[H"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the task and the way to play it."""
    parser.add_argument("--env", required=True, help="the task, like seqrl/Sequence-v0")
    parser.add_argument(
        "--env_kwargs", type=dict[str, Any], default={}, help="settings, like --env_kwargs.objects ABCDE"
    )
    parser.add_argument("--seed", type=int, help="seed of the task and the letters; by default, a new one each time")
    parser.add_argument("--episodes", type=PositiveInt, help="number of episodes; by default, until you quit")
    parser.add_argument("--reveal", action="store_true", help="show the right action and the hidden state")


def run(arguments: Namespace) -> None:
    """Play until all episodes have ended or the player quits."""
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
    """Make one of the tasks that can be described in words.

    Raises:
        ConfigurationError: If the task is not one of them, or refuses its settings.
    """
    playable = [known for known in task_ids() if known != "seqrl/CartPoleNoVel-v1"]  # it needs answers in real time
    require_known("--env", env_id, playable)
    try:
        return gym.make(env_id, render_mode="ansi" if reveal else None, **env_kwargs)
    except TypeError as error:
        raise ConfigurationError(f"--env_kwargs is {env_kwargs}, which {env_id} refuses: {error}") from error


@contextmanager
def screen() -> Iterator[bool]:
    """Switch a terminal to its alternate screen, and back at the end. Yields whether there is a terminal."""
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        sys.stdout.write(_ALTERNATE_SCREEN * is_terminal)
        yield is_terminal
    finally:
        sys.stdout.write(_MAIN_SCREEN * is_terminal)


class Game:
    """A game of a person in a task.

    Args:
        env: The task.
        seed: Seed of the task and of the letters' shuffling; None for a new game each time.
        reveal: Whether to show the right action and the hidden state; the letters are then the task's own.
    """

    def __init__(self, env: gym.Env[Any, Any], seed: int | None, reveal: bool) -> None:
        self.env = env
        task = env.unwrapped
        assert isinstance(task, TaskEnv)
        self.task = task
        self.reveal = reveal
        shuffled = np.random.default_rng(seed).permutation(sorted(task.letters))
        self.letters = task.letters if reveal else "".join(shuffled)  # the letter of each action
        self.returns: list[float] = []
        self._message = ""
        self._begin(seed)

    def _begin(self, seed: int | None = None) -> None:
        self._observation, self._info = self.env.reset(seed=seed)
        self._return = 0.0

    def step(self, is_terminal: bool) -> None:
        """Show the observation and read one answer: an action, or ``?`` for the rule.

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
            self._message = f"{answer!r} is not an action."

    def action_of(self, answer: str) -> int | None:
        """Return the action that an answer names, in either case; None if none. ``q`` quits unless it names one."""
        for name in (answer, answer.upper()) if answer != "q" else (answer,):
            if len(name) == 1 and name in self.letters:
                return self.letters.index(name)
        return None

    def act(self, action: int) -> None:
        """Take an action; start the next episode if this one ended."""
        self._observation, reward, terminated, truncated, self._info = self.env.step(np.int64(action))
        self._return += float(reward)
        self._message = f"{self.letters[action]} earned {reward:+g}."
        if terminated or truncated:
            self.returns.append(self._return)
            end = "terminated" if terminated else "was truncated"
            self._message += f" Episode {len(self.returns)} {end}: return {self._return:g}."
            self._begin()

    def view(self) -> str:
        """Return the screen: the last outcome, the return, the observation and, with ``reveal``, the hidden state."""
        lines = [
            self._message,
            f"Episode {len(self.returns) + 1}, return {self._return:g}",
            self.task.in_words(self._observation, self.letters),
        ]
        if self.reveal:
            right = self._info["correct_action"]
            board = str(self.task.render()).strip()
            lines.append(f"(hidden: {board}  right: {self.letters[right] if right >= 0 else 'any'})")
        return "\n".join(["", *filter(None, lines)])

    def show_rule(self, is_terminal: bool) -> None:
        """Show the rule; in a terminal, on the main screen, where it can be scrolled, until Enter is pressed."""
        print(_MAIN_SCREEN * is_terminal + rule(self.task))
        if is_terminal:
            input("\nPress Enter to continue. ")
            sys.stdout.write(_ALTERNATE_SCREEN)

    def result(self) -> str:
        """Return the returns of the game, beside the best possible one, as text."""
        returns = ", ".join(f"{value:g}" for value in self.returns) or "no episode ended"
        return f"Returns: {returns}. Best possible on average: {self.task.optimal_return:g}."


def rule(task: TaskEnv) -> str:
    """Return the task's docstring without its settings, followed by those of the tasks that it extends."""
    entry_points = {gym.spec(env_id).entry_point for env_id in task_ids()}
    parents = [cls for cls in type(task).__mro__[1:] if f"{cls.__module__}:{cls.__name__}" in entry_points]
    texts = [description(type(task)), *(f"{cls.__name__}: {description(cls)}" for cls in parents)]
    return "\n\n".join(texts)
