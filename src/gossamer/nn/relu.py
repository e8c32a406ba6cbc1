"""ReLU with dropout behind it, in one pass."""

from torch import Tensor, nn

from gossamer.nn.activation import activate, check_dropout


class ReLU(nn.ReLU):
    """Zero what is negative, as `torch.nn.ReLU`, and in training some of the others at random.

    Args:
        inplace: whether to overwrite the input.
        dropout: probability that a value becomes zero in training, in [0, 1); the others are divided by 1 - dropout.

    Input and output: any shape [*], same dtype; the strides are kept.

    Raises:
        ValueError: dropout lies outside [0, 1).

    Example:
        >>> import torch
        >>> ReLU()(torch.tensor([-1.0, 2.0]))
        tensor([0., 2.])
    """

    def __init__(self, inplace: bool = False, *, dropout: float = 0.0) -> None:
        super().__init__(inplace)
        self.dropout = check_dropout(dropout)

    @property
    def slope(self) -> float:
        """Factor of what is not above zero."""
        return 0.0

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Apply the activation to each entry."""
        dropout = self.dropout if self.training else 0.0
        return activate(input, slope=self.slope, dropout=dropout, inplace=self.inplace)

    def extra_repr(self) -> str:
        """Show what is not as in torch."""
        return ", ".join(filter(None, [super().extra_repr(), f"dropout={self.dropout}" if self.dropout else ""]))
