from pathlib import Path

import pytest

from seqrl_lightning.algorithms import DQN
from tests.running import fit, seqrl


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With one run's ``last.ckpt``."""
    folder = tmp_path_factory.mktemp("root")
    settings = {"env_id": "CartPole-v1", "batch_size": 4, "capacity": 20}
    trainer, *_ = fit(folder, settings, {"double": True}, {"warmup_env_steps": 10}, module_class=DQN, max_steps=1)
    trainer.save_checkpoint(folder / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt")
    return folder


def test_the_newest_checkpoint_beside_itself(root: Path) -> None:
    status, out, err = seqrl("export", "--ckpt_path=last", f"--default_root_dir={root}", "--format=torch_export")
    assert (status, err) == (0, "")
    path = root / "lightning_logs" / "version_0" / "checkpoints" / "last.pt2"
    assert out.startswith(f"{path}: observation [batch, 4] -> q_values, action; differs from the network by at most ")
    assert out.count("\n") == 1
    assert path.stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ckpt_path=none.ckpt", "--format=onnx"], "none.ckpt can't be used: it is missing"),
        (["--ckpt_path=none.ckpt", "--format=gguf"], "format"),
        (["--ckpt_path=none.ckpt"], "--format: missing"),
    ],
)
def test_what_cannot_be_exported_is_one_line(arguments: list[str], message: str) -> None:
    status, _, err = seqrl("export", *arguments)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
