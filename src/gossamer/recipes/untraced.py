"""Functions that torch.compile leaves alone, without what saying so at once costs: a second at every import."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


def untraced(function: Callable[P, T]) -> Callable[P, T]:
    """Have a function run as it is where the compiler meets it.

    Args:
        function: any.

    Returns:
        The same, but for compiled code, which breaks off before it.

    Example:
        >>> untraced(len)([1, 2])
        2
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*args, **kwargs)  # type: ignore[no-any-return]
        return function(*args, **kwargs)

    return run
