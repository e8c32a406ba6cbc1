"""Gated recurrent units whose weights are truly sparse."""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from gossamer.kernels import gates
from gossamer.nn import recurrent_cell, recurrent_stack, recurrent_weights
from gossamer.nn.recurrent_stack import Inputs


class SparseGRU(nn.Module):
    """Apply torch's `nn.GRU` with weights of which only the active entries exist.

    r, z = sigmoid of W_ih x + b_ih + W_hh h + b_hh;  n = tanh(W_in x + b_in + r (W_hn h + b_hn));  h' = (1 - z) n + z h

    Each weight is a `SparseLinear` of its own, `input_0`, `hidden_0`, `input_0_reverse` and so on, gates one after
    another in its outputs: what works on sparse layers works on them.

    Args:
        input_size: features of the input, >= 1.
        hidden_size: features of the hidden state, >= 1.
        num_layers: layers on one another, >= 1.
        bias: whether there are biases, two for each gate as in torch.
        batch_first: whether input and output are [B, T, features], not [T, B, features].
        dropout: fraction of each layer's outputs but the last's that training sets to zero, in [0, 1].
        bidirectional: whether each layer also runs backwards.
        sparsity: fraction of each weight that does not exist, in [0, 1); counts are exact, see `counts.num_active`.
        generator: source of randomness for topologies and first values, on the CPU.
        dtype: dtype of values and biases; default: torch's default.

    Input: [T, B, input_size], [B, T, input_size] with batch_first, or [T, input_size], or a
        `PackedSequence`; first state h or None.
    Output: outputs, packed where the inputs are, and h, shapes as torch's.

    Raises:
        ValueError: a size is below 1, or sparsity or dropout lie out of range.

    Example:
        >>> layer = SparseGRU(8, 16, sparsity=0.9, generator=torch.Generator().manual_seed(0))
        >>> outputs, hidden = layer(torch.zeros(5, 3, 8))
        >>> outputs.shape, hidden.shape, layer.hidden_0.num_active
        (torch.Size([5, 3, 16]), torch.Size([1, 3, 16]), 77)

    Source:
        Cho et al. Learning phrase representations using RNN encoder-decoder for statistical machine translation. EMNLP
        2014, arXiv:1406.1078; equations as in `nn.GRU`.
        Sparse recurrent weights: Narang, Elsen, Diamos, Sengupta. Exploring sparsity in recurrent neural networks.
        ICLR 2017, arXiv:1704.05119.
        Differs: first values are torch's uniform ones times
        sqrt(in_features / live fan-in), with which the signal keeps the scale that it has in the dense layer.

    Cost: 2 (active input + active hidden weights) flops for each step and sample forward, twice that backward. The
    input's product is one for all steps, and so is the gradient of the hidden weight.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        sparsity: float,
        generator: torch.Generator,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, dropout, bidirectional
        recurrent_weights.fill_(self, "gru", sparsity=sparsity, generator=generator, dtype=dtype)

    @classmethod
    def from_dense(cls, gru: nn.GRU, *, masks: Mapping[str, Tensor] | None = None) -> Self:
        """Make the truly sparse layer that computes what `gru` computes.

        Args:
            gru: dense layer; it is left as it is.
            masks: parameter name, such as "weight_hh_l0", -> bool, shape of the parameter, the entries to keep. A
                weight without a mask keeps what is not zero.

        Raises:
            ValueError: a mask fits no weight.

        Example:
            >>> SparseGRU.from_dense(nn.GRU(2, 3)).hidden_0.num_active
            27
        """
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        recurrent_weights.take_(layer, gru, masks)
        return layer

    def to_dense(self) -> nn.GRU:
        """Return the dense layer that computes the same, zeros where no weight exists."""
        dense = nn.GRU(self.input_size, self.hidden_size, **recurrent_weights.options_of(self), device="meta")
        recurrent_weights.give_(self, dense)
        return dense

    def forward(self, inputs: Inputs, hidden: Tensor | None = None) -> tuple[Inputs, Tensor]:
        """Apply the layer; see the class for shapes."""
        outputs, hidden, _ = recurrent_stack.run(self, "gru", inputs, hidden)
        return outputs, hidden

    def extra_repr(self) -> str:
        """Show sizes and options."""
        return recurrent_weights.describe(self)


class SparseGRUCell(nn.Module):
    """Apply one step of `SparseGRU`, as torch's `nn.GRUCell`.

    Args:
        input_size: features of the input, >= 1.
        hidden_size: features of the states, >= 1.
        bias: whether there are biases.
        sparsity: fraction of each weight that does not exist, in [0, 1).
        generator: source of randomness for topologies and first values, on the CPU.
        dtype: dtype of values and biases; default: torch's default.

    Input: [B, input_size] or [input_size]; state h, [B, hidden_size] or [hidden_size], or None.
    Output: h.

    Example:
        >>> cell = SparseGRUCell(8, 16, sparsity=0.9, generator=torch.Generator().manual_seed(0))
        >>> cell(torch.zeros(3, 8)).shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        sparsity: float,
        generator: torch.Generator,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        recurrent_cell.fill_(self, gates.GATES["gru"], sparsity=sparsity, generator=generator, dtype=dtype)

    @classmethod
    def from_dense(cls, cell: nn.GRUCell, *, masks: Mapping[str, Tensor] | None = None) -> Self:
        """Make the truly sparse cell that computes what `cell` computes.

        Args:
            cell: dense cell; it is left as it is.
            masks: "weight_ih" and "weight_hh" -> bool, the entries to keep; default: what is not zero.

        Raises:
            ValueError: a mask fits no weight.
        """
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        recurrent_cell.take_(layer, cell, masks)
        return layer

    def to_dense(self) -> nn.GRUCell:
        """Return the dense cell that computes the same."""
        dense = nn.GRUCell(self.input_size, self.hidden_size, bias=self.bias, device="meta")
        recurrent_cell.give_(self, dense)
        return dense

    def forward(self, inputs: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Apply one step; see the class for shapes."""
        return recurrent_cell.run(self, "gru", inputs, hidden)[0]

    def extra_repr(self) -> str:
        """Show sizes."""
        return f"{self.input_size}, {self.hidden_size}"
