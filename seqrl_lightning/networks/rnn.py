"""A recurrent network without gates."""

from torch import nn

from seqrl_lightning.networks.recurrent import RecurrentNetwork


class RNN(RecurrentNetwork):
    """A simple recurrent network with tanh units (Elman, Cognitive Science 14, 1990).

    Its state is ``[num_layers, B, hidden_size]``. It has no gates: recurrent weights start as an orthogonal matrix, so
    that memory fades slowly. Each row in which an episode starts in any column begins another call of torch's kernel.

    Settings as for :class:`RecurrentNetwork`.
    """

    def build_core(self, input_size: int, hidden_size: int, num_layers: int) -> nn.RNNBase:
        """Build torch's RNN."""
        core = nn.RNN(input_size, hidden_size, num_layers)
        for _, recurrent_weight, *_ in core.all_weights:
            nn.init.orthogonal_(recurrent_weight)
        return core
