"""Settings of the Trainer with which no learner, or not this one, can be trained."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler, ModelCheckpoint

from seqrl_lightning.trainer_access import attributes_of
from seqrl_lightning.types import CompileMode, require

_WRITTEN_ONLY = ("learning/", "workload/")  # curves that loggers get, and Lightning's callbacks don't
_PRECISIONS = ("32-true", "64-true", "16-mixed", "bf16-mixed")


def require_precise_weights(trainer: Trainer) -> None:
    """Refuse weights in half precision: small steps round to nothing there.

    A target network in bfloat16 that follows its policy network by ``tau = 0.005`` has gone a twelfth of the way after
    1000 updates, instead of all of it; Adam's steps are lost likewise. Mixed precision keeps the weights in float32.

    Raises:
        ConfigurationError: If ``trainer.precision`` asks for it.
    """
    must_be = f"one of {', '.join(_PRECISIONS)}: weights in half precision are too coarse for small steps"
    require(trainer.precision in _PRECISIONS, "trainer.precision", trainer.precision, must_be)


def require_gpu_for_graphs(trainer: Trainer, learner: LightningModule, mode: CompileMode) -> None:
    """Refuse CUDA graphs without a GPU, and of updates that the Trainer makes.

    Lightning counts its own updates apart from those by hand, so that a resumed run couldn't change ``model.compile``.

    Raises:
        ConfigurationError: If ``model.compile`` asks for them.
    """
    if not uses_cuda_graphs(mode):
        return
    device = trainer.strategy.root_device
    require(device.type == "cuda", "model.compile", mode, f"true or false: the Trainer's device is {device}, not a GPU")
    must_be = f"at least 2 with model.compile {mode}"
    require(not learner.automatic_optimization, "model.updates_per_step", 1, must_be)


def uses_cuda_graphs(mode: CompileMode) -> bool:
    """Whether updates are to be made by CUDA graphs."""
    return isinstance(mode, str)


def require_own_clipping(trainer: Trainer, learner: LightningModule) -> None:
    """Refuse to let the Trainer clip or accumulate the gradients of updates that it doesn't make.

    Raises:
        ConfigurationError: If it is asked to, and the learner makes its updates by hand.
    """
    if learner.automatic_optimization:
        return
    count = learner.hparams.get("updates_per_step", 1)
    updates = f"model.updates_per_step = {count}" if count > 1 else type(learner).__name__
    ours = "clip_grad_value" if trainer.gradient_clip_algorithm == "value" else "clip_grad_norm"
    clip, accumulate = trainer.gradient_clip_val, trainer.accumulate_grad_batches
    must_be = f"null with {updates}, whose updates the Trainer doesn't make: set model.{ours} instead"
    require(not clip, "trainer.gradient_clip_val", clip, must_be)
    must_be = f"1 with {updates}, whose updates the Trainer doesn't make: raise data.batch_size instead"
    schedules = [c.scheduling for c in attributes_of(trainer).callbacks if isinstance(c, GradientAccumulationScheduler)]
    require(not schedules, "trainer.callbacks.GradientAccumulationScheduler", schedules, must_be)
    require(accumulate == 1, "trainer.accumulate_grad_batches", accumulate, must_be)


def require_monitored(trainer: Trainer) -> None:
    """Refuse to choose checkpoints, or to stop, by curves that Lightning doesn't know of.

    Raises:
        ConfigurationError: If a callback is to.
    """
    for callback in attributes_of(trainer).callbacks:
        if not isinstance(callback, ModelCheckpoint | EarlyStopping):
            continue
        is_checkpoint = isinstance(callback, ModelCheckpoint)
        setting = "checkpoint.monitor" if is_checkpoint else "trainer.callbacks.EarlyStopping.monitor"
        must_be = "a result of evaluations, like val/return_mean: curves of training are written, but not monitored"
        require(not (callback.monitor or "").startswith(_WRITTEN_ONLY), setting, callback.monitor, must_be)
