"""Pages of loggers besides the curves: task, settings, choices by position, state values, an episode, tables."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import STEP_OUTPUT
from PIL import Image

from seqrl_lightning.algorithms.evaluation import steps_of
from seqrl_lightning.callbacks.choices import ChoiceBuffer
from seqrl_lightning.callbacks.logger_runs import note_runs
from seqrl_lightning.callbacks.pages import Pages, pages_of
from seqrl_lightning.callbacks.writing import leaves_files, position
from seqrl_lightning.collect import Policy, Step, TrialStep
from seqrl_lightning.data import LearnerDataModule
from seqrl_lightning.docstrings import description
from seqrl_lightning.envs.drawing import draw_matrix
from seqrl_lightning.envs.faults import close_quietly
from seqrl_lightning.envs.vector import TaskVectorEnv
from seqrl_lightning.files import write_bytes
from seqrl_lightning.metrics import PositionConfusion
from seqrl_lightning.trainer_access import learner_of, run_folder
from seqrl_lightning.types import Array, EvaluationTask, FloatArray, stated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_STATES = 64  # in a picture of state values
_MAX_POSITIONS = 32  # in a picture of choices
_MAX_FRAMES = 200  # of an episode
_MAX_FRAME_PIXELS = 400  # in width and height
_NOT_SETTINGS = ("_instantiator", "obs_shape", "n_actions")  # Lightning's own note, and facts about the task
_SETTING_NAMES = {"_class_path": "algorithm"}


_TABLES = ("episodes.csv", "trials.csv", "probes.csv")


class BoardPages(Callback):
    """Fill the pages of loggers besides the curves, from the main process of ``seqrl fit``.

    TensorBoard, Weights & Biases, MLflow and CSV loggers get all of them, in their own ways
    (:mod:`seqrl_lightning.callbacks.pages`); other loggers get the settings.

    - The settings, before the start: in TensorBoard HPARAMS, beside ``val/return_mean``.
    - The task's rule and ``config.yaml``, at the start: in TensorBoard TEXT.
    - Pictures (``watch/*``), at each evaluation: the choices at each position (tasks that tell the ``correct_action``)
      and the values of each state (tasks with a few discrete states). At the end: the training episodes with the
      switches of the rule (tasks with blocks; also as ``episodes.png`` in the run's folder), the evaluations' accuracy
      at each position (from ``probes.csv``; also as ``positions.png``), and a greedy episode (tasks that draw
      themselves; also as ``episode.gif``).
    - The tables of the run's folder, at the end.

    It uses no random stream that training uses: a run is the same with and without it.
    """

    def __init__(self) -> None:
        self._pages: list[Pages] = []  # of each logger, in the main process
        self._confusion: PositionConfusion | None = None  # in every process, for tasks that tell the right action

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the settings, before Lightning saves its files of them."""
        if stage != "fit" or not leaves_files(trainer) or not trainer.is_global_zero:
            return
        self._pages = [pages_of(logger) for logger in trainer.loggers]
        settings = plain_settings(pl_module.hparams, LearnerDataModule.of(trainer).hparams)
        for pages in self._pages:
            pages.write_settings(settings)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the pages that are known before the first step."""
        if not leaves_files(trainer):
            return
        self._data = LearnerDataModule.of(trainer)
        self._folder = run_folder(trainer)  # asked for in every process, so that they agree on it
        if self._data.tells_correct_action:
            self._confusion = PositionConfusion(_MAX_POSITIONS, self._data.n_actions).to(pl_module.device)
        if not trainer.is_global_zero:
            return
        note_runs(trainer.loggers, self._folder)
        if self._data.env_id is not None:
            self._begin_task()
        config = self._folder / "config.yaml"  # LightningCLI's
        for pages in self._pages:
            if config.exists():
                pages.write_file(config)

    def _begin_task(self) -> None:
        """Write the task's rule, and prepare the pictures of its evaluations."""
        self._states = states_of(self._data)
        self._action_names = action_names(self._data)
        task = self._data.task
        rules = task.task if isinstance(task, TaskVectorEnv) else task  # which has the rule in its docstring
        rule = description(type(rules))
        for pages in self._pages:
            pages.write_text("task", f"**{self._data.env_id}** {self._data.factory.env_kwargs or ''}\n\n{rule}")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: EvaluationTask,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the choices of the evaluation under the current rule."""
        if self._confusion is not None and "" in batch.names:
            choices = ChoiceBuffer.of(self._data)
            choices.add([_trial_step(t, step) for t, step in enumerate(steps_of(outputs))])
            self._confusion.update(choices.pop_ended_episodes(pl_module.device))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the pictures of an evaluation."""
        shares = is_right = None
        if self._confusion is not None:
            shares, is_right = (matrix.cpu().numpy() for matrix in self._confusion.compute())  # over all processes
            self._confusion.reset()
        if not self._pages or trainer.sanity_checking:
            return
        env_steps = position(trainer)
        if shares is not None and len(shares):
            picture = draw_matrix(shares, self._row_names(len(shares)), self._action_names, is_right)
            self._write_picture("choices by position", picture, env_steps)
        learner = learner_of(trainer)
        if self._states is not None and learner.act_values(self._states)[1] is None:
            values, _ = learner.act_values(self._states)
            picture = draw_matrix(values, self._row_names(len(values)), self._action_names)
            self._write_picture("values of states", picture, env_steps)
        for pages in self._pages:
            pages.flush()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the training episodes, an episode of the greedy policy, and the tables."""
        if not self._pages:
            return
        env_steps = position(trainer)
        if self._data.has_agent and (self._data.num_blocks > 1 or self._data.tells_correct_action):
            self._write_figures(env_steps)
        try:
            frames = list(self._greedy_frames(Policy(learner_of(trainer).act_values)))
            if frames:
                self._write_gif(frames, env_steps)
        except Exception as error:  # a task that can't draw itself, or lacks a package, may raise or return anything
            rank_zero_info(f"No picture of an episode: {type(error).__name__}: {error}")
        for pages in self._pages:
            for table in filter(Path.exists, (self._folder / name for name in _TABLES)):
                pages.write_file(table)
            pages.flush()

    def _write_picture(self, title: str, picture: Array, env_steps: int) -> None:
        for pages in self._pages:
            pages.write_picture(f"watch/{title}", picture, env_steps)

    def _row_names(self, count: int) -> list[str]:
        return [str(i + 1) for i in range(count)]

    def _write_figures(self, env_steps: int) -> None:
        """Write the training episodes, of tasks with blocks, and the evaluations' accuracy at each position."""
        probes = self._folder / "probes.csv"
        try:
            import pandas as pd

            from seqrl_lightning.analysis.figures import draw_episodes, draw_position_map
            from seqrl_lightning.analysis.trials import accuracy_of_probes
        except ModuleNotFoundError as error:
            rank_zero_info(f"No figures of the run: {error.name} is not installed (extra `analysis`).")
            return
        facts = self._data.task_facts
        if self._data.num_blocks > 1:
            episodes = pd.read_csv(self._folder / "episodes.csv")
            self._write_figure("training episodes", draw_episodes(episodes, facts.block_names), "episodes", env_steps)
        if probes.exists() and not (accuracy := accuracy_of_probes(probes, facts)).empty:
            self._write_figure("accuracy by position", draw_position_map(accuracy), "positions", env_steps)

    def _write_figure(self, title: str, figure: "Figure", name: str, env_steps: int) -> None:
        from seqrl_lightning.analysis.canvas import save

        save(figure, self._folder / name)
        picture = Image.open(self._folder / f"{name}.png").convert("RGB")
        self._write_picture(title, np.asarray(picture), env_steps)

    def _greedy_frames(self, policy: Policy) -> Iterator[Array]:
        """Yield the frames of a greedy episode; none if there is no task, or it doesn't draw itself."""
        if self._data.env_id is None or "rgb_array" not in ((self._data.task.metadata or {}).get("render_modes") or ()):
            return
        env = self._data.factory.make_env(render_mode="rgb_array")
        observation, info = env.reset(seed=self._data.eval_seed, options=self._options())
        yield np.asarray(env.render())
        for _ in range(_MAX_FRAMES):
            mask = None if "action_mask" not in info else np.asarray(info["action_mask"], np.bool_)[None]
            action = policy.act(np.asarray(observation)[None], mask)
            observation, _, terminated, truncated, info = env.step(int(action[0]))
            yield np.asarray(env.render())
            if terminated or truncated:
                break
        close_quietly(env)

    def _options(self) -> dict[str, Any] | None:
        return {"block": self._data.progress.block} if self._data.num_blocks else None

    def _write_gif(self, frames: list[Array], env_steps: int) -> None:
        pictures = [Image.fromarray(np.asarray(frame, np.uint8)) for frame in frames]
        for picture in pictures:
            picture.thumbnail((_MAX_FRAME_PIXELS, _MAX_FRAME_PIXELS))
        file = io.BytesIO()
        frame_ms = 400 if len(pictures) < 50 else 50
        pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=frame_ms, loop=0)
        path = self._folder / "episode.gif"
        write_bytes(path, file.getvalue())
        for pages in self._pages:
            pages.write_animation("watch/greedy episode", path, env_steps)


def _trial_step(t: int, step: Step) -> TrialStep:
    """Convert step t of an evaluation to a step of the agent."""
    trial = np.full(len(step.action), t)
    return TrialStep(step.shown, step.action, trial < 0, None, step.outcome, trial, step.is_playing)


def states_of(data: LearnerDataModule) -> FloatArray | None:
    """The observation of each state, [S, S] float32, for tasks whose states are one-hot; None for others."""
    num_states = stated(data.task, "num_states")
    if isinstance(data.task.observation_space, gym.spaces.Discrete):
        num_states = int(data.task.observation_space.n)
    if not isinstance(num_states, int) or data.obs_shape != (num_states,) or num_states > _MAX_STATES:
        return None
    return np.eye(num_states, dtype=np.float32)


def action_names(data: LearnerDataModule) -> list[str]:
    """The task's own letters for its actions, or their numbers."""
    letters = stated(data.task, "letters")  # an attribute with any meaning
    return list(letters) if isinstance(letters, str) and letters else [str(k) for k in range(data.n_actions)]


def plain_settings(*settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten settings into numbers and texts by dotted names, as TensorBoard takes them, with the names of classes."""
    flat: dict[str, Any] = {}
    for mapping in settings:
        for name, value in mapping.items():
            if name in _NOT_SETTINGS:
                continue
            path = f"{prefix}{_SETTING_NAMES.get(name, name)}".replace("init_args.", "")
            if isinstance(value, Mapping):
                flat.update(plain_settings(value, prefix=f"{path}."))
            elif name in ("class_path", "_class_path"):
                flat[path.removesuffix(".class_path")] = str(value).rpartition(".")[2]
            else:
                flat[path] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
