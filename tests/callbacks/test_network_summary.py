"""The first lines of a run."""

import pytest

from seqrl_lightning.cli import main


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("is_on", [True, False])
def test_networks_are_printed_by_size(is_on: bool, capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    off = [] if is_on else ["--trainer.enable_model_summary=false"]
    size = ["--model.network=MLP", "--model.network.hidden_sizes=[8]"]  # 4 * 8 + 8 + 8 * 2 + 2
    main(
        [
            "fit",
            "--data.env_id=CartPole-v1",
            "--agent.max_episodes=1",
            f"--trainer.default_root_dir={tmp_path}",
            *size,
            *off,
        ]
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if "parameters" in line]
    assert lines == ["policy_net:     MLP, 58 parameters", "target_net:     MLP, 58 parameters"] * is_on
