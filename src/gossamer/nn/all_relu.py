"""All-ReLU: an activation whose slope for negative inputs changes its sign from layer to layer."""

from torch import Tensor, nn

from gossamer.counts import check_positive
from gossamer.nn.activation import activate, check_dropout


class AllReLU(nn.Module):
    """Pass positive inputs; give negative ones a slope that alternates with the depth of the layer.

    f(x) = x for x > 0; for x <= 0: -alpha x in the hidden layers 1, 3, 5 ..., +alpha x in 2, 4, 6 ...

    Args:
        alpha: slope, any finite number; the paper uses 0.05 (Higgs) to 0.75 (CIFAR-10), 0.6 for Fashion-MNIST.
        layer: which hidden layer this is, counted from 1.
        dropout: probability that a value becomes zero in training, in [0, 1); the others are divided by 1 - dropout.

    Input and output: any shape [*], same dtype; the strides are kept.

    Raises:
        ValueError: layer below 1, alpha not finite, or dropout outside [0, 1).

    Example:
        >>> import torch
        >>> x = torch.tensor([-1.0, 2.0])
        >>> AllReLU(alpha=0.5, layer=1)(x), AllReLU(alpha=0.5, layer=2)(x)
        (tensor([0.5000, 2.0000]), tensor([-0.5000,  2.0000]))

    Source:
        Curci, Mocanu, Pechenizkiy. Truly Sparse Neural Networks at Scale. 2021, arXiv:2102.01732.
        The paper counts the input as layer 1, so its even layers are the odd hidden layers here.
    """

    def __init__(self, *, alpha: float, layer: int, dropout: float = 0.0) -> None:
        super().__init__()
        if not -float("inf") < alpha < float("inf"):
            raise ValueError(f"alpha must be a finite number, got {alpha}")
        self.alpha = alpha
        self.layer = check_positive(layer, name="layer")
        self.dropout = check_dropout(dropout)

    @property
    def slope(self) -> float:
        """Factor of what is not above zero."""
        return -self.alpha if self.layer % 2 else self.alpha

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the activation to each entry."""
        return activate(inputs, slope=self.slope, dropout=self.dropout if self.training else 0.0)

    def extra_repr(self) -> str:
        """Show the slope and the layer."""
        return f"alpha={self.alpha}, layer={self.layer}" + (f", dropout={self.dropout}" if self.dropout else "")
