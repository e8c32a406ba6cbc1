"""Lottery tickets: train, prune, rewind to the first values, and again; with the controls that say what won."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gossamer import counts, rewinding
from gossamer.recipes.thinning import Masks, Thin, thin_layers
from gossamer.weights import MaskedWeight, prunable

Train = Callable[[nn.Module, int], Any]


class Ticket(NamedTuple):
    """What one round of `lottery_tickets` gives.

    Attributes:
        round: number of prunings before it; round 0 is the dense network.
        masks: which weights it was trained with, by name, bool.
        num_active: how many these are.
        result: what `train` returned.
        model: the trained model; nothing else refers to it.
        next_masks: which weights the next round is trained with; save them to go on later.
    """

    round: int
    masks: dict[str, Tensor]
    num_active: int
    result: Any
    model: nn.Module
    next_masks: dict[str, Tensor]


def lottery_tickets(
    make_model: Callable[[], nn.Module],
    train: Train,
    *,
    num_rounds: int,
    sparsity_per_round: float = 0.2,
    rewind_to: Mapping[str, Tensor] | None = None,
    thin: Thin = thin_layers,
    start_round: int = 0,
    start_masks: Masks | None = None,
) -> Iterator[Ticket]:
    """Find small networks that train as well as the dense one: iterative magnitude pruning with rewinding.

    In each round a fresh model gets the early values at the survivors and zero elsewhere, is trained, and loses the
    smallest of its weights. Gradients of removed weights are zero while it is trained, so they stay zero whatever
    `train` does with SGD or AdamW.

    Args:
        make_model: makes the dense model, always with the same first values: seed it.
        train: (model, round) -> anything; trains in place, with an optimizer of its own.
        num_rounds: how many times to prune, >= 0; one ticket more comes, the dense network first.
        sparsity_per_round: fraction of the survivors that goes each time, in [0, 1); 0.2 leaves 0.8^n after n rounds.
        rewind_to: early values, from `rewinding.snapshot` after a few steps. It is read first when round 0 is over, so
            `train` may fill it then. Default: the first values.
        thin: (weights, masks, sparsity) -> masks of the next round: `thin_layers` or `thin_model`.
        start_round: round to begin with, when an earlier search is continued.
        start_masks: then the `next_masks` of the round before.

    Returns:
        An iterator of tickets, one a round, each made when it is asked for; beside its model only the first
        values are held.

    Raises:
        ValueError: a setting out of range, a truly sparse model or none to train, a start without its masks.
        RuntimeError: `train` moved weights that the mask removed, or left the model without one of them.

    Source:
        Frankle, Carbin. The lottery ticket hypothesis: finding sparse, trainable neural networks. ICLR 2019,
        arXiv:1803.03635. Rewinding to a later step: Frankle, Dziugaite, Roy, Carbin. 2019, arXiv:1903.01611.
    """
    counts.check_sparsity(sparsity_per_round)
    if num_rounds < 0 or not 0 <= start_round <= num_rounds:
        raise ValueError(f"need 0 <= start_round <= num_rounds, got {start_round} and {num_rounds}")
    if (start_masks is None) != (start_round == 0):
        raise ValueError(f"start_round={start_round} and start_masks belong together: give both or none")
    return _rounds(make_model, train, num_rounds, sparsity_per_round, rewind_to, thin, start_round, start_masks)


def _rounds(
    make_model: Callable[[], nn.Module],
    train: Train,
    num_rounds: int,
    sparsity: float,
    rewind_to: Masks | None,
    thin: Thin,
    start_round: int,
    start_masks: Masks | None,
) -> Iterator[Ticket]:
    first: Masks | None = None
    masks = None if start_masks is None else dict(start_masks)
    for number in range(start_round, num_rounds + 1):
        model = make_model()
        weights = dense_weights(model)
        if first is None and rewind_to is None:
            first = rewinding.snapshot(model)
        if masks is None:
            masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
        check_masks(masks, weights)
        # In the first round the early values may not be known yet, and nothing is removed.
        early = first if number == 0 or rewind_to is None else rewind_to
        if early is not None:
            rewinding.rewind_(model, early, survivors=masks)
        box = [_round(model, train, number, masks, sparsity, thin)]
        masks = box[0].next_masks
        # The generator must not hold the model while its user has gone on.
        del model, weights
        yield box.pop()


def _round(
    model: nn.Module, train: Train, number: int, masks: dict[str, Tensor], sparsity: float, thin: Thin
) -> Ticket:
    names = list(dense_weights(model))
    result = train_masked(model, train, number, masks)
    values = {name: model.get_parameter(name).detach().to(masks[name].device) for name in names}
    active = sum(int(mask.sum()) for mask in masks.values())
    return Ticket(number, masks, active, result, model, thin(values, masks, sparsity))


def dense_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return what the masks of a model are for, by name.

    Raises:
        ValueError: a weight is truly sparse, or there is none.
    """
    weights = prunable(model)
    if sparse := [weight.name for weight in weights if not isinstance(weight, MaskedWeight)]:
        raise ValueError(f"{', '.join(sparse)} is truly sparse; lottery tickets are drawn from a dense model")
    return {weight.name: weight.parameter for weight in weights}


def check_masks(masks: Masks, weights: Masks) -> None:
    """Raise unless there is a mask for each weight and no other.

    Raises:
        ValueError: the names differ.
    """
    if masks.keys() != weights.keys():
        raise ValueError(f"there are masks for {', '.join(masks)}, the model has {', '.join(weights)}")


def train_masked(model: nn.Module, train: Train, number: int, masks: Masks) -> Any:
    """Let the user train while removed weights get no gradient, and check that they stayed zero.

    Raises:
        RuntimeError: they did not, or are no longer there.
    """
    weights = dense_weights(model)
    handles = [weight.register_hook(functools.partial(_mask_gradient, masks[name])) for name, weight in weights.items()]
    try:
        result = train(model, number)
    finally:
        for handle in handles:
            handle.remove()
    trained = dict(model.named_parameters(remove_duplicate=False))
    for name, mask in masks.items():
        # What stands in the model now: training may have put another parameter there.
        weight = trained.get(name)
        if weight is None or weight.shape != mask.shape:
            raise RuntimeError(
                f"after training in round {number} the model has no weight {name} of shape {tuple(mask.shape)}; train "
                "it in place and leave its layers, or train a copy and load its state into the model"
            )
        if bool(weight.detach()[~mask.to(weight.device)].any()):
            raise RuntimeError(
                f"training moved removed weights of {name} in round {number}; call recipes.hold(model, optimizer) in "
                "train where round > 0"
            )
    return result


def _mask_gradient(mask: Tensor, gradient: Tensor) -> Tensor:
    return gradient.masked_fill(~mask.to(gradient.device), 0)
