"""Wrappers that carry nothing from step to step."""

from typing import Any


class Stateless:
    """A mixin for wrappers whose state is nothing; a subclass that carries something needs methods of its own."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore nothing."""
