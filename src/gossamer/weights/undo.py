"""Changes that can be taken back: if one of several fails, it is as if there had been none."""

import sys
from collections.abc import Callable, Iterator, MutableMapping, MutableSequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.nn.parameter import set_data_

# Active weights of a model up to which topologies and values are held until an update has ended: a gigabyte of them.
MOST_WEIGHTS = 1 << 27

_journal: ContextVar[list[Callable[[], object]] | None] = ContextVar("journal", default=None)


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Take back what was changed inside, the last first, if an error comes out of it; outside nothing is remembered.

    What becomes of tensors that are replaced is remembered for nothing; of those that are written to, what stood where
    it was written.
    """
    journal: list[Callable[[], object]] = []
    token = _journal.set(journal)
    failed = True
    try:
        yield
        failed = False
    finally:
        _journal.reset(token)
        for take_back in reversed(journal if failed else []):
            take_back()


def on_failure(take_back: Callable[[], object]) -> None:
    """Say how something is taken back, before it changes."""
    if (journal := _journal.get()) is not None:
        journal.append(take_back)


def remember_no_more() -> None:
    """From now on nothing is taken back but what is remembered already; an error says so."""
    on_failure(_say_what_stays)
    # `all_or_nothing` puts back what was before it.
    _journal.set(None)


def _say_what_stays() -> None:
    error = sys.exception()
    if error is not None:
        error.add_note(
            f"(the model has more than {MOST_WEIGHTS:,} active weights: what was exchanged before this error stays "
            "exchanged, with its optimizer state; go on from the last checkpoint)"
        )


def write_(tensor: Tensor, values: Tensor | float, places: Any = ...) -> None:
    """Write into a tensor in place.

    Args:
        tensor: of any shape.
        values: fit what is written to, or one number.
        places: index of what is written to, without repeats; default: all.
    """
    keep_entries(tensor, places)
    tensor[places] = values


def write_at_(tensor: Tensor, values: Tensor | float, indices: Tensor) -> Tensor:
    """Write into a tensor in place at linear indices without repeats, shape [n], int64; return the tensor."""
    if tensor.is_contiguous():
        write_(tensor.view(-1), values, indices)
    else:
        write_(tensor, values, torch.unravel_index(indices, tensor.shape))
    return tensor


def clear_(tensor: Tensor, gone: Tensor) -> Tensor:
    """Set some entries of a tensor to zero in place, and return it.

    Args:
        tensor: of any shape.
        gone: which, bool, of the same shape.
    """
    keep_entries(tensor)
    return tensor.masked_fill_(gone, 0)


def keep_entries(tensor: Tensor, places: Any = ...) -> None:
    """Remember what stands at some entries of a tensor that is about to be written to; default: at all."""
    if _journal.get() is not None:
        old = tensor[places].clone()
        on_failure(lambda: tensor.__setitem__(places, old))


def assign_(container: MutableMapping[Any, Any] | MutableSequence[Any], key: Any, value: Any) -> None:
    """Put something else in the place of an item that there is."""
    old = container[key]
    on_failure(lambda: container.__setitem__(key, old))
    container[key] = value


def keep_attributes(owner: object) -> None:
    """Remember what the attributes of an object are, and what the dicts among them hold; not the tensors' entries."""
    attributes = getattr(owner, "__dict__", {})
    before = {name: dict(value) if type(value) is dict else value for name, value in attributes.items()}

    def take_back() -> None:
        attributes.clear()
        attributes.update(before)

    on_failure(take_back)


def keep_parameter(parameter: nn.Parameter) -> None:
    """Remember which tensors a parameter has as data and gradient; not their entries."""
    data, grad = parameter.data, parameter.grad

    def take_back() -> None:
        set_data_(parameter, data)
        parameter.grad = grad

    on_failure(take_back)
