"""The configs that come with the package."""

from collections.abc import Sequence
from pathlib import Path
from sysconfig import get_path

_REPOSITORY = Path(__file__).parents[2]


def configs() -> dict[str, Path]:
    """Return the configs by their names: the repository's, or those that were installed with the package."""
    is_repository = (_REPOSITORY / "pyproject.toml").exists()
    root = _REPOSITORY if is_repository else Path(get_path("data"), "share", "seqrl_lightning")
    return {path.stem: path for path in sorted((root / "configs").glob("*.yaml"))}


def with_paths(arguments: Sequence[str]) -> list[str]:
    """Replace the names of packaged configs among a command's arguments (``--config NAME``) by their paths.

    Raises:
        ConfigurationError: If a name is neither a file nor that of a packaged config.
    """
    found: list[str] = []
    for before, argument in zip(("", *arguments), arguments, strict=False):
        option, is_one, value = argument.rpartition("=") if argument.startswith("--config=") else ("", "", argument)
        is_config = bool(is_one) or before in ("--config", "-c")
        found.append(f"{option}{is_one}{path_of(value)}" if is_config else argument)
    return found


def path_of(config: str) -> str:
    """Return the path of a config that is given by its path or its name.

    Raises:
        ConfigurationError: If there is no such config.
    """
    if Path(config).exists() or Path(config).name != config or Path(config).suffix:
        return config
    from seqrl_lightning.errors import require_known  # imports torch, which lists of configs don't need

    require_known("--config", config, configs())
    return str(configs()[config])
