"""The empirical Fisher matrix of a weight, and its inverse one gradient at a time."""

import torch
from torch import Tensor

from gossamer import counts
from gossamer.solvers.checks import as_float64, gradient_rows


def inverse_fisher(sample_grads: Tensor, *, dampening: float) -> Tensor:
    """Return the inverse of the empirical Fisher matrix, one gradient at a time.

    F = dampening I + (1/N) sum g g^T;  P <- P - P g g^T P / (N + g^T P g), from P = I / dampening

    Args:
        sample_grads: gradient of each sample's loss for n weights, shape [samples, n].
        dampening: added to the diagonal, > 0.

    Returns:
        Shape [n, n], float64.

    Raises:
        ValueError: another shape, no sample, NaN, or a dampening that is not positive.

    Example:
        >>> import torch
        >>> inverse_fisher(torch.tensor([[1.0, 0.0]]), dampening=1.0)
        tensor([[0.5000, 0.0000],
                [0.0000, 1.0000]], dtype=torch.float64)

    Source:
        Singh, Alistarh. WoodFisher: efficient second-order approximation for neural network compression.
        NeurIPS 2020, arXiv:2004.14340.

    Cost: O(samples n^2) time, O(n^2) memory.
    """
    if sample_grads.dim() != 2:
        raise ValueError(f"sample_grads must have shape [samples, n], got {tuple(sample_grads.shape)}")
    grads = gradient_rows(sample_grads, sample_grads.shape[1:], dampening=dampening)
    return inverses(grads[None], dampening)[0]


def blocks(weight: Tensor, sample_grads: Tensor, *, block_size: int, dampening: float) -> tuple[Tensor, Tensor]:
    """Cut the flattened weight and its gradients into blocks; zeros fill up the last.

    Args:
        weight: shape [*].
        sample_grads: shape [samples, *].
        block_size: weights of a block, >= 1.
        dampening: > 0, only checked.

    Returns:
        Values [blocks, block_size] and gradients [blocks, samples, block_size], float64.

    Raises:
        ValueError: shapes or settings out of range, or NaN.
    """
    values = as_float64(weight, name="weight").flatten()
    grads = gradient_rows(sample_grads, weight.shape, dampening=dampening)
    missing = -values.numel() % counts.check_positive(block_size, name="block_size")
    values, grads = (torch.nn.functional.pad(tensor, (0, missing)) for tensor in (values, grads))
    return values.view(-1, block_size), grads.unflatten(1, (-1, block_size)).transpose(0, 1)


def inverses(grads: Tensor, dampening: float) -> Tensor:
    """Run the recursion of `inverse_fisher` on all blocks at once.

    Args:
        grads: shape [blocks, samples, n], float64.
        dampening: > 0.

    Returns:
        Shape [blocks, n, n], float64.
    """
    num_blocks, samples, size = grads.shape
    found = (torch.eye(size).to(grads) / dampening).repeat(num_blocks, 1, 1)
    for grad in grads.unbind(1):
        product = (found @ grad[:, :, None])[:, :, 0]
        scale = samples + (grad * product).sum(1)
        found.baddbmm_(product[:, :, None], (product / scale[:, None])[:, None, :], alpha=-1)
    return found
