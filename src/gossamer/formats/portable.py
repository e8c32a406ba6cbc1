"""From what is fast on one machine back to what is stored and trains anywhere."""

import copy

from torch import nn

from gossamer.formats.block import BlockLinear
from gossamer.formats.compact import CompactLinear
from gossamer.formats.constant_fan_in import FanInLinear
from gossamer.formats.narrow import NarrowLinear

_HELD = (BlockLinear, CompactLinear, FanInLinear, NarrowLinear)


def portable(model: nn.Module) -> nn.Module:
    """Return a model without layers for inference alone: truly sparse ones stand in their place.

    Args:
        model: any, as `gs.accelerate` returns it for example; it is left as it is.

    Returns:
        A copy that computes the same; the model itself if there is nothing to change. Weights that were stored as
        zeros are absent, and such as were rounded stay so.

    Example:
        >>> import torch
        >>> from gossamer.formats.constant_fan_in import hold
        >>> from gossamer.nn import SparseLinear
        >>> held = hold(SparseLinear(8, 16, sparsity=0.75, generator=torch.Generator().manual_seed(0)))
        >>> portable(nn.Sequential(held))[0].num_active
        32
    """
    layers = [module for module in model.modules() if isinstance(module, _HELD)]
    if not layers:
        return model
    memo = {id(layer): layer.to_sparse().train(layer.training) for layer in layers}
    result: nn.Module = copy.deepcopy(model, memo)
    return result
