"""Linear layers with noise on their weights, for exploration."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqrl_lightning.types import require


class NoisyLinear(nn.Linear):
    """A linear layer with factorized Gaussian noise on its weights (arXiv:1706.10295, section 3b).

    ``w = mu + sigma * f(e_out) f(e_in)^T`` with ``f(e) = sign(e) sqrt(|e|)`` and standard normal ``e``. In training
    mode, each call draws new noise, the same for the whole batch; in evaluation mode, the layer uses the means.
    ``weight`` and ``bias`` are the means.

    Args:
        in_features: Size of the input.
        out_features: Size of the output.
        sigma_0: Initial standard deviation of the noise, in units of ``1 / sqrt(in_features)``.

    Raises:
        ConfigurationError: If ``sigma_0`` is negative.
    """

    def __init__(self, in_features: int, out_features: int, sigma_0: float = 0.5) -> None:
        super().__init__(in_features, out_features)  # draws the paper's means: U(-1, 1) / sqrt(in_features)
        require(sigma_0 >= 0, "linear.sigma_0", sigma_0, "at least 0")
        sigma = sigma_0 / in_features**0.5
        self.weight_sigma = nn.Parameter(torch.full_like(self.weight, sigma))
        self.bias_sigma = nn.Parameter(torch.full_like(self.bias, sigma))

    def forward(self, input: Tensor) -> Tensor:
        """``[..., in_features] -> [..., out_features]``."""
        if not self.training:
            return super().forward(input)
        noise_in, noise_out = self._noise(self.in_features), self._noise(self.out_features)
        weight = torch.addcmul(self.weight, self.weight_sigma, torch.outer(noise_out, noise_in))
        bias = torch.addcmul(self.bias, self.bias_sigma, noise_out)
        return F.linear(input, weight, bias)

    def _noise(self, size: int) -> Tensor:
        noise = torch.randn(size, device=self.weight.device, dtype=self.weight.dtype)
        return noise.sign() * noise.abs().sqrt()
