"""Marks criteria that judge each entry by itself, so that only what is still there needs a score."""

from collections.abc import Callable
from typing import Any, TypeVar

Criterion = TypeVar("Criterion", bound=Callable[..., Any])


def elementwise(criterion: Criterion) -> Criterion:
    """Mark a criterion whose score of an entry depends on that entry of each argument alone.

    It may then be given vectors of the entries that are still there instead of whole tensors: the more is gone, the
    less a round costs. Anything random is drawn for those alone.

    Args:
        criterion: a function of tensors that all have the shape of the weight.

    Returns:
        The same function.

    Example:
        >>> @elementwise
        ... def square(weight):
        ...     return weight.square()
        >>> is_elementwise(square)
        True
    """
    criterion.elementwise = True  # type: ignore[attr-defined]
    return criterion


def is_elementwise(criterion: Callable[..., Any]) -> bool:
    """Return whether a criterion is marked, also under `functools.partial`.

    Args:
        criterion: any callable.

    Example:
        >>> is_elementwise(max)
        False
    """
    return bool(getattr(getattr(criterion, "func", criterion), "elementwise", False))
