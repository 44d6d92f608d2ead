"""One checkpoint of each format, kept from when it was written: it is read, or refused in a line that says what to do.

``tests/formats/N`` holds a run's ``config.yaml``, its ``last.ckpt`` after 20 updates, and the sidecar, as
``seqrl fit --config config.yaml`` wrote them, and ``policy.safetensors``, as ``seqrl export`` wrote it of the
checkpoint; they are never written anew.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from seqrl_lightning.checkpoints.format import FORMAT, read_checkpoint
from seqrl_lightning.policy import load_policy
from tests.running import seqrl

FORMATS = sorted((Path(__file__).parent.parent / "formats").iterdir())
VALUES = [
    -0.0892932,
    -0.0094347,
    0.0711923,
    -0.3313149,
    0.4216609,
    -0.2879927,
    -0.3221546,
    -0.0339348,
    -0.1732585,
    0.4179222,
]
"""The policy's values of an observation of zeros, as they were when it was written: the same run in every format."""


def test_every_format_is_kept() -> None:
    assert [path.name for path in FORMATS] == [str(number) for number in range(1, FORMAT + 1)]


@pytest.mark.parametrize("folder", FORMATS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("name", ["last.ckpt", "policy.safetensors"])
def test_its_policy_acts_as_it_did(folder: Path, name: str) -> None:
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors", reason="needs the extra export")
    policy = load_policy(folder / name)
    policy.act(np.zeros(policy.module.obs_shape, np.float32))
    assert policy.values == pytest.approx(VALUES, abs=1e-6)


def resumed(folder: Path, root: Path) -> tuple[int, str]:
    target = root / "lightning_logs" / "version_0" / "checkpoints"
    target.mkdir(parents=True)
    for path in (*folder.glob("*.ckpt"), *folder.glob("*.replay")):
        shutil.copy(path, target)
    config = f"--config={folder / 'config.yaml'}"
    status, _, err = seqrl(
        "fit", config, f"--trainer.default_root_dir={root}", "--ckpt_path=last", "--trainer.max_steps=30"
    )
    return status, err


def test_the_present_formats_run_is_resumed(tmp_path: Path) -> None:
    status, err = resumed(FORMATS[-1], tmp_path)
    assert status == 0, err
    assert "can't be used" not in err
    assert read_checkpoint(tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt")["global_step"] == 30


@pytest.mark.parametrize("folder", FORMATS[:-1], ids=lambda folder: folder.name)
def test_an_earlier_formats_run_is_refused_in_a_line_that_says_what_to_do(folder: Path, tmp_path: Path) -> None:
    status, err = resumed(folder, tmp_path)
    assert status == 2
    assert f"its format is {folder.name} and this version resumes runs of format {FORMAT}" in err
    assert "its policy can be used (load_policy, seqrl test, seqrl export)" in err
    assert (tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt").exists()
