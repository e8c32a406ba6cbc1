"""Residual networks for images of 32 x 32 pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer import budgets
from gossamer.models.born_sparse import born_sparse
from gossamer.models.first_values import draw_


def resnet(
    depth: int,
    *,
    num_classes: int,
    generator: torch.Generator,
    width: int = 16,
    sparsity: float = 0.0,
    budget: budgets.Budget = budgets.erk,
) -> nn.Sequential:
    """Make the residual network of CIFAR-10 papers: three stages of equal blocks of two convolutions.

    Args:
        depth: 6 n + 2 for n blocks a stage: 8, 14, 20, ...
        num_classes: outputs, >= 1.
        generator: source of randomness for topologies and first values, on the CPU.
        width: channels of the first stage; the others have two and four times as many.
        sparsity: fraction of all weights that do not exist, in [0, 1); 0: dense layers. Above 0 all convolutions and
            the linear layer are truly sparse but those that the budget leaves whole.
        budget: splits what is kept over the layers.

    Returns:
        A model from [batch, 3, 32, 32] to [batch, num_classes].

    Raises:
        ValueError: no such depth, or sparsity out of range.

    Example:
        >>> model = resnet(20, num_classes=10, generator=torch.Generator())
        >>> sum(weight.numel() for weight in model.parameters() if weight.dim() > 1)
        270896
        >>> sparse = resnet(20, num_classes=10, sparsity=0.9, generator=torch.Generator())
        >>> sparse[3].conv1.num_active
        646

    Source:
        He, Zhang, Ren, Sun. Deep residual learning for image recognition. CVPR 2016, arXiv:1512.03385.
        Differs: where the width changes the shortcut is a 1 x 1 convolution with batch normalisation, as Tanaka et al.
        2020 have it.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"a depth of {depth} is not 6 n + 2; take 8, 14, 20, 32, 44, 56 or 110")
    blocks: list[nn.Module] = []
    channels = width
    for stage in range(3):
        for number in range((depth - 2) // 6):
            outputs = width * 2**stage
            blocks.append(_Block(channels, outputs, stride=2 if stage and not number else 1))
            channels = outputs
    stem = [nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]
    model = nn.Sequential(*stem, *blocks, *head)
    draw_(model, generator=generator)
    return born_sparse(model, sparsity=sparsity, budget=budget, generator=generator)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.relu(self.norm1(self.conv1(inputs)))
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(inputs))
