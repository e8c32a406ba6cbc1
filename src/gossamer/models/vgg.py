"""VGG networks for images of 32 x 32 pixels."""

import torch
from torch import nn

from gossamer import budgets
from gossamer.models.born_sparse import born_sparse
from gossamer.models.first_values import draw_

# Channels of each convolution; M halves the image.
_PLANS = {
    11: (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512),
    16: (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512),
}


def vgg(
    depth: int,
    *,
    num_classes: int,
    generator: torch.Generator,
    sparsity: float = 0.0,
    budget: budgets.Budget = budgets.erk,
) -> nn.Sequential:
    """Make a VGG network with batch normalisation and one linear layer, as in pruning papers on CIFAR-10.

    Args:
        depth: 11 or 16.
        num_classes: outputs, >= 1.
        generator: source of randomness for topologies and first values, on the CPU.
        sparsity: fraction of all weights that do not exist, in [0, 1); 0: dense layers. Above 0 all convolutions and
            the linear layer are truly sparse but those that the budget leaves whole.
        budget: splits what is kept over the layers.

    Returns:
        A model from [batch, 3, 32, 32] to [batch, num_classes].

    Raises:
        ValueError: another depth, or sparsity out of range.

    Example:
        >>> model = vgg(16, num_classes=10, generator=torch.Generator())
        >>> sum(weight.numel() for weight in model.parameters() if weight.dim() > 1)
        14715584

    Source:
        Simonyan, Zisserman. Very deep convolutional networks for large-scale image recognition. ICLR 2015,
        arXiv:1409.1556.
        Differs: batch normalisation, and one linear layer instead of three, as Tanaka et al. 2020 have it.
    """
    if depth not in _PLANS:
        raise ValueError(f"there is no VGG of depth {depth} here; take one of {', '.join(map(str, _PLANS))}")
    layers: list[nn.Module] = []
    channels = 3
    for entry in _PLANS[depth]:
        if isinstance(entry, int):
            layers += [nn.Conv2d(channels, entry, 3, padding=1), nn.BatchNorm2d(entry), nn.ReLU(inplace=True)]
            channels = entry
        else:
            layers.append(nn.MaxPool2d(2))
    model = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(channels, num_classes))
    draw_(model, generator=generator)
    return born_sparse(model, sparsity=sparsity, budget=budget, generator=generator)
