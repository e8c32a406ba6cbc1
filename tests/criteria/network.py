"""A small network in float64 whose loss is a function of one weight."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Loss = Callable[[Tensor], Tensor]


def noise(*shape: int, seed: int) -> Tensor:
    """Draw normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample_losses(weight: Tensor) -> Tensor:
    """Return the squared error of each of six samples, shape [6], for a hidden weight of shape [4, 3]."""
    inputs, readers, targets = noise(6, 3, seed=1), noise(2, 4, seed=2), noise(6, 2, seed=3)
    return (torch.tanh(inputs @ weight.t()) @ readers.t() - targets).square().sum(1)


def loss(weight: Tensor) -> Tensor:
    """Return their mean."""
    return sample_losses(weight).mean()


def hidden_weight() -> Tensor:
    """Return a weight for it."""
    return noise(4, 3, seed=0)


def gradient(function: Loss, weight: Tensor) -> Tensor:
    """Return the gradient of a function of a weight."""
    leaf = weight.detach().clone().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf)[0]


def scaled(weight: Tensor, factor: float) -> Iterator[Tensor]:
    """Yield the weight with one entry after the other scaled."""
    for place in range(weight.numel()):
        other = weight.clone()
        other.view(-1)[place] *= factor
        yield other


def slope_of_scaling(function: Loss, weight: Tensor, step: float = 1e-5) -> Tensor:
    """Return the derivative by a factor on each entry, at 1, from central differences."""
    pairs = zip(scaled(weight, 1 + step), scaled(weight, 1 - step), strict=True)
    return torch.stack([(function(up) - function(down)) / (2 * step) for up, down in pairs]).view(weight.shape)
