"""Values for grown weights: as at the start, by the live fan-in."""

from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

# Draws that exist at once in double precision.
_AT_ONCE = 1 << 16


def fan_in_uniform(rows: Tensor, fan_in: Tensor, *, generator: torch.Generator) -> Tensor:
    """Draw first values for weights: uniform in +-sqrt(6 / number of active inputs of the output they lead to).

    Args:
        rows: the output that each weight leads to, shape [n], int64.
        fan_in: number of active inputs of each output, shape [outputs].
        generator: source of randomness, on the CPU.

    Returns:
        Shape [n], float32.

    Example:
        >>> draws = fan_in_uniform(torch.zeros(1000, dtype=torch.long), torch.tensor([6]), generator=torch.Generator())
        >>> bool(draws.abs().max() <= 1)
        True

    Source:
        He, Zhang, Ren, Sun. Delving deep into rectifiers. ICCV 2015, arXiv:1502.01852.
        Differs: the live fan-in, not the size of the layer.
    """
    bound = (6.0 / fan_in.clamp(min=1).double()).sqrt()
    values = torch.empty(rows.shape, device=rows.device)
    for start in range(0, rows.numel(), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        unit = torch.rand(rows[part].numel(), generator=generator, dtype=torch.float64, device="cpu").to(rows.device)
        values[part] = (2.0 * unit - 1.0) * bound[rows[part]]
    return values


def fan_in_uniform_of(row_pointers: Tensor, *, generator: torch.Generator) -> Tensor:
    """Draw the same for all weights of a layer, in memory that is no more than what is returned.

    Args:
        row_pointers: see `topology.Topology`, shape [outputs + 1], on the CPU.
        generator: source of randomness, on the CPU.

    Returns:
        Shape [num_active], float32: the bits that `fan_in_uniform` draws for its rows and their live fan-in.

    Example:
        >>> fan_in_uniform_of(torch.tensor([0, 2, 5]), generator=torch.Generator()).shape
        torch.Size([5])

    Source:
        He, Zhang, Ren, Sun. Delving deep into rectifiers. ICCV 2015, arXiv:1502.01852. Differs: see `fan_in_uniform`.
    """
    values = torch.empty(int(row_pointers[-1]), device="cpu")
    row = 0
    for start in range(0, values.numel(), _AT_ONCE):
        part = values[start : start + _AT_ONCE]
        unit = torch.rand(part.numel(), generator=generator, dtype=torch.float64, device="cpu")
        row = _scale(row_pointers.numpy(), row, start, unit.numpy(), part.numpy())
    return values


@njit(cache=True, nogil=True, error_model="numpy")
def _scale(
    pointers: NDArray[np.signedinteger[Any]],
    row: int,
    start: int,
    unit: NDArray[np.float64],
    values: NDArray[np.float32],
) -> int:
    """Write values from slot `start` on, which lies in `row` or after it; return the row that the last one is in."""
    slot, stop = start, start + values.size
    while slot < stop:
        while pointers[row + 1] <= slot:
            row += 1
        bound = np.sqrt(6.0 / (pointers[row + 1] - pointers[row]))
        end = min(stop, int(pointers[row + 1]))
        for place in range(slot, end):
            values[place - start] = (2.0 * unit[place - start] - 1.0) * bound
        slot = end
    return row
