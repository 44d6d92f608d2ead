"""The outlets for settings, texts, pictures and tables of a run: a class for each kind of logger."""

import glob
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard.summary import hparams

from seqrl_lightning.files import write_bytes, write_file
from seqrl_lightning.types import Array

RESULT = "val/return_mean"
"""The scalar that settings are shown beside."""

_LAYOUT = {
    "Does it learn?": {
        "return of the greedy policy": ["Multiline", [RESULT]],
        "return of training episodes": ["Multiline", ["train/episode_return"]],
        "each block's rule": ["Multiline", [r"val/block_\d+/return_mean"]],
    },
    "What is learned?": {
        "completion": ["Multiline", ["learning/completion"]],
        "kinds of errors": ["Multiline", [r"learning/errors/.*"]],
        "episodes to criterion": ["Multiline", [r"learning/episodes_to_criterion/block_\d+"]],
        "savings": ["Multiline", [r"learning/savings/block_\d+"]],
    },
    "How?": {
        "loss": ["Multiline", ["train/loss"]],
        "TD error and Q-values": ["Multiline", ["train/td_error_abs_mean", "train/q_value_mean"]],
        "epsilon": ["Multiline", ["train/epsilon"]],
    },
    "How fast?": {
        "env steps per second": ["Multiline", ["workload/env_steps_per_second"]],
        "updates per second": ["Multiline", ["workload/updates_per_second"]],
    },
}
_FIRST_SETTINGS = ("algorithm", "env_id", "gamma", "learning_rate", "network")  # as many as HPARAMS shows at first


class Pages:
    """Write texts, pictures and files to one logger, in the main process.

    A logger of an unknown kind gets the settings only.

    Args:
        logger: The logger.
    """

    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Write the hyperparameters: numbers and texts by dotted names."""
        self.logger.log_hyperparams(settings)

    def write_text(self, name: str, text: str) -> None:
        """Write a text in Markdown."""

    def write_picture(self, name: str, picture: Array, env_steps: int) -> None:
        """Write a picture, ``[H, W, 3] uint8``."""

    def write_animation(self, name: str, path: Path, env_steps: int) -> None:
        """Write an animation, which is a GIF in the run's folder."""

    def write_file(self, path: Path) -> None:
        """Write a file that is in the run's folder: its config, or a table."""

    def flush(self) -> None:
        """Flush everything written so far to the disk."""


class TensorBoardPages(Pages):
    """TensorBoard's pages; tables are beside its data, in the run's folder."""

    def __init__(self, logger: TensorBoardLogger) -> None:
        super().__init__(logger)
        self._writer = logger.experiment

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Fill HPARAMS, and lay out CUSTOM SCALARS."""
        super().write_settings(settings)
        for summary in hparams(settings, {RESULT: 0.0}):
            self._writer.file_writer.add_summary(most_important_first(summary))
        self._writer.add_custom_scalars(_LAYOUT)

    def write_text(self, name: str, text: str) -> None:
        """Add to TEXT."""
        self._writer.add_text(name, text)

    def write_picture(self, name: str, picture: Array, env_steps: int) -> None:
        """Add to IMAGES."""
        self._writer.add_image(name, picture, env_steps, dataformats="HWC")

    def write_animation(self, name: str, path: Path, env_steps: int) -> None:
        """Add to IMAGES, as the GIF that it is."""
        with Image.open(path) as gif:
            width, height = gif.size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes())
        self._writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), env_steps)

    def write_file(self, path: Path) -> None:
        """Add a config to TEXT."""
        if path.suffix == ".yaml":
            self._writer.add_text("settings", "\n".join(f"    {line}" for line in path.read_text().splitlines()))

    def flush(self) -> None:
        """Flush the file of events."""
        self._writer.flush()


class WandbPages(Pages):
    """Weights & Biases: media beside the curves, and the files of its run."""

    def __init__(self, logger: WandbLogger) -> None:
        super().__init__(logger)
        self._wandb = logger

    def write_text(self, name: str, text: str) -> None:
        """Log a table of one cell."""
        self._wandb.log_text(name, columns=[name], data=[[text]])

    def write_picture(self, name: str, picture: Array, env_steps: int) -> None:
        """Log an image."""
        self._wandb.log_image(name, [picture], step=env_steps)

    def write_animation(self, name: str, path: Path, env_steps: int) -> None:
        """Log a video, of the GIF's format."""
        self._wandb.log_video(name, [str(path)], step=env_steps, format=["gif"])

    def write_file(self, path: Path) -> None:
        """Add to the run's files."""
        self._wandb.experiment.save(glob.escape(str(path)), base_path=str(path.parent), policy="now")


class MLflowPages(Pages):
    """MLflow: images beside the curves, and artifacts."""

    def __init__(self, logger: MLFlowLogger) -> None:
        super().__init__(logger)
        self._client: Any = logger.experiment  # MLflow's types need it to be installed
        self._run_id = logger.run_id

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Log the parameters that the run doesn't have yet: MLflow refuses to change those of a resumed run."""
        known = self._client.get_run(self._run_id).data.params
        super().write_settings({name: value for name, value in settings.items() if name not in known})

    def write_text(self, name: str, text: str) -> None:
        """Log an artifact."""
        self._client.log_text(self._run_id, text, f"{name}.md")

    def write_picture(self, name: str, picture: Array, env_steps: int) -> None:
        """Log an image."""
        self._client.log_image(self._run_id, picture, key=name, step=env_steps)

    def write_animation(self, name: str, path: Path, env_steps: int) -> None:
        """Log an artifact."""
        self.write_file(path)

    def write_file(self, path: Path) -> None:
        """Log an artifact."""
        self._client.log_artifact(self._run_id, str(path))


class CSVPages(Pages):
    """Files beside the logger's ``metrics.csv``."""

    def __init__(self, logger: CSVLogger) -> None:
        super().__init__(logger)
        self._own = Path(logger.log_dir)

    def write_text(self, name: str, text: str) -> None:
        """Write ``NAME.md``."""
        write_bytes(self._own / f"{name}.md", text.encode())

    def write_picture(self, name: str, picture: Array, env_steps: int) -> None:
        """Write ``NAME/ENV_STEPS.png``."""
        image = Image.fromarray(picture)
        write_file(self._own / name / f"{env_steps}.png", lambda file: image.save(file, "PNG"))

    def write_animation(self, name: str, path: Path, env_steps: int) -> None:
        """Copy the file."""
        self.write_file(path)

    def write_file(self, path: Path) -> None:
        """Copy a table, unless the logger's folder is the run's. With a config it would look like a second run."""
        if path.suffix != ".yaml" and self._own.resolve() != path.parent.resolve():
            with path.open("rb") as source:
                write_file(self._own / path.name, lambda file: shutil.copyfileobj(source, file))

    def flush(self) -> None:
        """Write the curves so far: by itself, the logger writes only at some numbers of env steps."""
        self.logger.save()


def pages_of(logger: Logger) -> Pages:
    """Return the pages of a logger, in the main process."""
    match logger:
        case TensorBoardLogger():
            return TensorBoardPages(logger)
        case WandbLogger():
            return WandbPages(logger)
        case MLFlowLogger():
            return MLflowPages(logger)
        case CSVLogger():
            return CSVPages(logger)
    return Pages(logger)


def most_important_first(summary: Summary) -> Summary:
    """Make HPARAMS list first the settings by which people compare runs.

    TensorBoard lists settings that are marked as different between runs first, and shows the first five.
    """
    plugin = summary.value[0].metadata.plugin_data
    data = HParamsPluginData.FromString(plugin.content)
    if data.HasField("experiment"):
        for info in data.experiment.hparam_infos:
            info.differs = info.name in _FIRST_SETTINGS
        plugin.content = data.SerializeToString()
    return summary
