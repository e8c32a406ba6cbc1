"""Removed units leave their mean behind, in the bias of the layer that read them."""

from torch import Tensor

from gossamer.solvers.checks import as_float64


def fold_mean(outgoing: Tensor, outgoing_bias: Tensor, activation_mean: Tensor, removed: Tensor) -> Tensor:
    """Return the bias of the next layer when removed units are replaced by their mean.

    bias <- bias + sum over removed c of W_c E a_c

    Args:
        outgoing: weight of the next layer, shape [out2, units, ...]; a kernel counts with its sum.
        outgoing_bias: its bias, shape [out2].
        activation_mean: E a, shape [units].
        removed: which units go, bool, shape [units].

    Returns:
        Bias, shape [out2], dtype of the bias. Behind a convolution it is exact where the kernel meets no padding.

    Raises:
        ValueError: shapes that do not fit, or NaN.

    Example:
        >>> import torch
        >>> outgoing, removed = torch.tensor([[2.0, 3.0]]), torch.tensor([False, True])
        >>> fold_mean(outgoing, torch.tensor([1.0]), torch.tensor([5.0, 0.5]), removed)
        tensor([2.5000])

    Source:
        Hoefler, Alistarh, Ben-Nun, Dryden, Peste. Sparsity in deep learning: pruning and growth for efficient
        inference and training in neural networks. JMLR 2021, arXiv:2102.00554. Section 3.3, output variance.
    """
    weights = outgoing_matrix(outgoing)
    bias = vector(outgoing_bias, len(weights), name="outgoing_bias")
    mean = vector(activation_mean, weights.shape[1], name="activation_mean")
    gone = vector(removed, weights.shape[1], name="removed")
    return (bias + weights.sum(2) @ (mean * gone)).to(outgoing_bias.dtype)


def outgoing_matrix(outgoing: Tensor) -> Tensor:
    """Return a copy of a layer's weight in float64 with its kernel as one axis.

    Args:
        outgoing: shape [out2, units, ...].

    Returns:
        Shape [out2, units, kernel].

    Raises:
        ValueError: fewer than two axes, or NaN.
    """
    if outgoing.dim() < 2:
        raise ValueError(f"outgoing must have shape [out2, units, ...], got {tuple(outgoing.shape)}")
    return as_float64(outgoing, name="outgoing").clone()[..., None].flatten(2)


def vector(values: Tensor, size: int, *, name: str) -> Tensor:
    """Return a vector in float64.

    Args:
        values: shape [size].
        size: entries that it must have.
        name: what the error calls it.

    Raises:
        ValueError: another shape, or NaN.
    """
    if values.shape != (size,):
        raise ValueError(f"{name} must have shape ({size},) to fit outgoing, got {tuple(values.shape)}")
    return as_float64(values, name=name)
