"""What is still there of a weight while it is pruned in rounds: a round costs what is left, not what was."""

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from gossamer.weights import MaskedWeight, SparseWeight


class Active:
    """The places of the active entries of a weight in its parameter, instead of its mask, which is left as it was.

    Args:
        weight: to be pruned.

    Attributes:
        weight: the same.
        places: linear indices of the active entries in the parameter, ascending, int64; None: all are active.
        removed: those of the entries that the last cut removed; None: it removed nothing.
    """

    def __init__(self, weight: MaskedWeight | SparseWeight) -> None:
        self.weight = weight
        self.places: Tensor | None = None
        self.removed: Tensor | None = None
        if isinstance(weight, MaskedWeight) and weight.num_active < weight.parameter.numel():
            self.places = weight.indices()

    @property
    def num_active(self) -> int:
        """How many there are."""
        return self.weight.parameter.numel() if self.places is None else self.places.numel()

    def of(self, tensor: Tensor) -> Tensor:
        """Return the active entries of a tensor of the parameter's shape, a vector; of all a view where that can be."""
        flat = tensor.detach().reshape(-1)
        return flat if self.places is None else flat.index_select(0, self.places)

    def keep_(self, chosen: Tensor) -> None:
        """Remove the active entries that are not chosen.

        Args:
            chosen: bool, one for each active entry.
        """
        if isinstance(self.weight, SparseWeight):
            kept = chosen.nonzero().flatten()
            self.weight.change_(kept, kept.new_empty(0), self.weight.values()[:0], None)
            return
        places = torch.arange(chosen.numel(), device=chosen.device) if self.places is None else self.places
        self.places, self.removed = _parted(places, chosen)
        parameter = self.weight.parameter.data
        if parameter.is_contiguous():
            parameter.view(-1).index_fill_(0, self.removed, 0.0)
        else:
            parameter[torch.unravel_index(self.removed, parameter.shape)] = 0.0


def _parted(places: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Those that are chosen and the others."""
    if places.device.type != "cpu":
        return places[chosen], places[~chosen]
    count = int(chosen.count_nonzero())
    kept, gone = places.new_empty(count), places.new_empty(len(places) - count)
    _part(places.numpy(), chosen.numpy(), kept.numpy(), gone.numpy())
    return kept, gone


@njit(cache=True, nogil=True)
def _part(
    places: NDArray[np.int64], chosen: NDArray[np.bool_], kept: NDArray[np.int64], gone: NDArray[np.int64]
) -> None:
    num_kept, num_gone = 0, 0
    for i in range(places.size):
        if chosen[i]:
            kept[num_kept] = places[i]
            num_kept += 1
        else:
            gone[num_gone] = places[i]
            num_gone += 1
