"""Which entries have ever been active: how much of the dense network a sparse training has tried."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts
from gossamer.updates.change import Change
from gossamer.weights import Weight, numel

# From so many entries for each one that was active on, a bit for every entry takes no more than an index for those.
_BITS_PER_INDEX = 64


@final
class Explored:
    """Record the entries that were ever active; give it to a sparsifier as the last of its updates.

    share = number of entries ever active / number of entries, over all weights

    It looks after every step at which `every` divides the step, so it must be that of the exchange before it, or 1.

    Args:
        every: steps between two looks, >= 1.

    Raises:
        ValueError: every below 1.

    Example:
        >>> explored = Explored(every=100)

    Source:
        Liu, Yin, Mocanu, Pechenizkiy. Do we actually need dense over-parameterization? In-time over-parameterization in
        sparse training. ICML 2021, arXiv:2102.02887; there R_s.

    Cost: the less of 8 bytes for each entry ever active and 1 bit for each entry, in either storage.
    """

    uses_gradient = False

    def __init__(self, *, every: int) -> None:
        self._every = counts.check_positive(every, name="every")
        self._sizes: dict[str, int] = {}
        self._seen: dict[str, Tensor] = {}

    def due(self, step: int) -> bool:
        """Return whether it looks after this optimizer step."""
        return step % self._every == 0

    def begin(self, weights: list[Weight]) -> None:
        """Record the first topology."""
        self._sizes = {weight.name: numel(weight) for weight in weights}
        self._seen = {weight.name: _packed(weight.indices().cpu(), numel(weight)) for weight in weights}

    def apply_all(
        self, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> list[Change]:
        """Record what is active now; nothing changes."""
        for weight in weights:
            self._seen[weight.name] = _union(self._seen[weight.name], weight.indices().cpu(), numel(weight))
        return []

    def share(self) -> float:
        """Return the fraction of all entries that were ever active, in [0, 1].

        Raises:
            RuntimeError: no sparsifier was given this record.
        """
        if not self._sizes:
            raise RuntimeError("nothing is recorded yet; give the record to a sparsifier, as one of its updates")
        return self.num_explored() / max(1, sum(self._sizes.values()))

    def num_explored(self) -> int:
        """Return how many entries were ever active, over all weights."""
        return sum(_many(seen) for seen in self._seen.values())

    def state_dict(self) -> dict[str, Any]:
        """Return the record of each weight."""
        return {name: seen.clone() for name, seen in self._seen.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved record."""
        self._seen = {name: state[name].cpu().clone() for name in self._sizes}


# A record is ascending indices, int64, or bits, uint8.


def _packed(indices: Tensor, size: int) -> Tensor:
    if indices.numel() * _BITS_PER_INDEX < size:
        return indices.clone()
    bits = np.zeros(-(-size // 8), np.uint8)
    _set(bits, indices.numpy())
    return torch.from_numpy(bits)


def _union(seen: Tensor, indices: Tensor, size: int) -> Tensor:
    if seen.dtype == torch.uint8:
        # What is remembered is replaced, so that a failing update can be taken back.
        seen = seen.clone()
        _set(seen.numpy(), indices.numpy())
        return seen
    return _packed(torch.from_numpy(np.union1d(seen.numpy(), indices.numpy())), size)


def _set(bits: NDArray[np.uint8], indices: NDArray[np.int64]) -> None:
    np.bitwise_or.at(bits, indices >> 3, (1 << (indices & 7)).astype(np.uint8))


def _many(seen: Tensor) -> int:
    return int(np.unpackbits(seen.numpy()).sum()) if seen.dtype == torch.uint8 else seen.numel()
