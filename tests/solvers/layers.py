"""Layers to prune, and what they cost by direct computation."""

import torch
from torch import Tensor


def layer(out: int, size: int, *, seed: int = 0, samples: int = 60) -> tuple[Tensor, Tensor]:
    """Draw a weight and the Gram matrix of inputs that depend on one another, both in float64."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(size, size, generator=generator, dtype=torch.float64)
    data = torch.randn(samples, size, generator=generator, dtype=torch.float64) @ mixed
    return torch.randn(out, size, generator=generator, dtype=torch.float64), data.t() @ data / samples


def error(weight: Tensor, solved: Tensor, gram: Tensor) -> float:
    """Return E |(solved - weight) x|^2, row by row."""
    return sum(float(row @ gram @ row) for row in (solved - weight).flatten(1).double())


def best(weight: Tensor, gram: Tensor, mask: Tensor) -> Tensor:
    """Return the least squares solution of each row, by direct elimination."""
    solved = torch.zeros_like(weight)
    for row, keep in enumerate(mask):
        if keep.any():
            solved[row, keep] = torch.linalg.solve(gram[keep][:, keep], gram[keep] @ weight[row])
    return solved


def with_dampening(gram: Tensor, dampening: float) -> Tensor:
    """Add a share of the mean of the diagonal."""
    return gram + dampening * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
