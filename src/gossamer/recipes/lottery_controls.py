"""Controls of lottery tickets: as many weights, but other values or other places."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from gossamer import rewinding
from gossamer.masks import draw
from gossamer.recipes.lottery import Ticket, Train, check_masks, dense_weights, train_masked


def reinitialized_ticket(
    make_model: Callable[[], nn.Module], train: Train, ticket: Ticket, *, generator: torch.Generator
) -> Ticket:
    """Train the same weights from new random values: a control; a winning ticket does better than this.

    Args:
        make_model: as for `lottery_tickets`.
        train: likewise.
        ticket: whose masks to take.
        generator: source of randomness, on the CPU.

    Returns:
        The ticket of the control, with the same masks.

    Raises:
        ValueError: the ticket is of another model.
        RuntimeError: as for `lottery_tickets`.

    Source:
        Frankle, Carbin. The lottery ticket hypothesis. ICLR 2019, arXiv:1803.03635.
    """
    model = make_model()
    check_masks(ticket.masks, dense_weights(model))
    rewinding.reinitialize_(model, generator=generator, survivors=ticket.masks)
    result = train_masked(model, train, ticket.round, ticket.masks)
    return ticket._replace(model=model, result=result)


def shuffled_ticket(
    make_model: Callable[[], nn.Module],
    train: Train,
    ticket: Ticket,
    *,
    generator: torch.Generator,
    rewind_to: Mapping[str, Tensor] | None = None,
) -> Ticket:
    """Train as many weights of each layer at random places, with their early values: a control.

    Args:
        make_model: as for `lottery_tickets`.
        train: likewise.
        ticket: whose numbers of weights to take.
        generator: source of randomness, on the CPU.
        rewind_to: as for `lottery_tickets`.

    Returns:
        The ticket of the control, with the shuffled masks, which are its `next_masks` too.

    Raises:
        ValueError: the ticket or the early values are of another model.
        RuntimeError: as for `lottery_tickets`.

    Source:
        Frankle, Dziugaite, Roy, Carbin. Pruning neural networks at initialization: why are we missing the mark?
        ICLR 2021, arXiv:2009.08576.
    """
    model = make_model()
    check_masks(ticket.masks, dense_weights(model))
    shuffled = {name: _shuffled(mask, generator) for name, mask in ticket.masks.items()}
    early = rewinding.snapshot(model) if rewind_to is None else rewind_to
    rewinding.rewind_(model, early, survivors=shuffled)
    result = train_masked(model, train, ticket.round, shuffled)
    return ticket._replace(model=model, result=result, masks=shuffled, next_masks=shuffled)


def _shuffled(mask: Tensor, generator: torch.Generator) -> Tensor:
    return draw(tuple(mask.shape), int(mask.sum()), generator=generator).to(mask.device)
