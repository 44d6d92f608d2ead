from pathlib import Path

import pytest

from seqrl_lightning.cli import SeqRLCLI

CONFIG = Path(__file__).parent.parent / "configs" / "sequence_dqn.yaml"


@pytest.mark.slow
def test_the_first_config_that_people_run_masters_both_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["seqrl"])
    cli = SeqRLCLI(["fit", "--config", str(CONFIG), f"--trainer.default_root_dir={tmp_path}"])
    rows = (tmp_path / "lightning_logs" / "version_0" / "episodes.csv").read_text().splitlines()[1:]
    blocks_and_returns = [(row.split(",")[2], float(row.split(",")[3])) for row in rows]
    assert len(blocks_and_returns) == 300
    for block in ("0", "1"):
        last_returns = [episode_return for b, episode_return in blocks_and_returns if b == block][-20:]
        assert sum(last_returns) / 20 == pytest.approx(9.0, abs=0.5)
    assert cli.trainer.callback_metrics["val/return_mean"] == 9.0
    assert cli.trainer.callback_metrics["val/block_0/return_mean"] < 5.0  # the old order is forgotten
