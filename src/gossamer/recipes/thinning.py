"""How a round of a lottery ticket search removes weights: layer by layer, or over the whole model."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gossamer import counts, criteria
from gossamer.masks import keep_largest

Masks = Mapping[str, Tensor]
Thin = Callable[[Mapping[str, Tensor], Masks, float], dict[str, Tensor]]


def thin_layers(weights: Mapping[str, Tensor], masks: Masks, sparsity: float) -> dict[str, Tensor]:
    """Remove the smallest survivors of each weight, of the last one, the output layer, half as large a fraction.

    Args:
        weights: values by name.
        masks: who survived so far, bool, by the same names.
        sparsity: fraction of the survivors to remove, in [0, 1).

    Returns:
        Masks by name; of each weight that has survivors one or more stays.

    Raises:
        ValueError: sparsity outside [0, 1), no weights, a survivor that is NaN, or masks that do not fit.

    Source:
        Frankle, Carbin. The lottery ticket hypothesis. ICLR 2019, arXiv:1803.03635.
    """
    _check(weights, masks, sparsity)
    last = list(weights)[-1]
    thinned = {}
    for name, weight in weights.items():
        kept = counts.num_active(int(masks[name].sum()), sparsity / 2 if name == last else sparsity)
        thinned[name] = keep_largest(criteria.magnitude(weight), kept, competes=masks[name])
    return thinned


def thin_model(weights: Mapping[str, Tensor], masks: Masks, sparsity: float) -> dict[str, Tensor]:
    """Remove the smallest survivors of the whole model; better than layer by layer for deep networks.

    Args:
        weights: values by name.
        masks: who survived so far, bool, by the same names.
        sparsity: fraction of the survivors to remove, in [0, 1).

    Returns:
        Masks by name; a weight may lose all.

    Raises:
        ValueError: as for `thin_layers`.

    Source:
        Frankle, Carbin. The lottery ticket hypothesis. ICLR 2019, arXiv:1803.03635.
    """
    _check(weights, masks, sparsity)
    scores = torch.cat([criteria.magnitude(weight).flatten() for weight in weights.values()])
    competes = torch.cat([masks[name].flatten() for name in weights])
    kept = keep_largest(scores, counts.num_active(int(competes.sum()), sparsity), competes=competes)
    parts = kept.split([weight.numel() for weight in weights.values()])
    return {name: part.view_as(weight) for (name, weight), part in zip(weights.items(), parts, strict=True)}


def _check(weights: Mapping[str, Tensor], masks: Masks, sparsity: float) -> None:
    counts.check_sparsity(sparsity)
    if not weights or masks.keys() != weights.keys():
        raise ValueError(
            f"there are weights {', '.join(weights) or 'none'} and masks for {', '.join(masks) or 'none'}; give a mask "
            "for each weight, and one weight or more"
        )
    for name, weight in weights.items():
        mask = masks[name]
        if mask.dtype != torch.bool or mask.shape != weight.shape:
            raise ValueError(
                f"the mask of {name} is {mask.dtype} of shape {tuple(mask.shape)}; a mask is bool, True = "
                f"survives, and has the weight's shape {tuple(weight.shape)}"
            )
        if bool((weight.isnan() & mask).any()):
            raise ValueError(f"{name} holds NaN, which cannot be ranked; check the data and the learning rate")
