"""One shot, or several rounds: score the weights of a trained model, split the budget, cut."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import budgets, counts, criteria, patterns, statistics
from gossamer.pruning.active import Active
from gossamer.pruning.candidates import owners_of, to_prune
from gossamer.pruning.cut import Aim, Weights, cut_
from gossamer.pruning.supply import Supply, name_of
from gossamer.weights import MaskedWeight, numel


def prune(
    model: nn.Module,
    *,
    sparsity: float,
    criterion: Callable[..., Any] = criteria.magnitude,
    budget: budgets.Budget = budgets.uniform,
    pattern: patterns.Pattern | None = None,
    data: Iterable[Any] | None = None,
    loss_fn: Callable[[Any, Any], Tensor] | None = None,
    first: Mapping[str, Tensor] | None = None,
    rounds: int = 1,
    include: Iterable[str] = ("*",),
    exclude: Iterable[str] = (),
    generator: torch.Generator | None = None,
    reestimate: bool | None = None,
    num_probes: int | None = None,
    returning: bool = False,
) -> nn.Module:
    """Return a copy of a model without its least useful weights: they are exactly zero in it.

    Masks are not sparsity: the copy is as large and as slow as the model until `gossamer.to_sparse` stores what is
    left. To train on with the zeros held, give it to `recipes.hold`.

    Args:
        model: trained or fresh, in any mode; it is left as it is.
        sparsity: fraction of the weights to remove over all of them together, in [0, 1). Weights are those that
            `gossamer.prunable` lists, with embeddings, and with frozen ones; biases and norms stay.
        criterion: what scores a weight: a function of `gossamer.criteria`, one of your own, or one of
            `gossamer.solvers`, which also moves what stays. What it needs is measured and given by the names of its
            arguments, see docs/pruning.md.
        budget: how many weights each tensor keeps. Most split by shapes; `budgets.global_` and `budgets.lamp` by the
            scores.
        pattern: the shape that masks take; None: unstructured. A pattern that removes whole outputs leaves the last
            weight of the model whole.
        data: batches (inputs, targets), as a DataLoader or a list; needed by criteria that look at data.
        loss_fn: (outputs, targets) -> scalar, the mean over a batch; needed by criteria that look at gradients.
        first: the model's earlier values, a state_dict; needed by `criteria.magnitude_increase`.
        rounds: how often to score and cut; the density falls by the same factor each time, and what is gone stays gone.
        include: glob patterns, or one, of the weights to prune.
        exclude: glob patterns, or one, of the weights to leave alone.
        generator: source of randomness, on the CPU, where something is random.
        reestimate: whether to take batch normalisation's statistics anew over the data; None: if there are both.
        num_probes: random vectors by which `hessian_diagonal` is estimated, for `criteria.obd`; None: 128. Time grows
            with it, the error falls with its root.
        returning: whether a later round may bring back what an earlier one removed, with the value that it had: the
            gradient is that of the pruned model, the weight that of the model given. Not for truly sparse layers.

    Raises:
        ValueError: a sparsity that cannot be met (the nearest that can is named), a weight that holds NaN, a layer
            that the loss does not depend on, a criterion that needs what was not given, or too little data. The model
            is left as it is.
        TypeError: the criterion returns neither scores nor a solution.

    Example:
        >>> model = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 2))
        >>> small = prune(model, sparsity=0.9)
        >>> [int(layer.weight.count_nonzero()) for layer in (small[0], small[2])]
        [20, 2]
    """
    counts.check_sparsity(sparsity)
    counts.check_positive(rounds, name="rounds")
    pattern = pattern or patterns.unstructured()
    pruned = _copy(model)
    weights = to_prune(pruned, pattern, include, exclude)
    anew = _reestimates(pruned, data, reestimate)
    probes = _probes(criterion, num_probes)
    supply = Supply(pruned, owners_of(pruned), data=data, loss_fn=loss_fn, first=first, generator=generator, **probes)
    if returning:
        _keep_latent_(weights)
    parts = [Active(weight) for weight in weights]
    start = sum(part.num_active for part in parts) / sum(numel(weight) for weight in weights) or 1.0
    # A DataLoader draws a seed whenever it is read.
    with torch.random.fork_rng(devices=[]):
        for done in range(1, rounds + 1):
            asked = sparsity if done == rounds else 1.0 - start * ((1.0 - sparsity) / start) ** (done / rounds)
            cut_(parts, supply, criterion, Aim(asked, budget, pattern, final=done == rounds))
        if anew:
            statistics.reestimate_(pruned, data or ())
    return pruned


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:
        raise ValueError(
            f"the model cannot be copied ({str(error)[:80]}...); first make its weights plain parameters, as by "
            "torch.nn.utils.prune.remove or torch.nn.utils.remove_weight_norm"
        ) from error


def _reestimates(model: nn.Module, data: Iterable[Any] | None, asked: bool | None) -> bool:
    possible = data is not None and statistics.has_running_statistics(model)
    if asked and not possible:
        lacks = "no data was given" if data is None else "the model has no batch normalisation that tracks any"
        raise ValueError(f"running statistics cannot be taken anew: {lacks}; leave out reestimate=True")
    return possible if asked is None else asked


def _keep_latent_(weights: Weights) -> None:
    for weight in weights:
        if not isinstance(weight, MaskedWeight):
            raise ValueError(f"{weight.name} is truly sparse: what is gone cannot return; use gossamer.to_dense")
        weight.keep_latent_(trained=False)


def _probes(criterion: Callable[..., Any], num_probes: int | None) -> dict[str, int]:
    if num_probes is None:
        return {}
    if "hessian_diagonal" not in inspect.signature(criterion).parameters:
        raise ValueError(
            f"num_probes has no effect on {name_of(criterion)}, which asks for no hessian_diagonal; leave it out"
        )
    return {"num_probes": num_probes}
