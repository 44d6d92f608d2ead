"""What TensorBoard shows besides curves: the task, the settings, what was chosen, the table of values, an episode."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import hparams

from seqrl_lightning.callbacks.agent import AgentCallback
from seqrl_lightning.docstrings import without_settings
from seqrl_lightning.envs.drawing import draw_matrix
from seqrl_lightning.types import Array, EvaluationTask, FloatArray, IntArray, State

_LAYOUT = {
    "Does it learn?": {
        "return of the greedy policy": ["Multiline", ["val/return_mean"]],
        "return of training episodes": ["Multiline", ["train/episode_return"]],
        "each block's rule": ["Multiline", [r"val/block_\d+/return_mean"]],
    },
    "How?": {
        "loss": ["Multiline", ["train/loss"]],
        "TD error and Q-values": ["Multiline", ["train/td_error_abs_mean", "train/q_value_mean"]],
        "epsilon": ["Multiline", ["train/epsilon"]],
    },
    "How fast?": {
        "env steps per second": ["Multiline", ["train/env_steps_per_second"]],
        "updates per second": ["Multiline", ["workload/updates_per_second"]],
    },
}
_MOST_STATES = 64  # of a table of values
_MOST_POSITIONS = 32  # of a picture of choices
_MOST_FRAMES = 200  # of an episode's pictures
_WIDEST = 400  # pixels of such a picture
_NO_SETTINGS = ("_instantiator", "obs_shape", "n_actions")  # Lightning's own note, and the task's facts
_NAMES = {"_class_path": "algorithm"}


class BoardPages(Callback):
    """Fills TensorBoard's other pages, from the main process of ``seqrl fit``; other loggers get nothing.

    - TEXT: the run's settings and the task's rule, when it starts.
    - HPARAMS: the settings beside ``val/return_mean``.
    - CUSTOM SCALARS: the charts to look at first.
    - IMAGES (``watch/*``), at each evaluation: what was chosen at each position (tasks that tell the
      ``correct_action``), and the values of each state (tasks with a number of discrete states). At the end: the
      training episodes with the switches of the rule (tasks with blocks; also as ``episodes.png`` in the run's
      folder), and a greedy episode (tasks that draw themselves; also as ``episode.gif``).

    It draws on nothing that training draws on: a run is the same with and without it.
    """

    _writer: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what is known before the first step."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not (loggers and trainer.is_global_zero) or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._folder = Path(str(loggers[0].log_dir))
        self._writer = loggers[0].experiment
        self._states = states_of(self._data)
        self._clear_choices()
        self._writer.add_custom_scalars(_LAYOUT)
        env = gym.make(self._data.env_id, **self._data.env_kwargs).unwrapped
        task = without_settings(type(getattr(env, "task", env)))  # of one that plays a script: the script's
        self._writer.add_text("task", f"**{self._data.env_id}** {self._data.env_kwargs or ''}\n\n{task}")
        config = self._folder / "config.yaml"  # LightningCLI's
        if config.exists():
            self._writer.add_text("settings", "\n".join(f"    {line}" for line in config.read_text().splitlines()))
        for summary in hparams(plain_settings(pl_module.hparams, self._data.hparams), {"val/return_mean": 0.0}):  # type: ignore[no-untyped-call]
            self._writer.file_writer.add_summary(summary)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: EvaluationTask,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Counts what was chosen under the rule that training is in."""
        if self._writer is None or "" not in batch.names or not outputs["steps"]:
            return
        answered = np.zeros(len(outputs["steps"][0].action), np.int64)
        for step in outputs["steps"]:
            right = step.infos["correct_action"]
            counts = step.is_playing & (right >= 0)
            position = self._position(step.observation, answered)
            seen = counts & (position < _MOST_POSITIONS)
            np.add.at(self._choices, (position[seen], step.action[seen]), 1)
            self._is_right[position[seen], right[seen]] = True
            answered += counts

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Writes the pictures of an evaluation."""
        if self._writer is None or trainer.sanity_checking:
            return
        env_steps = AgentCallback.of(trainer).total_env_steps
        if self._choices.any():
            rows = self._choices[: int(np.flatnonzero(self._choices.any(1))[-1]) + 1]
            shares = rows / np.maximum(rows.sum(1, keepdims=True), 1)
            picture = draw_matrix(shares, self._row_names(len(rows)), self._letters(), self._is_right[: len(rows)])
            self._writer.add_image("watch/choices by position", picture, env_steps, dataformats="HWC")
            self._clear_choices()
        if self._states is not None and pl_module.act_values(self._states)[1] is None:
            values, _ = pl_module.act_values(self._states)
            picture = draw_matrix(values, self._row_names(len(values)), self._letters())
            self._writer.add_image("watch/values of states", picture, env_steps, dataformats="HWC")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the episodes, of training and one of the greedy policy."""
        if self._writer is None:
            return
        env_steps = AgentCallback.of(trainer).total_env_steps
        if self._data.num_blocks > 1:
            self._write_episodes(env_steps)
        frames = list(self._greedy_frames(pl_module))
        if frames:
            self._write_gif(frames, env_steps)
        self._writer.flush()

    def _position(self, observation: Array, answered: IntArray) -> IntArray:
        """Where in the sequence each environment is: its state's number, or how many answers it has given."""
        return answered if self._states is None else np.asarray(observation).argmax(1)

    def _clear_choices(self) -> None:
        shape = (_MOST_POSITIONS, self._data.n_actions)
        self._choices, self._is_right = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)

    def _letters(self) -> list[str]:
        letters = getattr(_unwrapped(self._data), "letters", None)
        return list(letters) if letters else [str(action) for action in range(self._data.n_actions)]

    def _row_names(self, count: int) -> list[str]:
        return [str(i + 1) for i in range(count)]

    def _write_episodes(self, env_steps: int) -> None:
        try:
            import pandas as pd

            from seqrl_lightning.analysis.figures import draw_episodes, save
        except ModuleNotFoundError as error:
            rank_zero_info(f"No picture of the training episodes: {error.name} is not installed (extra `analysis`).")
            return
        task: Any = _unwrapped(self._data)
        names = task.schedule.names if hasattr(task, "schedule") else None
        figure = draw_episodes(pd.read_csv(self._folder / "episodes.csv"), names)
        save(figure, self._folder / "episodes")
        picture = Image.open(self._folder / "episodes.png").convert("RGB")
        self._writer.add_image("watch/training episodes", np.asarray(picture), env_steps, dataformats="HWC")

    def _greedy_frames(self, pl_module: Any) -> Iterator[Array]:
        """The pictures of a greedy episode; none if the task draws none."""
        if "rgb_array" not in _unwrapped(self._data).metadata.get("render_modes", ()):
            return
        try:
            env = self._data.make_env(render_mode="rgb_array")
            observation, info = env.reset(seed=self._data.eval_seed, options=self._options())
            yield env.render()
        except Exception as error:  # whatever a task raises that can't draw itself, or lacks what it draws with
            rank_zero_info(f"No picture of an episode: {error}")
            return
        state: State = None
        for _ in range(_MOST_FRAMES):
            mask = None if "action_mask" not in info else np.asarray(info["action_mask"], np.bool_)[None]
            action, state = pl_module.act(np.asarray(observation)[None], state, mask)
            observation, _, terminated, truncated, info = env.step(int(action[0]))
            yield env.render()
            if terminated or truncated:
                break
        env.close()

    def _options(self) -> dict[str, Any] | None:
        return {"block": self._data.block} if self._data.num_blocks else None

    def _write_gif(self, frames: list[Array], env_steps: int) -> None:
        pictures = [Image.fromarray(np.asarray(frame, np.uint8)) for frame in frames]
        for picture in pictures:
            picture.thumbnail((_WIDEST, _WIDEST))
        file = io.BytesIO()
        pace = 400 if len(pictures) < 50 else 50  # milliseconds
        pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=pace, loop=0)
        (self._folder / "episode.gif").write_bytes(file.getvalue())
        image = Summary.Image(
            height=pictures[0].height, width=pictures[0].width, colorspace=3, encoded_image_string=file.getvalue()
        )
        self._writer.file_writer.add_summary(
            Summary(value=[Summary.Value(tag="watch/greedy episode", image=image)]), env_steps
        )


def _unwrapped(data: Any) -> Any:
    return data.eval_envs.unwrapped if not hasattr(data.eval_envs, "env") else data.eval_envs.env.unwrapped


def states_of(data: Any) -> FloatArray | None:
    """The observation of each state, [S, *obs], for tasks whose states are one-hot; None for others."""
    single = data.make_env()
    task = single.unwrapped
    num_positions = getattr(task, "num_states", None)
    if isinstance(task.observation_space, gym.spaces.Discrete):
        num_positions = int(task.observation_space.n)
    single.close()
    if num_positions is None or data.obs_shape != (num_positions,) or num_positions > _MOST_STATES:
        return None
    return np.eye(num_positions, dtype=np.float32)


def plain_settings(*settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings as TensorBoard takes them: numbers and texts, by dotted names."""
    flat: dict[str, Any] = {}
    for mapping in settings:
        for name, value in mapping.items():
            if name in _NO_SETTINGS:
                continue
            name = _NAMES.get(name, name)
            if isinstance(value, Mapping):
                flat.update(plain_settings(value, prefix=f"{prefix}{name}."))
            else:
                is_plain = isinstance(value, bool | int | float | str)
                flat[f"{prefix}{name}".replace("init_args.", "")] = value if is_plain else str(value)
    return flat
