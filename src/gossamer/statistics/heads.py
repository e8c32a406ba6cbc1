"""Gates on attention heads."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.statistics.gradients import each_gradient


def head_gates(
    model: nn.Module, weights: Mapping[str, Tensor], data: Iterable[Any], loss_fn: Callable[[Any, Any], Tensor]
) -> dict[str, Tensor]:
    """Return dL/d xi at xi = 1 for a factor xi on the output of each attention head, for each sample.

    dL/d xi_h = sum of w dL/dw over the columns of the output projection that read head h

    L is the loss of one sample.

    Args:
        model: measured in evaluation mode, left as it is.
        weights: output projections of nn.MultiheadAttention by name, each a parameter of the model.
        data: labelled batches.
        loss_fn: (outputs, targets) -> scalar, the mean over the samples of a batch.

    Returns:
        Name -> derivatives, shape [samples, heads], dtype of the weight.

    Raises:
        ValueError: a weight is no such projection, the loss is no finite scalar, or does not depend on it.

    Cost: one backward pass for each sample.

    Example:
        >>> model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> data = [(torch.randn(3, 5, 8), torch.randn(3, 5, 8))]
        >>> weights = {"self_attn.out_proj.weight": model.self_attn.out_proj.weight}
        >>> head_gates(model, weights, data, nn.functional.mse_loss)["self_attn.out_proj.weight"].shape
        torch.Size([3, 2])
    """
    heads = {
        id(module.out_proj.weight): module.num_heads
        for module in model.modules()
        if isinstance(module, nn.MultiheadAttention)
    }
    for name, weight in weights.items():
        if id(weight) not in heads:
            raise ValueError(
                f"{name} is no output projection of nn.MultiheadAttention, and no head is known of it; prune only "
                "these, as by include='*out_proj.weight'"
            )
    found: dict[str, list[Tensor]] = {name: [] for name in weights}
    for gradients in each_gradient(model, weights, data, loss_fn):
        for name, weight in weights.items():
            moved = (weight.detach().double() * gradients[name]).sum(0)
            found[name].append(moved.unflatten(0, (heads[id(weight)], -1)).sum(1).to(weight.dtype))
    return {name: torch.stack(parts) for name, parts in found.items()}
