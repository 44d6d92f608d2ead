"""Read the small files of a run's folder as if a stranger had written them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from seqrl_lightning.errors import refused_in_a_line
from seqrl_lightning.files import require_file
from seqrl_lightning.types import ConfigurationError, shortened

_MAX_GIB = 2**-12
_GROUPS = ("model", "agent", "trainer")
_MAX_DEPTH = 100  # of collections in collections


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """YAML without merge keys (``<<``), which can unfold before anything is counted."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave the key as it is; nothing can be constructed from it."""


def read_config(path: Path) -> dict[str, Any]:
    """Read the ``config.yaml`` of a run.

    Raises:
        ConfigurationError: If it isn't one that ``seqrl fit`` wrote, or stands for far more than it spells.
    """
    require_file(path, _MAX_GIB)
    with refused_in_a_line(str(path)):
        text = path.read_text()
        config: dict[str, Any] = yaml.load(text, _PlainLoader)
        for value in values_in(config, most=len(text)):  # refuses what unfolds to more values than it has letters
            is_small = not isinstance(value, int) or abs(value) < 2**63
            if not (is_small and isinstance(value, str | int | float | None | list | dict)):
                raise ValueError(f"it holds {shortened(repr(value), 100)}, which no setting is")
    data = config.get("data") if isinstance(config, dict) else None
    is_one = isinstance(data, dict) and "env_id" in data and isinstance(data.get("env_kwargs") or {}, dict)
    is_one = is_one and all(isinstance(config.get(group, {}), dict) for group in _GROUPS)
    if not (is_one and isinstance(config.get("seed_everything"), int)):
        must_have = "seed_everything, data.env_id and data.env_kwargs, and settings as its model, agent and trainer"
        raise ConfigurationError(f"{path} is not the config of a run; it must have {must_have}")
    return config


def read_json(path: Path) -> Any:  # which the caller checks
    """Read a JSON file.

    Raises:
        ConfigurationError: If it isn't one, or is larger than what the package writes as JSON.
    """
    require_file(path, _MAX_GIB)
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} isn't JSON as the package writes it: {error}") from error


def values_in(contents: object, most: int) -> Iterator[object]:
    """Yield every value in collections of collections, from the outside in.

    Collections that a file repeats (by YAML's aliases, by a pickle's memo) stand for far more values than it spells.

    Raises:
        ValueError: If there are more than ``most``, or they lie too deep.
    """
    waiting, num_seen = [(contents, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        num_seen += 1
        if num_seen > most or depth > _MAX_DEPTH:
            raise ValueError("its collections claim more than the file holds")
        yield value
        items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
        waiting.extend((item, depth + 1) for item in items)
