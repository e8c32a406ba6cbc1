"""Convolutions whose input channels lie side by side, as N:M groups take them; unfolded inputs have them apart."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def channels_last(given: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return what a solver is given for a convolution, the input channels as the last axis.

    Args:
        given: argument name -> tensor: `weight` [out, in, kernel...], `input_gram` [in * kernel, in * kernel],
            `input_norm` [in * kernel]; all else is passed on.
        shape: of the weight.
    """
    count = torch.Size(shape[1:]).numel()
    order = torch.arange(count).view(shape[1:]).movedim(0, -1).flatten()
    moved = dict(given)
    if "weight" in given:
        moved["weight"] = given["weight"].movedim(1, -1).contiguous()
    for name in ("input_gram", "input_norm"):
        if name in given:
            along = order.to(given[name].device)
            moved[name] = given[name][along][:, along] if given[name].dim() == 2 else given[name][along]
    return moved


def channels_first(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a weight or a mask of channels last as a tensor of a shape [out, in, kernel...]."""
    return tensor.view(shape[0], *shape[2:], shape[1]).movedim(-1, 1)
