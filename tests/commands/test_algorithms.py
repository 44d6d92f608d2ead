from seqrl_lightning import algorithms, networks
from tests.running import seqrl


def test_every_learner_and_network_in_a_line() -> None:
    _, out, _ = seqrl("algorithms")
    first_words = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert set(algorithms.__all__) - {"LearnerModule"} < set(first_words)
    callables = {"Network", "NetworkCallable", "HeadCallable", "LinearCallable"}
    assert set(networks.__all__) - callables < set(first_words)
    assert "  IQN            Implicit quantile network (Dabney et al., arXiv:1806.06923)." in out


def test_one_in_full_with_the_settings_of_its_parent() -> None:
    _, out, _ = seqrl("algorithms", "C51")
    assert "n_atoms: Number of atoms." in out
    settings = [line.strip() for line in out.partition("\nSettings:\n")[2].splitlines()]
    assert settings[1:4] == ["double: bool = False", "n_atoms: int = 51", "v_min: float = -10.0"]
    assert "gamma: float = 0.99" in settings
    assert any(line.startswith("network: ") and line.endswith(" = MLP") for line in settings)
    assert any(line.endswith(" = lambda params, lr: torch.optim.Adam(params, lr, fused=True)") for line in settings)
    assert not any(line.startswith(("obs_shape", "self", "args")) for line in settings)


def test_a_network_with_what_explains_its_settings() -> None:
    _, out, _ = seqrl("algorithms", "GRU")
    assert "hidden_size: Units of each layer of the core." in out  # from GatedNetwork
    assert "    hidden_size: int = 64\n" in out
    assert ":class:" not in out
    assert "``" not in out


def test_an_unknown_name_is_one_line() -> None:
    status, _, err = seqrl("algorithms", "Rainbow")
    assert status == 2
    assert err.startswith("seqrl: error: the class is 'Rainbow'; it must be one of BehaviorCloning, C51, ")
    assert err.count("\n") == 1
