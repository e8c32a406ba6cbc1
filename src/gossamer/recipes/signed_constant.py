"""Signed constants: all weights of a layer get one size, and keep their signs."""

import torch
from torch import nn

from gossamer.weights import prunable


@torch.no_grad()
def signed_constant_(model: nn.Module) -> None:
    """Give all weights of a tensor the same size, and each the sign that it has; zeros stay zero.

    w <- sign(w) * sqrt(mean of w^2 over what is not zero)

    On fresh weights this size is the standard deviation of their initialiser. Call it before `supermask_` or
    `edge_popup_`, or on a ticket that was rewound to its first values. Biases and normalisations stay.

    Args:
        model: with first values, dense or truly sparse; weights are those of `gossamer.prunable`.

    Raises:
        ValueError: a weight holds NaN or infinity, or the model has masks that are learned already. Nothing is changed
            then.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 1))
        >>> model[0].weight.data = torch.tensor([[1.0, 0.0, -7.0]])
        >>> signed_constant_(model)
        >>> model[0].weight.tolist()
        [[5.0, 0.0, -5.0]]

    Source:
        Zhou, Lan, Liu, Yosinski. Deconstructing lottery tickets: zeros, signs, and the supermask. NeurIPS 2019,
        arXiv:1905.01067.
        Differs: the standard deviation is measured about zero on the weights that are there, where the paper takes that
        of the initialiser; so no initialiser needs to be known.
    """
    weights = prunable(model)
    for weight in weights:
        if not bool(weight.values().isfinite().all()):
            raise ValueError(f"{weight.name} holds values that are NaN or infinite; draw it anew")
    for weight in weights:
        values = weight.parameter
        # Not the standard deviation about the mean: that of few survivors may lie far from zero.
        size = values[values != 0].double().square().mean().sqrt()
        values.copy_(torch.where(values == 0, values, values.sign() * size.to(values.dtype)))
