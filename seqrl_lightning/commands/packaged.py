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
    path = Path(config)
    is_file_name = path.suffix in (".yaml", ".yml", ".json")
    if not path.is_dir() and (path.exists() or (not is_file_name and (path.name != config or path.suffix))):
        return config
    from seqrl_lightning.errors import require_known, suggestion  # they take a moment to import
    from seqrl_lightning.types import ConfigurationError

    if path.is_dir():
        raise ConfigurationError(f"--config is {config!r}, which is a folder; it must be a file")
    if is_file_name:
        packaged = path.stem if path.stem in configs() else ""
        beside = suggestion(config, map(str, path.parent.glob(f"*{path.suffix}")))
        hint = f"; did you mean {packaged!r}, which comes with the package?" if packaged else beside
        raise ConfigurationError(f"--config is {config!r}; there is no such file{hint}")
    require_known("--config", config, configs())
    return str(configs()[config])
