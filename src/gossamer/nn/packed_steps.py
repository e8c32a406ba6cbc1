"""Time steps of packed sequences: stretches of as many sequences each, and states that end or begin between them."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

# (result of the input's product [steps x batch, O], hidden [batch, H], cell or None) -> outputs, last hidden and cell
Steps = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor | None]]


class Stretch(NamedTuple):
    """Consecutive steps in which the same sequences take part.

    Attributes:
        steps: how many.
        batch: sequences, the longest ones.
    """

    steps: int
    batch: int


def stretches(batch_sizes: Sequence[int]) -> list[Stretch]:
    """Return the stretches of a packed sequence.

    Args:
        batch_sizes: sequences in each step, descending, as in `PackedSequence`.

    Example:
        >>> stretches([3, 3, 1])
        [Stretch(steps=2, batch=3), Stretch(steps=1, batch=1)]
    """
    return [Stretch(len(list(equal)), batch) for batch, equal in groupby(batch_sizes)]


def through(
    run: Steps, projected: Tensor, hidden: Tensor, cell: Tensor | None, parts: Sequence[Stretch], *, reverse: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Go through all stretches.

    Args:
        run: goes through one.
        projected: what the inputs give, shape [S, O], step by step.
        hidden: first hidden states, shape [B, H], the longest sequence first.
        cell: first cell states, likewise, or None.
        parts: from `stretches`, from the first step to the last.
        reverse: whether to go from the last step to the first; each sequence begins at its own end then.

    Returns:
        Hidden states of all steps, shape [S, H]; of each sequence the last hidden and cell state, shapes [B, H].
    """
    if len(parts) == 1:
        return run(projected, hidden, cell)
    pieces = projected.split([part.steps * part.batch for part in parts])
    order = range(len(parts) - 1, -1, -1) if reverse else range(len(parts))
    first = [hidden] if cell is None else [hidden, cell]
    states = [state[:0] for state in first]
    ended: list[list[Tensor]] = []
    outputs: dict[int, Tensor] = {}
    for place in order:
        batch, before = parts[place].batch, len(states[0])
        if batch < before:
            ended.append([state[batch:] for state in states])
            states = [state[:batch] for state in states]
        elif batch > before:
            states = [torch.cat([state, begun[before:batch]]) for state, begun in zip(states, first, strict=True)]
        output, *last = run(pieces[place], states[0], None if cell is None else states[1])
        outputs[place] = output
        states = [state for state in last if state is not None]
    whole = [torch.cat(state) for state in zip(states, *reversed(ended), strict=True)]
    # Joined along the fast axis: the next product finds its input in place.
    joined = torch.cat([outputs[place].t() for place in range(len(parts))], 1).t()
    return joined, whole[0], None if cell is None else whole[1]
