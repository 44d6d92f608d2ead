"""Checkpoints with sidecars: whole at every moment, and never used when they are damaged."""

import errno
import os
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from seqrl_lightning.callbacks import LastCheckpoint, Sidecars
from seqrl_lightning.checkpoints.format import read_checkpoint, seal
from seqrl_lightning.checkpoints.last import newest_checkpoint
from seqrl_lightning.checkpoints.sidecars import SidecarIO, find_fault_in_run, predecessor_of
from seqrl_lightning.files import checksum
from seqrl_lightning.types import ConfigurationError, RunError
from tests.running import fit


class Data:
    """A datamodule, as far as checkpoints are concerned."""


def save(root: Path, step: int) -> Path:
    """Saves ``last.ckpt`` as a run does; its whole contents tell the step."""
    sidecars = Sidecars()
    sidecars._folder = root / "lightning_logs" / "version_0" / "checkpoints"
    trainer: Any = SimpleNamespace(datamodule=Data(), global_step=step, global_rank=0, world_size=1)
    ring = {"observation": torch.full((50, 3), float(step))}
    weights = {"weight": torch.full((40,), float(step))}
    checkpoint = {
        **{"state_dict": weights, "global_step": step, "hyper_parameters": {}, "callbacks": {}, "loops": {}},
        **{"pytorch-lightning_version": "2.6.0", "epoch": 0},
        **{"optimizer_states": [], "lr_schedulers": [], "Data": {"block": 1, "ring": ring}},
    }
    sidecars.on_save_checkpoint(trainer, None, checkpoint)  # type: ignore[arg-type]
    path = sidecars._folder / "last.ckpt"
    SidecarIO(0, 1, True, path.parent).save_checkpoint(checkpoint, path)
    return path


def load(path: Path) -> int:
    """The step, which all parts have to agree on."""
    checkpoint = SidecarIO(0, 1, True, path.parent).load_checkpoint(path, weights_only=True)
    (step,) = {
        *checkpoint["state_dict"]["weight"].tolist(),
        *checkpoint["Data"]["ring"]["observation"].flatten().tolist(),
    }
    return int(step)


class Killed(BaseException):
    """The program ends here."""


def test_whenever_the_program_is_killed_a_whole_checkpoint_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for moment in range(30):
        root = tmp_path / str(moment)
        for step in (1, 2):
            save(root, step)
        calls = 0

        def counted(function: Any, moment: int = moment) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls > moment:  # and from then on: whoever tidies up doesn't come to it either
                    raise Killed
                return function(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in ("fsync", "replace", "unlink", "open"):
                patch.setattr(os, name, counted(getattr(os, name)))
            try:
                save(root, 3)
                is_killed = False
            except Killed:
                is_killed = True
        seen.add(load(newest_checkpoint(root)))
        if not is_killed:
            break
    assert not is_killed
    assert moment > 6  # so many moments were tried
    assert seen == {2, 3}


def test_the_last_run_is_the_one_that_began_last_whatever_the_times_of_its_files(tmp_path: Path) -> None:
    runs = tmp_path / "lightning_logs"
    for version in (2, 10, 9):
        save(tmp_path, version).parent.parent.rename(runs / f"version_{version}")
    os.utime(runs / "version_10/checkpoints/last.ckpt", (0, 0))  # as a copy may
    assert load(newest_checkpoint(tmp_path)) == 10


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        content[content.find(np.full(20, 2.0, np.float32).tobytes()) + 41] ^= 4
        path.write_bytes(content)
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "flipped", "missing"])
@pytest.mark.parametrize("what", ["sidecar", "checkpoint"])
def test_what_is_damaged_is_never_used(how: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    (sidecar,) = path.parent.glob("step=2*.replay")
    damage(path if what == "checkpoint" else sidecar, how)
    with pytest.raises(RunError, match=r"last\.ckpt can't be"):
        load(path)
    assert load(newest_checkpoint(tmp_path)) == 1
    line = capsys.readouterr().err
    assert "resuming from the one before it, last.previous.ckpt" in line
    assert line.count("\n") == 1
    save(tmp_path, 3)  # the damaged one doesn't take the good one's place
    assert load(predecessor_of(path)) == 1
    damage(path, "truncated")
    damage(predecessor_of(path), "truncated")
    with pytest.raises(ConfigurationError, match="nor can the one before"):
        newest_checkpoint(tmp_path)


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    whole = path.read_bytes()
    weights = torch.load(path, weights_only=True)["state_dict"]["weight"]
    rng = np.random.default_rng(0)
    noticed = 0
    for position in rng.integers(len(whole), size=300):
        content = bytearray(whole)
        content[position] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        if find_fault_in_run(path) is None:  # padding, or a remark in the archive that nobody reads
            assert torch.equal(torch.load(path, weights_only=True)["state_dict"]["weight"], weights)
        else:
            noticed += 1
    assert noticed > 100


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_leaves_the_old_checkpoint(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, 1)

    def refuse(*args: Any) -> None:
        raise OSError(error, os.strerror(error))

    files = set(path.parent.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(RunError, match=f"can't be written: {os.strerror(error)}"):
            save(tmp_path, 2)
    assert set(path.parent.iterdir()) == files
    assert load(newest_checkpoint(tmp_path)) == 1


def test_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    with pytest.raises(ConfigurationError, match=r"trainer.devices\) is 2; it must be the 1 that"):
        SidecarIO(0, 2, True, path.parent).load_checkpoint(path, weights_only=True)
    checkpoint = SidecarIO(1, 2, False, path.parent).load_checkpoint(
        path, weights_only=True
    )  # to evaluate it is all right
    assert checkpoint["Data"] == {"block": 1}


def test_sidecars_go_with_their_checkpoints(tmp_path: Path) -> None:
    data = {"env_id": "seqrl/Sequence-v0", "batch_size": 8, "capacity": 60, "batches_per_epoch": 10}
    folder = tmp_path / "checkpoints"
    best = ModelCheckpoint(folder, save_top_k=2, monitor="val/return_mean", every_n_train_steps=5, mode="max")
    folder.mkdir()
    (folder / "step=3-rank0-0a1b2c3d.replay").touch()  # a killed run's
    (folder / "last.ckpt.4e5f6a7b.unfinished").touch()
    fit(tmp_path, data, {}, {"warmup_env_steps": 16}, callbacks=[best, LastCheckpoint()], max_steps=40)
    checkpoints = sorted(folder.glob("*.ckpt"))
    assert {path.name for path in checkpoints} >= {"last.ckpt", "last.previous.ckpt"}
    named = {name for path in checkpoints for name in torch.load(path, weights_only=True)["sidecars"]}
    assert {path.name for path in folder.iterdir()} == named | {path.name for path in checkpoints}
    assert all(find_fault_in_run(path) is None for path in checkpoints)
    ring = torch.load(folder / min(named), weights_only=True)["ReplayDataModule"]["ring"]
    assert len(ring["action"]) > 16
    assert "ring" not in torch.load(checkpoints[0], weights_only=True)["ReplayDataModule"]


# What a stranger's checkpoint names


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of the user's, outside every run."""
    path = tmp_path / "elsewhere" / "thesis.replay"
    path.parent.mkdir()
    path.write_text("precious")
    return path


def rename_sidecars(path: Path, names: Any) -> None:
    contents = read_checkpoint(path, mmap=False)
    torch.save(seal({**contents, "sidecars": names}), path)


@pytest.mark.parametrize("where", ["absolute", "relative", "link", "folder", "number", "list"])
@pytest.mark.parametrize("action", ["save", "remove", "load", "clean"])
def test_no_file_outside_is_touched(
    where: str, action: str, tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "run", 1)
    link = path.parent / "link.replay"
    link.symlink_to(victim)
    names: Any = {
        "absolute": {str(victim): checksum(victim)},
        "relative": {os.path.relpath(victim, path.parent): checksum(victim)},
        "link": {link.name: checksum(victim)},
        "folder": {"..": ""},
        "number": {3: checksum(victim)},
        "list": [str(victim)],
    }[where]
    rename_sidecars(path, names)
    opened: list[str] = []
    open_path = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: opened.append(str(self)) or open_path(self, *a, **k))
    checkpoint_io = SidecarIO(0, 1, True, path.parent)
    if action == "save":
        save(tmp_path / "run", 2)
        save(tmp_path / "run", 3)
    elif action == "remove":
        checkpoint_io.remove_checkpoint(path)
    elif action == "load":
        with pytest.raises(
            RunError, match=r"can't be used: (it names the sidecar|its sidecar .* is a symbolic link|sidecars in the)"
        ):
            checkpoint_io.load_checkpoint(path)
    else:
        sidecars = Sidecars()
        sidecars._folder = path.parent
        trainer: Any = SimpleNamespace(is_global_zero=True, checkpoint_callbacks=[])
        sidecars.on_fit_start(trainer, None)  # type: ignore[arg-type]
    monkeypatch.undo()
    assert victim.read_text() == "precious"
    assert str(victim) not in opened
    assert where == "link" or str(link) not in opened


def test_only_a_checkpoint_that_is_a_file_is_removed(tmp_path: Path, victim: Path) -> None:
    checkpoint_io = SidecarIO(0, 1, True, tmp_path)
    folder, link = tmp_path / "folder.ckpt", tmp_path / "link.ckpt"
    folder.mkdir()
    link.symlink_to(victim)
    for path in (victim, folder, link, tmp_path / "none.ckpt"):
        checkpoint_io.remove_checkpoint(path)
    assert victim.exists()
    assert folder.exists()
    assert link.is_symlink()


@pytest.mark.slow
@pytest.mark.parametrize("leaves_out", [(), ("best_model_path",), ("best_model_path", "kth_best_model_path")])
def test_the_best_checkpoints_are_those_of_the_runs_own_folder(
    leaves_out: tuple[str, ...], tmp_path: Path, victim: Path
) -> None:
    """``ModelCheckpoint`` deletes what its state names when there is a better one."""
    target = victim.with_suffix(".ckpt")
    victim.rename(target)
    data = {"env_id": "seqrl/Sequence-v0", "batch_size": 8, "capacity": 60, "batches_per_epoch": 10}
    folder = tmp_path / "run" / "checkpoints"

    def best() -> ModelCheckpoint:
        return ModelCheckpoint(folder, save_top_k=1, monitor="val/return_mean", mode="max")

    fit(tmp_path / "run", data, {}, {"warmup_env_steps": 16}, callbacks=[best(), LastCheckpoint()], max_steps=20)
    (own,) = {path.name for path in folder.glob("epoch=*.ckpt")}
    contents = read_checkpoint(folder / "last.ckpt", mmap=False)
    (state,) = (state for key, state in contents["callbacks"].items() if "ModelCheckpoint" in key)
    assert Path(state["best_model_path"]).name == own
    low = torch.tensor(-100.0)
    evil = {str(target): low, f"{folder}/../../elsewhere/thesis.ckpt": low}
    paths = dict.fromkeys(("best_model_path", "kth_best_model_path", "last_model_path"), str(target))
    state.update(best_k_models=evil, kth_value=low, best_model_score=low, **paths)
    state = Counter({name: value for name, value in state.items() if name not in leaves_out})  # 0 for what is missing
    (key,) = (key for key in contents["callbacks"] if "ModelCheckpoint" in key)
    contents["callbacks"][key] = state
    sidecar = next(folder.glob(f"{next(iter(contents['sidecars']))}"))
    large = torch.load(sidecar, weights_only=True)
    large["callbacks"] = contents["callbacks"]
    torch.save(large, sidecar)
    contents["sidecars"] = {sidecar.name: checksum(sidecar)}
    torch.save(seal(contents), folder / "last.ckpt")
    incomplete = pytest.raises(RunError, match="a key of ModelCheckpoint's state") if leaves_out else nullcontext()
    with incomplete:
        fit(
            tmp_path / "run",
            data,
            {},
            {"warmup_env_steps": 16},
            callbacks=[best(), LastCheckpoint()],
            max_steps=60,
            ckpt_path=str(folder / "last.ckpt"),
        )
    assert target.read_text() == "precious"


def test_a_moved_run_keeps_its_best_score(tmp_path: Path) -> None:
    data = {"env_id": "seqrl/Sequence-v0", "batch_size": 8, "capacity": 60, "batches_per_epoch": 10}
    settings: Any = {"data": data, "model": {}, "agent": {"warmup_env_steps": 16}}

    def best(root: Path) -> ModelCheckpoint:
        return ModelCheckpoint(root / "checkpoints", save_top_k=1, monitor="val/return_mean", mode="max")

    before = best(tmp_path / "a")
    fit(tmp_path / "a", **settings, callbacks=[before, LastCheckpoint()], max_steps=20)
    (tmp_path / "a").rename(tmp_path / "b")
    after = best(tmp_path / "b")
    last = str(tmp_path / "b/checkpoints/last.ckpt")
    fit(tmp_path / "b", **settings, callbacks=[after, LastCheckpoint()], max_steps=20, ckpt_path=last)
    assert after.best_model_score == before.best_model_score
    assert Path(after.best_model_path) == tmp_path / "b/checkpoints" / Path(before.best_model_path).name


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("save_top_k", [1, 2, -1])
def test_the_same_checkpoints_stay_after_a_kill(save_top_k: int, tmp_path: Path) -> None:
    """Here between the best checkpoint of an epoch and its last one."""

    class Kill(Checkpoint):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 3:
                raise Killed

    def go(root: Path, *more: Callback, last: Path | None = None) -> None:
        data = {"env_id": "seqrl/Sequence-v0", "batch_size": 8, "capacity": 60, "batches_per_epoch": 10}
        torch.manual_seed(3)
        best = ModelCheckpoint(root / "checkpoints", save_top_k=save_top_k, monitor="val/return_mean", mode="max")
        fit(root, data, {}, {"warmup_env_steps": 16}, callbacks=[best, *more, LastCheckpoint()], max_steps=60,
            ckpt_path=None if last is None else str(last))  # fmt: skip

    go(tmp_path / "whole")
    with pytest.raises(Killed):
        go(tmp_path / "killed", Kill())
    folder = tmp_path / "killed" / "checkpoints"
    own = folder / "mine.ckpt"
    own.write_bytes(max(folder.glob("epoch=*.ckpt"), key=lambda path: path.stat().st_mtime).read_bytes())
    go(tmp_path / "killed", last=folder / "last.ckpt")
    assert own.exists()  # a user's copy
    own.unlink()
    names = [sorted(path.name for path in (tmp_path / root).glob("checkpoints/*.ckpt")) for root in ("whole", "killed")]
    assert names[0] == names[1]


def test_sidecars_lie_beside_their_checkpoint(tmp_path: Path) -> None:
    """Also where it isn't saved in the run's own folder."""
    data = {"env_id": "seqrl/Sequence-v0", "batch_size": 8, "capacity": 60}
    trainer, *_ = fit(tmp_path / "run", data, {}, {"warmup_env_steps": 16}, max_steps=2)
    trainer.save_checkpoint(tmp_path / "other" / "step.ckpt")
    assert find_fault_in_run(tmp_path / "other" / "step.ckpt") is None
    assert not list((tmp_path / "run" / "checkpoints").glob("*.replay"))


def test_a_run_with_a_link_out_of_its_folder_is_refused(tmp_path: Path, victim: Path) -> None:
    path = save(tmp_path / "run", 1)
    (path.parent.parent / "inside.csv").symlink_to(path)
    assert newest_checkpoint(tmp_path / "run") == path
    (path.parent.parent / "episodes.csv").symlink_to(victim)
    with pytest.raises(ConfigurationError, match=r"episodes\.csv is a symbolic link out of"):
        newest_checkpoint(tmp_path / "run")


@pytest.mark.parametrize("link", ["lightning_logs", "lightning_logs/version_0"])
def test_a_run_that_is_a_link_is_refused(link: str, tmp_path: Path) -> None:
    save(tmp_path / "mine", 1)
    path = tmp_path / "stranger" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "mine" / link)
    with pytest.raises(ConfigurationError, match=r"is a symbolic link; .* from --ckpt_path .*mine.*last\.ckpt"):
        newest_checkpoint(tmp_path / "stranger")


def test_from_python_a_checkpoint_with_weights_of_another_kind_isnt_resumed(tmp_path: Path) -> None:
    data = {"env_id": "seqrl/Sequence-v0", "batch_size": 8, "capacity": 60, "batches_per_epoch": 10}
    settings: Any = {"data": data, "model": {}, "agent": {"warmup_env_steps": 16}}
    module = fit(tmp_path, **settings, callbacks=[LastCheckpoint()], max_steps=10)[1]
    last = tmp_path / "checkpoints/last.ckpt"
    contents = torch.load(last, weights_only=True)
    name = next(iter(module.state_dict()))
    for kind in (torch.int64, torch.complex64):
        contents["state_dict"][name] = contents["state_dict"][name].to(kind)
        torch.save(seal(contents), last)
        with pytest.raises(ConfigurationError, match=f"^{name} is 'the shape .* and {kind}'; it must be the shape"):
            fit(tmp_path, **settings, callbacks=[LastCheckpoint()], max_steps=20, ckpt_path=str(last))
