"""Surviving weights with the values of an earlier step."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gossamer.rewinding.early import early_values, tensors
from gossamer.rewinding.survivors import Masks, is_same, surviving


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all that a model's state holds: parameters, buffers, topologies.

    Example:
        >>> list(snapshot(nn.Linear(2, 1)))
        ['weight', 'bias']
    """
    return {name: tensor.detach().clone() for name, tensor in tensors(model).items()}


@torch.no_grad()
def rewind_(model: nn.Module, earlier: Mapping[str, Tensor], *, survivors: Masks | None = None) -> None:
    """Give surviving weights their values of an earlier step; zeros stay zeros, topologies stay as they are.

    Biases, norms and buffers such as running means go back too: all but which weights exist. A weight that was absent
    at the earlier step becomes zero. The optimizer is not touched; make a new one.

    Args:
        model: dense with zeros, truly sparse, or mixed.
        earlier: from `snapshot`, of this model or of a dense one of the same architecture.
        survivors: masks by name of the dense weights, bool, True = survives. Default: what is not zero now.

    Raises:
        ValueError: the snapshot or the masks are of another architecture, a mask is not bool, or the snapshot holds NaN
            or two values for what the model shares. Nothing is changed then.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> earlier = snapshot(layer)
        >>> layer.weight.data = torch.tensor([[7.0, 0.0]])
        >>> rewind_(layer, earlier)
        >>> (layer.weight == earlier["weight"]).tolist(), float(layer.weight.detach()[0, 1])
        ([[True, False]], 0.0)

    Source:
        Renda, Frankle, Carbin. Comparing rewinding and fine-tuning in neural network pruning. ICLR 2020,
        arXiv:2003.02389. Frankle, Dziugaite, Roy, Carbin. Stabilizing the lottery ticket hypothesis. 2019,
        arXiv:1903.01611.
    """
    kept = surviving(model, survivors)
    fresh = early_values(model, earlier)
    state = tensors(model)
    for name, value in fresh.items():
        # A mask may stand under one name of a shared weight; under the others it must hold too.
        mask = next((mask for mask, weight in kept.values() if is_same(weight, state[name])), None)
        state[name].copy_(value if mask is None else value.to(mask.device).masked_fill(~mask, 0))
