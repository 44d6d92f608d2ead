"""The versions of the packages that a run's results depend on."""

from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("seqrl-lightning", "torch", "lightning", "gymnasium", "numpy", "scipy")  # SciPy comes with an extra


def versions() -> list[str]:
    """Return the packages of this process that are installed with their versions, like ``torch 2.9.1``."""
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found
