"""Network slimming: L1 on the factors of a batch normalisation, which empties whole channels."""

from torch import Tensor

from gossamer.penalties.precision import widened


def slimming(scale: Tensor) -> Tensor:
    """Sum the magnitudes of the factors that a batch normalisation puts on its channels.

    penalty = sum |gamma|

    Add it up over the layers; then the channels with the smallest factors of the whole model can go.

    Args:
        scale: factor of each channel, shape [units].

    Returns:
        Scalar, float32, or float64 for a scale of that type; 0 for an empty tensor. Its gradient at 0 is 0.

    Example:
        >>> import torch
        >>> slimming(torch.tensor([0.5, -1.0]))
        tensor(1.5000)

    Source:
        Liu, Li, Shen, Huang, Yan, Zhang. Learning Efficient Convolutional Networks through Network Slimming. ICCV 2017,
        arXiv:1708.06519.
    """
    return widened(scale).abs().sum()
