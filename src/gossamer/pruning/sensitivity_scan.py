"""How much the loss rises when one weight tensor alone is pruned."""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import counts, criteria, patterns, statistics
from gossamer.pruning.candidates import owners_of, to_prune
from gossamer.pruning.cut import is_solver
from gossamer.pruning.scores import as_scores, below_all
from gossamer.pruning.supply import Supply, name_of, wanted
from gossamer.weights import MaskedWeight, SparseWeight, numel

Loss = Callable[[Any, Any], Tensor]


def sensitivity_scan(
    model: nn.Module,
    *,
    sparsities: Iterable[float],
    data: Iterable[Any],
    loss_fn: Loss,
    criterion: Callable[..., Any] = criteria.magnitude,
    pattern: patterns.Pattern | None = None,
    first: Mapping[str, Tensor] | None = None,
    include: Iterable[str] = ("*",),
    exclude: Iterable[str] = (),
    generator: torch.Generator | None = None,
) -> dict[str, dict[float, float]]:
    """Return the mean loss with each weight tensor alone pruned to each sparsity: what `budgets.sensitivity` needs.

    The scores are taken once, on the model as it is. Batch normalisation keeps its running statistics.

    Args:
        model: trained; it is left as it is.
        sparsities: fractions of a tensor to remove, in [0, 1); the budget goes up to the largest and no further.
            A pattern takes the nearest that it can have.
        data: labelled batches, a list or a DataLoader: it is read once for each loss.
        loss_fn: (outputs, targets) -> scalar, the mean over a batch.
        criterion: what scores a weight, as for `prune`; no solver.
        pattern: the shape that masks take; None: unstructured. As for `prune`, one that removes whole outputs leaves
            the last weight of the model alone.
        first: the model's earlier values, a state_dict, for criteria that compare.
        include: glob patterns, or one, of the weights to scan.
        exclude: glob patterns, or one, of the weights to leave alone.
        generator: source of randomness, on the CPU, where something is random.

    Returns:
        Weight name -> sparsity -> mean loss over the samples; at 0.0 that of the model as it is.

    Raises:
        ValueError: no sparsity, one outside [0, 1), a solver, no data, a loss that is no finite scalar, or a criterion
            that cannot judge a weight.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 1, bias=False))
        >>> model[0].weight.data = torch.tensor([[1.0, 3.0]])
        >>> data = [(torch.ones(4, 2), torch.full((4, 1), 4.0))]
        >>> sensitivity_scan(model, sparsities=[0.5], data=data, loss_fn=nn.functional.mse_loss)
        {'0.weight': {0.0: 0.0, 0.5: 1.0}}

    Source:
        Han, Pool, Tran, Dally. Learning both Weights and Connections for Efficient Neural Networks. NIPS 2015,
        arXiv:1506.02626.

    Cost: one pass over the data for each weight and sparsity.
    """
    tried = sorted({counts.check_sparsity(float(sparsity)) for sparsity in sparsities})
    if not tried:
        raise ValueError("there is no sparsity to try; pass some in [0, 1), such as (0.5, 0.8, 0.9, 0.95)")
    if is_solver(criterion):
        raise ValueError(
            f"{name_of(criterion)} is a solver; scan by a criterion that scores, such as criteria.magnitude"
        )
    pattern = pattern or patterns.unstructured()
    pruned = copy.deepcopy(model)
    weights = to_prune(pruned, pattern, include, exclude)
    supply = Supply(pruned, owners_of(pruned), data=data, loss_fn=loss_fn, first=first, generator=generator)
    given = supply.gather(wanted(criterion), weights)
    dense = statistics.mean_loss(pruned, data, loss_fn)
    scan = {weight.name: {0.0: dense} for weight in weights}
    for weight in weights:
        judged = as_scores(criterion(**given[weight.name]), weight, rule=criterion, pattern=pattern)
        scores, values = below_all(judged, weight), weight.parameter.detach().clone()
        for sparsity in (one for one in tried if one):
            weight.parameter.data.copy_(values.masked_fill(~_mask(weight, scores, pattern, sparsity), 0.0))
            scan[weight.name][sparsity] = _loss(pruned, data, loss_fn, weight.name, sparsity)
        weight.parameter.data.copy_(values)
    return scan


def _mask(weight: MaskedWeight | SparseWeight, scores: Tensor, pattern: patterns.Pattern, sparsity: float) -> Tensor:
    # A truly sparse weight is a vector of what is there.
    room = min(counts.num_active(numel(weight), sparsity), scores.numel())
    return pattern.keep(scores, pattern.nearest(tuple(scores.shape), room))


def _loss(model: nn.Module, data: Iterable[Any], loss_fn: Loss, name: str, sparsity: float) -> float:
    try:
        return statistics.mean_loss(model, data, loss_fn)
    except ValueError as error:
        error.add_note(f"with {name} pruned to a sparsity of {sparsity}")
        raise
