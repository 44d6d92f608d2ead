"""``last.ckpt`` at the end of an epoch and after a signal: what follows is what would have followed."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler, StochasticWeightAveraging

from seqrl_lightning.callbacks import LastCheckpoint, last_checkpoint
from seqrl_lightning.signals import EndedBySignal
from tests.running import fit

DATA = {"env_id": "seqrl/SequenceDistractor-v0", "batch_size": 8, "capacity": 60, "batches_per_epoch": 10}


class Diary(Callback):
    """A log of epochs and evaluations, with a signal during one batch or evaluation."""

    def __init__(self, signum: int | None = None, batch: int | None = None, evaluation: int | None = None) -> None:
        self.events: list[tuple[str, int, int]] = []
        self.signum, self.batch, self.evaluation = signum, batch, evaluation
        self._num_batches = 0

    def _note(self, what: str, trainer: Any) -> None:
        self.events.append((what, trainer.current_epoch, trainer.global_step))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._num_batches += 1
        if self.signum is not None and self._num_batches == self.batch:
            os.kill(os.getpid(), self.signum)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._note("epoch", trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._note("end", trainer)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._note("evaluation", trainer)
        if self.signum is not None and trainer.current_epoch + 1 == self.evaluation:
            os.kill(os.getpid(), self.signum)


def run(
    folder: Path, max_steps: int, diary: Diary, resumes: bool = False, callbacks: Any = (), **flags: Any
) -> tuple[list[tuple[str, int, int]], Any]:
    torch.manual_seed(3)
    _, module, _ = fit(
        folder,
        DATA,
        {},
        {"warmup_env_steps": 16, "env_steps_per_update": 2},
        callbacks=[diary, *callbacks, LastCheckpoint()],
        max_steps=max_steps,
        ckpt_path=str(folder / "checkpoints" / "last.ckpt") if resumes else None,
        **flags,
    )
    return diary.events, module.state_dict()


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("stop", [10, 20, 30])
def test_evaluations_come_when_they_would_have_come(tmp_path: Path, every: int, stop: int) -> None:
    flags = {"check_val_every_n_epoch": every}
    expected, weights = run(tmp_path / "whole", 60, Diary(), **flags)
    before, _ = run(tmp_path / "half", stop, Diary(), **flags)
    after, again = run(tmp_path / "half", 60, Diary(), resumes=True, **flags)
    assert before + after == expected
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights.items())


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("moment", "flags"),
    [
        ({"batch": 14}, {}),
        ({"batch": 20}, {}),  # the last of an epoch, whose evaluation is still to come
        ({"evaluation": 2}, {}),
        ({"batch": 13}, {"accumulate_grad_batches": 2}),  # half of an update
        ({"batch": 9}, {"accumulate_grad_batches": 4}),
    ],
)
def test_a_signal_loses_nothing(tmp_path: Path, signum: int, moment: dict[str, int], flags: dict[str, Any]) -> None:
    num_updates = 40 // flags.get("accumulate_grad_batches", 1)
    expected, weights = run(tmp_path / "whole", num_updates, Diary(), **flags)
    diary = Diary(signum, **moment)
    with pytest.raises(SystemExit):
        run(tmp_path / "half", num_updates, diary, **flags)
    after, again = run(tmp_path / "half", num_updates, Diary(), resumes=True, **flags)
    assert diary.events + after == expected
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights.items())


class Slow(Callback):
    """An evaluation of half a minute after the third epoch."""

    def on_validation_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.current_epoch == 2:
            time.sleep(30)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", [{"evaluation": 3}, {"batch": 30}])
def test_a_long_evaluation_is_broken_off(
    tmp_path: Path, signum: int, moment: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_checkpoint, "SECONDS_FOR_EVALUATION", 0.1)
    expected, weights = run(tmp_path / "whole", 40, Diary())
    begun = time.monotonic()
    with pytest.raises(SystemExit) as end:
        run(tmp_path / "half", 40, Diary(signum, **moment), callbacks=[Slow()])
    assert time.monotonic() - begun < 20
    assert signum == signal.SIGINT or isinstance(end.value, EndedBySignal)  # no environment's own sys.exit()
    assert end.value.code == {signal.SIGINT: 1, signal.SIGTERM: 143}[signal.Signals(signum)]
    after, again = run(tmp_path / "half", 40, Diary(), resumes=True)
    assert after == [event for event in expected if event[1] >= 2]  # from the epoch before on
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights.items())


@pytest.mark.slow
def test_a_callback_with_a_monitored_key_resumes(tmp_path: Path) -> None:
    def stopping() -> EarlyStopping:
        return EarlyStopping("val/return_mean", mode="max", patience=100)

    whole, half, resumed = stopping(), stopping(), stopping()
    run(tmp_path / "whole", 60, Diary(), callbacks=[whole])
    run(tmp_path / "half", 30, Diary(), callbacks=[half])
    run(tmp_path / "half", 60, Diary(), resumes=True, callbacks=[resumed])
    assert resumed.state_dict() == whole.state_dict()
    assert resumed.wait_count > half.wait_count or resumed.best_score > half.best_score


def test_a_schedule_by_epochs_loses_no_epoch(tmp_path: Path) -> None:
    """Lightning steps it once an epoch, also in the epoch that the checkpoint ends."""
    seen: dict[str, list[float]] = {"whole": [], "half": []}

    class Rates(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            seen[self.name].append(trainer.optimizers[0].param_groups[0]["lr"])

    class ByEpochs(Callback):
        def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
            optimizer = torch.optim.SGD(pl_module.policy_net.parameters(), 1.0)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
            pl_module.configure_optimizers = lambda: {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"},
            }

    def callbacks(name: str) -> list[Callback]:
        return [ByEpochs(), Rates(name)]

    run(tmp_path / "whole", 50, Diary(), callbacks=callbacks("whole"))
    run(tmp_path / "half", 20, Diary(), callbacks=callbacks("half"))
    run(tmp_path / "half", 50, Diary(), resumes=True, callbacks=callbacks("half"))
    assert seen["whole"] == [1.0, 0.5, 0.25, 0.125, 0.0625]
    assert seen["half"] == seen["whole"]


AT_EPOCH_STARTS: dict[str, Callable[[], Callback]] = {
    "accumulation": lambda: GradientAccumulationScheduler({1: 2, 2: 4}),
    "averaging": lambda: StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=2),
}


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("batch", [14, 28])
@pytest.mark.parametrize("name", AT_EPOCH_STARTS)
def test_what_callbacks_prepare_at_an_epochs_start_is_prepared_in_mid_epoch(
    tmp_path: Path, name: str, batch: int
) -> None:
    make, flags = AT_EPOCH_STARTS[name], {"max_epochs": 5}
    expected, weights = run(tmp_path / "whole", -1, Diary(), callbacks=[make()], **flags)
    diary = Diary(signal.SIGTERM, batch=batch)
    with pytest.raises(SystemExit):
        run(tmp_path / "half", -1, diary, callbacks=[make()], **flags)
    after, again = run(tmp_path / "half", -1, Diary(), resumes=True, callbacks=[make()], **flags)
    assert diary.events + after == expected
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights.items())


def test_a_callback_that_may_have_prepared_an_epoch_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Saving(Diary):
        def state_dict(self) -> dict[str, Any]:
            return {"events": len(self.events)}

    with pytest.raises(SystemExit):
        run(tmp_path, 20, Diary(signal.SIGTERM, batch=14))
    with caplog.at_level("INFO"):
        run(tmp_path, 15, Diary(), resumes=True, callbacks=[Saving()])
    assert [line for line in caplog.messages if "bitwise" in line] == [
        "Not bitwise, if Diary.on_train_epoch_start() changes what is learned: the run is resumed in mid-epoch, where "
        "the hook isn't called again, and Diary saves no state. To resume exactly, give it `state_dict` and "
        "`load_state_dict`."
    ]
