"""What is checked before a state is loaded into a layer of a format: a wrong place would be read outside of memory."""

from typing import Any

from torch import Tensor


def problem_with(places: Any, end: int, pointers: Any = None) -> str | None:
    """Say what is wrong with the places of a state, or None.

    Args:
        places: where values belong, each in [0, end); None if the state does not bring them.
        end: one more than the largest that is allowed.
        pointers: into the places, ascending from 0 to their number; None if there are none.
    """
    if isinstance(places, Tensor) and places.numel() and (int(places.min()) < 0 or int(places.max()) >= end):
        return f"places run from {int(places.min())} to {int(places.max())}, allowed are 0 to {end - 1}"
    if isinstance(places, Tensor) and isinstance(pointers, Tensor) and pointers.numel():
        ascending = bool((pointers[1:] >= pointers[:-1]).all())
        if not ascending or int(pointers[0]) != 0 or int(pointers[-1]) != places.numel():
            return f"pointers must ascend from 0 to {places.numel()}, the number of places"
    return None
