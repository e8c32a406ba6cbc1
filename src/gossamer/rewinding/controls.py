"""Controls of rewinding: as many weights, but with new values or at other places."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from gossamer import masks, sampling, topology
from gossamer.growth import fan_in_uniform
from gossamer.nn import SparseEmbedding
from gossamer.nn.counterparts import SPARSE_LAYERS
from gossamer.rewinding.early import check_whole, early_values
from gossamer.rewinding.rewind import rewind_
from gossamer.rewinding.survivors import Masks, sparse_layers, surviving

_DENSE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@torch.no_grad()
def reinitialize_(model: nn.Module, *, generator: torch.Generator, survivors: Masks | None = None) -> None:
    """Draw new values for surviving weights: uniform in +-sqrt(6 / live fan-in); biases zero, norms as when made.

    Linear layers, convolutions, recurrent layers, attention and norms change, and of these what is trained; zeros stay
    zeros. Embeddings keep the values that survive.

    Args:
        model: dense with zeros, truly sparse, or mixed.
        generator: source of randomness, on the CPU.
        survivors: masks by name of the dense weights, bool, True = survives. Default: what is not zero now.

    Raises:
        ValueError: the masks are of another architecture, or not bool. Nothing is changed then.

    Source:
        Frankle, Carbin. The lottery ticket hypothesis. ICLR 2019, arXiv:1803.03635: the control of random values.
        Values: He et al. 2015, arXiv:1502.01852. Differs: the live fan-in, not the size of the layer.
    """
    drawn = [weight for _, weight in surviving(model, None, embeddings=False).values()]
    for mask, weight in surviving(model, survivors).values():
        if weight.requires_grad:
            weight.masked_fill_(~mask, 0)
        if weight.requires_grad and any(weight is other for other in drawn):
            weight[mask] = _draw(mask.flatten(1).nonzero()[:, 0], len(mask), generator).to(weight)
    for module in model.modules():
        sparse = module if isinstance(module, SPARSE_LAYERS) and not isinstance(module, SparseEmbedding) else None
        if sparse is not None and sparse.values.requires_grad:
            rows = topology.row_indices(sparse.topology).long()
            sparse.values.copy_(_draw(rows, sparse.topology.shape[0], generator))
        if sparse is not None or isinstance(module, _DENSE):
            for name, own in module.named_parameters(recurse=False):
                if "bias" in name and own.requires_grad:
                    own.zero_()
        if isinstance(module, _NORMS) and all(own.requires_grad for own in module.parameters(recurse=False)):
            module.reset_parameters()


@torch.no_grad()
def shuffle_masks_(
    model: nn.Module, *, generator: torch.Generator, earlier: Mapping[str, Tensor] | None = None
) -> None:
    """Let as many weights of each layer survive as now, at random places: is it the places that matter?

    Embeddings keep the places that they have.

    Args:
        model: dense with zeros, truly sparse, or mixed; layers without a zero keep all weights.
        generator: source of randomness, on the CPU.
        earlier: snapshot of a dense model to take the values from, see `rewind_`. Default: they are drawn anew.

    Raises:
        ValueError: the snapshot is of another architecture, or holds no values at the new places. Nothing is changed
            then.

    Source:
        Frankle, Dziugaite, Roy, Carbin. Pruning neural networks at initialization: why are we missing the mark?
        ICLR 2021, arXiv:2009.08576.
    """
    shuffled = {
        name: masks.draw(tuple(mask.shape), int(mask.sum()), generator=generator).to(mask.device)
        for name, (mask, weight) in surviving(model, None, embeddings=False).items()
        if weight.requires_grad
    }
    sparse = {
        path: layer
        for path, layer in sparse_layers(model).items()
        if layer.values.requires_grad and not isinstance(layer, SparseEmbedding)
    }
    if earlier is not None:
        early_values(model, earlier)
        check_whole(earlier, shuffled, sparse)
    for layer in sparse.values():
        rows, columns = layer.topology.shape
        drawn = sampling.distinct(rows * columns, layer.num_active, generator=generator).to(layer.values.device)
        layer.replace_(topology.from_linear(drawn, (rows, columns)), layer.values)
    if earlier is None:
        reinitialize_(model, generator=generator, survivors=shuffled)
    else:
        rewind_(model, earlier, survivors=shuffled)


def _draw(rows: Tensor, num_rows: int, generator: torch.Generator) -> Tensor:
    return fan_in_uniform(rows, torch.bincount(rows, minlength=num_rows), generator=generator)
