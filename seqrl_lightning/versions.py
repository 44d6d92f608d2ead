"""The versions of the packages that a run's results depend on."""

from importlib.metadata import version

_PACKAGES = ("seqrl-lightning", "torch", "lightning", "gymnasium", "numpy", "scipy")


def versions() -> list[str]:
    """Return the packages of this process with their versions, like ``torch 2.9.1``."""
    return [f"{name} {version(name)}" for name in _PACKAGES]
