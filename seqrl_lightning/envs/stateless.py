"""Wrappers that carry nothing from step to step."""

from typing import Any


class Stateless:
    """A mixin for wrappers without state; a subclass with state needs to override its methods."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore nothing."""
