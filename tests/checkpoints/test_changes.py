"""Settings that differ between a run and its resumption."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from seqrl_lightning.checkpoints.changes import Change, overruled, require_resumable
from seqrl_lightning.types import ConfigurationError
from tests.running import seqrl

BEFORE: dict[str, Any] = {
    "seed_everything": 3,
    "data": {
        "env_id": "CartPole-v1",
        "env_kwargs": None,
        "num_envs": 1,
        "capacity": 100,
        "batch_size": 8,
        "save_replay": True,
        "sampler": {"class_path": "UniformSampler", "init_args": {"n_step": 3}},
    },
    "agent": {"epsilon": {"class_path": "LinearEpsilon", "init_args": {"end": 0.1}}, "max_env_steps": None},
    "trainer": {"max_steps": 10, "accumulate_grad_batches": 1, "default_root_dir": "a"},
}


def changed(path: str, value: Any, before: dict[str, Any] = BEFORE) -> dict[str, Any]:
    """The config with another value at a dotted name."""
    key, _, rest = path.partition(".")
    inner = before.get(key)
    return {**before, key: changed(rest, value, inner if isinstance(inner, dict) else {}) if rest else value}


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("data.batch_size", 16, Change("data.batch_size", 8, 16)),
        ("agent.epsilon.init_args.end", 0.3, Change("agent.epsilon.end", 0.1, 0.3)),
        ("agent.epsilon.class_path", "ConstantEpsilon", Change("agent.epsilon", "LinearEpsilon", "ConstantEpsilon")),
        ("agent.epsilon.init_args.end", 0.0, Change("agent.epsilon.end", 0.1, 0.0)),
        ("data.save_replay", False, Change("data.save_replay", True, False)),
        ("agent.max_env_steps", 500, Change("agent.max_env_steps", None, 500)),
        ("seed_everything", 4, Change("seed_everything", 3, 4)),
        ("trainer.accumulate_grad_batches", 2, Change("trainer.accumulate_grad_batches", 1, 2)),
        ("trainer.val_check_interval", 5, Change("trainer.val_check_interval", None, 5)),
        ("trainer.overfit_batches", 0.5, Change("trainer.overfit_batches", None, 0.5)),
        ("trainer.deterministic", True, Change("trainer.deterministic", None, True)),
        ("trainer.callbacks", ["Timer"], Change("trainer.callbacks", None, ["Timer"])),
        ("trainer.log_every_n_steps", 7, Change("trainer.log_every_n_steps", None, 7)),
        ("trainer.max_epochs", 20, None),
        ("trainer.enable_progress_bar", False, None),
        ("data.env_kwargs", {}, None),  # no other than none
        ("trainer.max_steps", 20, None),
        ("trainer.default_root_dir", "b", None),
    ],
)
def test_what_can_change_is_told(path: str, value: Any, told: Change | None) -> None:
    assert require_resumable(BEFORE, changed(path, value)) == ([] if told is None else [told])


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("data.env_id", "Acrobot-v1", "data.env_id is 'Acrobot-v1'; it must be the checkpoint's 'CartPole-v1'"),
        ("data.env_kwargs", {"objects": "AB"}, "data.env_kwargs.objects is 'AB'; it must be the checkpoint's None"),
        ("data.num_envs", 2, "data.num_envs is 2; it must be the checkpoint's 1"),
        ("data.capacity", 200, "data.capacity is 200; it must be the checkpoint's 100"),
        (
            "data.wrappers",
            ["PreviousActionReward"],
            "data.wrappers is ['PreviousActionReward']; it must be the checkpoint's None",
        ),
        ("data.sampler.init_args.n_step", 1, "data.sampler.n_step is 1; it must be the checkpoint's 3"),
        (
            "data.sampler.class_path",
            "PrioritizedSampler",
            "data.sampler is 'PrioritizedSampler'; it must be the",
        ),
    ],
)
def test_what_would_mix_two_experiments_is_refused(path: str, value: Any, line: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        require_resumable(BEFORE, changed(path, value))
    assert str(refusal.value).startswith(line)
    without_memory = changed("data.save_replay", False)
    if "sampler" in path or "capacity" in path:  # it is filled anew
        assert require_resumable(without_memory, changed(path, value, without_memory))


def test_what_a_checkpoint_overrules_has_its_full_name() -> None:
    used = {"model": {"class_path": "DQN", "init_args": {"gamma": 0.9, "network": {"init_args": {"sizes": [8]}}}}}
    given = {"model": {"class_path": "C51", "init_args": {"atoms": 51, "network": {"init_args": {"sizes": [4]}}}}}
    names = [Change("model", "DQN", "C51"), Change("model.network.sizes", [8], [4])]
    assert overruled(used, given) == names


LINEAR = {"class_path": "torch.optim.lr_scheduler.LinearLR", "init_args": {"total_iters": 5}}


@pytest.mark.parametrize(
    ("used", "given", "told"),
    [
        ({"clip_grad_norm": 0.1}, {"clip_grad_norm": None}, [Change("model.clip_grad_norm", 0.1, None)]),
        ({"clip_grad_norm": None}, {"clip_grad_norm": 0.1}, [Change("model.clip_grad_norm", None, 0.1)]),
        ({"lr_scheduler": LINEAR}, {"lr_scheduler": None}, [Change("model.lr_scheduler", LINEAR["class_path"], None)]),
        ({"lr_scheduler": None}, {"lr_scheduler": LINEAR}, [Change("model.lr_scheduler", None, LINEAR["class_path"])]),
        ({"kwargs": None}, {"kwargs": {}}, []),
        ({"clip_grad_norm": 0.1}, {}, []),
    ],
)
def test_none_is_a_value_that_a_checkpoint_overrules(used: Any, given: Any, told: list[Change]) -> None:
    settings = ({"model": {"class_path": "DQN", "init_args": one}} for one in (used, given))
    assert overruled(*settings) == told


@pytest.mark.slow
def test_a_resumed_run_tells_and_its_config_starts_a_new_run(tmp_path: Path) -> None:
    arguments = [
        *("fit", "--data.env_id=CartPole-v1", "--data.batch_size=8", "--data.capacity=60", "--data.eval_episodes=1"),
        *("--agent.warmup_env_steps=16", "--data.batches_per_epoch=10", "--trainer.enable_model_summary=false"),
        *("--trainer.enable_progress_bar=false", f"--trainer.default_root_dir={tmp_path}"),
    ]
    run = tmp_path / "lightning_logs" / "version_0"
    assert seqrl(*arguments, "--trainer.max_steps=10")[0] == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    status, _, err = seqrl(*arguments, "--ckpt_path=last", "--data.sampler=PrioritizedSampler")
    assert status == 2
    assert "data.sampler is 'seqrl_lightning.replay.PrioritizedSampler'; it must be the checkpoint's None" in err
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    config = run / "config.yaml"
    own = config.read_text()
    config.write_text(own + "a0: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)))
    status, _, err = seqrl(*arguments, "--ckpt_path=last")
    assert (status, err.count("\n")) == (2, 1)
    assert "config.yaml can't be used: its collections claim more than the file holds" in err
    config.write_text(own)

    for name, value in (("model", "algorithms.C51"), ("model.network", "networks.GRU")):
        status, _, err = seqrl(*arguments, "--ckpt_path=last", f"--{name}=seqrl_lightning.{value}")
        before_it = "networks.MLP" if name == "model.network" else "algorithms.DQN"
        assert status == 2
        assert err.splitlines()[-1] == (
            f"seqrl: error: {name} is 'seqrl_lightning.{value}'; it must be the checkpoint's "
            f"'seqrl_lightning.{before_it}', or the run a new one, without ckpt_path"
        )

    more = ("--ckpt_path=last", "--trainer.max_steps=20", "--data.batch_size=4", "--model.gamma=0.5")
    more += ("--model.lr_scheduler=torch.optim.lr_scheduler.LinearLR",)
    status, _, err = seqrl(*arguments, *more)
    assert status == 0, err
    assert "seqrl: data.batch_size: 4 is used from here on, not 8 as before" in err
    assert "seqrl: model.gamma: the checkpoint's 0.99 is used, not 0.5" in err
    scheduler = "torch.optim.lr_scheduler.LinearLR"
    assert f"seqrl: model.lr_scheduler: the checkpoint's None is used, not {scheduler!r}" in err
    assert err.count("the checkpoint's") == 2
    assert yaml.safe_load(config.read_text())["ckpt_path"] is None
    status, _, err = seqrl("fit", f"--config={config}")
    assert status == 0, err
    assert "Restor" not in err
    assert (tmp_path / "lightning_logs" / "version_1" / "config.yaml").read_text() == config.read_text()
