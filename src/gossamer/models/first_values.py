"""First values of dense convolutional networks."""

import math

import torch
from torch import nn


def draw_(model: nn.Module, *, generator: torch.Generator) -> None:
    """Draw the weights of linear layers and convolutions by their fan-in, and set their biases to zero.

    std = sqrt(2 / fan-in)

    Args:
        model: its Linear and Conv2d layers are filled.
        generator: source of randomness, on the CPU.

    Source:
        He, Zhang, Ren, Sun. Delving deep into rectifiers. ICCV 2015, arXiv:1502.01852.
    """
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            std = math.sqrt(2.0 / module.weight[0].numel())
            module.weight.data.normal_(0.0, std, generator=generator)
            if module.bias is not None:
                module.bias.data.zero_()
