"""What is checked before a state is loaded into a layer of a format: a wrong place would be read outside of memory."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class CheckedModule(nn.Module):
    """A module that looks at a state before it loads it, and keeps its own where that is wrong."""

    def _problem_in(self, state: Mapping[str, Any]) -> str | None:
        """Say what is wrong with a state, beginning with the name of the part, or None.

        Args:
            state: what is loaded for each buffer, None where it brings nothing.
        """
        raise NotImplementedError

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        own = {name: state_dict.get(prefix + name) for name in self._buffers}
        if problem := self._problem_in(own):
            error_msgs.append(f"{prefix}{problem}")
            return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


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
