"""Write the pages on the tasks: ``python -m docs.scripts.tasks``.

It writes ``docs/tasks/`` (a page for each task, and a table of all tasks) and ``docs/images/tasks/`` from the tasks
themselves: rules and settings from their docstrings, chance by random play, pictures by rendering (that of
CartPoleNoVel needs pygame). The results come from :mod:`docs.scripts.results`. None of these are edited by hand.
"""

import inspect
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image

from docs.scripts.results import ROOT, read_reports, table, with_measured
from seqrl_lightning.collect import rollout
from seqrl_lightning.commands.envs import task_ids
from seqrl_lightning.docstrings import parse_docstring
from seqrl_lightning.envs import EnvFactory
from seqrl_lightning.types import Array, BoolArray, IntArray

PAGES = ROOT / "docs" / "tasks"
PICTURES = ROOT / "docs" / "images" / "tasks"
RANDOM_EPISODES = 1000  # that chance is estimated from
MAX_FRAMES = 40
LINKED_CLASSES = {"BlockSchedule": "seqrl_lightning.envs.blocks", "SymbolEnv": "seqrl_lightning.envs.symbols"}
COMMAND = "Written by `python -m docs.scripts.tasks`."


def main() -> None:
    """Write all of them."""
    for folder in (PAGES, PICTURES):
        folder.mkdir(parents=True, exist_ok=True)
    for path, text in pages().items():
        path.write_text(text)
    for env_id in task_ids():
        draw(env_id, PICTURES / f"{file_name(env_id)}.gif")


def file_name(env_id: str) -> str:
    """Return the name of a task's files: ``n_back`` for ``seqrl/NBack-v0``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name_of(env_id)).lower()


def name_of(env_id: str) -> str:
    """Return the name of a task: NBack for ``seqrl/NBack-v0``."""
    return env_id.removeprefix("seqrl/").rsplit("-", 1)[0]


def pages() -> dict[Path, str]:
    """Return the text of each page, by its path."""
    texts, rows = {}, [["task", "", "actions", "best return", "chance"]]
    reports = read_reports()
    for env_id in task_ids():
        env: Any = gym.make(env_id).unwrapped
        chance = chance_of(env_id)
        path = PAGES / f"{file_name(env_id)}.md"
        texts[path] = with_measured(page(env_id, env, chance), PAGES, reports)
        first_line = rules(env).splitlines()[0]
        link = f"[`{env_id}`]({path.name})"
        rows.append([link, first_line, str(env.action_space.n), f"{env.optimal_return:g}", chance])
    intro = (
        "# The tasks\n\n"
        "Actions are identities of objects or symbols throughout, never positions. The best return is that of the best "
        "policy that remembers all it has seen (`env.unwrapped.optimal_return`); chance is the mean return of random "
        f"actions over {RANDOM_EPISODES:,} episodes, with its standard error. Both are for the default settings. "
        f"{COMMAND}\n\n"
    )
    texts[PAGES / "index.md"] = f"{intro}{table(rows)}\n"
    return texts


def page(env_id: str, env: Any, chance: str) -> str:
    """Return the text of a task's page."""
    facts = [
        f"- Observation: `{env.observation_space}`",
        f"- Action: `{env.action_space}`",
        f"- Best return: {env.optimal_return:g}",
        f"- Chance: {chance} (mean return of {RANDOM_EPISODES:,} random episodes, with its standard error)",
    ]
    meanings = arguments_of(env)
    rows = [["setting", "default", ""]]
    rows += [[f"`{s.name}`", f"`{s.default!r}`", meanings.get(s.name, "")] for s in settings(env)]
    parts = [
        f"# {name_of(env_id)}",
        f"`--data.env_id {env_id}`",
        f"![An episode of {env_id}](../images/tasks/{file_name(env_id)}.gif)",
        "\n".join(facts),
        "## Rules",
        rules(env),
        "## Settings",
        "Set them by `--data.env_kwargs.NAME`:",
        table(rows),
        "## Results",
        f"<!-- measured: {env_id} -->\n<!-- end of measured -->",
        COMMAND,
    ]
    return "\n\n".join(parts) + "\n"


def rules(env: Any) -> str:
    """Return the task's rules: its docstring without its arguments."""
    return markdown(parse_docstring(type(env)).description or "").rstrip()


def settings(env: Any) -> list[inspect.Parameter]:
    """Return the task's settings, with their defaults."""
    parameters = inspect.signature(type(env)).parameters.values()
    return [parameter for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]


def arguments_of(env: Any) -> dict[str, str]:
    """Return the meaning of each argument of the task, from the docstrings of its classes."""
    meanings: dict[str, str] = {}
    for described in type(env).__mro__[::-1]:
        for parameter in parse_docstring(described).params:
            meanings[parameter.arg_name] = markdown(" ".join((parameter.description or "").split()))
    return meanings


def markdown(text: str) -> str:
    """Return a docstring's text as Markdown, with links to the other tasks and classes that it mentions."""
    text = re.sub(r":\w+:`(?:[\w.]+\.)?(\w+)`", r"`\1`", text).replace("``", "`")
    links = {f"`{name_of(env_id)}Env`": f"[{name_of(env_id)}]({file_name(env_id)}.md)" for env_id in task_ids()}
    links |= {f"`{name}`": f"[`{name}`](../api/envs.md#{path}.{name})" for name, path in LINKED_CLASSES.items()}
    for mention, link in links.items():
        text = text.replace(mention, link)
    return text


def chance_of(env_id: str) -> str:
    """Return the mean return of random actions, and its standard error."""
    envs = EnvFactory(env_id).make_envs(RANDOM_EPISODES)
    rng = np.random.default_rng(0)

    def act(observation: Array, action_mask: BoolArray | None) -> IntArray:
        return rng.integers(envs.n_actions, size=RANDOM_EPISODES)

    returns = sum(step.outcome.task_reward * step.is_playing for step in rollout(act, envs, seed=0))
    return f"{np.mean(returns):.2f} ± {np.std(returns, ddof=1) / RANDOM_EPISODES**0.5:.2f}"


def draw(env_id: str, path: Path) -> None:
    """Draw an episode of right actions; where no action is right, of random ones."""
    env: Any = gym.make(env_id, render_mode="rgb_array")
    rng = np.random.default_rng(0)
    _, info = env.reset(seed=0)
    frames = [env.render()]
    for _ in range(MAX_FRAMES):
        right = info.get("correct_action", -1)
        _, _, terminated, truncated, info = env.step(right if right >= 0 else rng.integers(env.action_space.n))
        frames.append(env.render())
        if terminated or truncated:
            break
    env.close()
    width, height = (max(frame.shape[axis] for frame in frames) for axis in (1, 0))
    pictures = []
    for frame in frames:  # a board grows as symbols are shown
        picture = Image.new("RGB", (width, height), tuple(int(value) for value in frame[0, 0]))
        picture.paste(Image.fromarray(frame))
        picture.thumbnail((640, 200))
        pictures.append(picture)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=600, loop=0)


if __name__ == "__main__":
    main()
