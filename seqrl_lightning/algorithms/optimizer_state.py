"""Check the state that an optimizer has taken from a checkpoint."""

import torch
from torch.optim import Optimizer

from seqrl_lightning.saved_state import StateError, saved_tensor


def require_fitting_state(optimizer: Optimizer) -> None:
    """Refuse a state that a fused optimizer would read and write beyond its end.

    ``Optimizer.load_state_dict`` takes tensors of any shape, and whether the step is fused is in the state, too. Other
    implementations compare the shapes, a fused kernel doesn't: one from a stranger would write into any memory.

    Args:
        optimizer: Its ``step`` counts are tensors of one number; all else has its parameter's shape.

    Raises:
        StateError: If it doesn't fit the parameters.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("fused") else ():
            for name, value in optimizer.state.get(parameter, {}).items():
                what = f"the optimizer's {name}"
                shape, dtype = ((), torch.float32) if name == "step" else (parameter.shape, parameter.dtype)
                tensor = saved_tensor(value, shape, dtype, what)
                if not (tensor.is_contiguous() or tensor.stride() == parameter.stride()):
                    raise StateError(f"{what} in the checkpoint has the strides {tensor.stride()}; it must be dense")
