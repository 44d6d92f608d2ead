"""Action masks, as Gymnasium and PettingZoo pass them: ``info["action_mask"]``."""

from typing import Any

import numpy as np

from seqrl_lightning.types import BoolArray


def action_mask_of(infos: dict[str, Any]) -> BoolArray | None:
    """Return the actions that are allowed in each environment, [N, A] bool; None if the task allows all."""
    mask = infos.get("action_mask")
    if mask is None:
        return None
    if mask.dtype == object:  # a vector environment keeps arrays in an array of objects
        mask = np.stack(list(mask))
    return np.asarray(mask, np.bool_)
