"""The gradient of a linear layer in eight bits, with what that may be off by: a filter before the exact one.

Where the processor multiplies matrices of bfloat16 in hardware, most of a dense gradient can be ruled out several times
sooner than it is computed.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple, final

import torch
from torch import Tensor

from gossamer import topology
from gossamer.weights.tiles import TILE_BYTES, TILE_COLUMNS

# A number in bfloat16 is off by 2^-8 of itself at most, so a product of two by a little more than 2^-7.
_OFF = 1.02 * 2.0**-7
# And a sum of n float32 by n times this, wherever it is computed.
_OFF_OF_SUM = 2.0**-22
# Entries below which all of it is soon done, and samples below which the hardware has nothing to do.
_FEW_ENTRIES, _FEW_SAMPLES = 1 << 20, 32


class RoughRows(NamedTuple):
    """Some rows of the gradient.

    Attributes:
        start: the first of them.
        errors: what each is off by, times that of the column, shape [rows], float32.
        tiles: (first column, gradient [rows, columns], bfloat16), good until the next one.
        exact: (indices row * columns + column in these rows, ascending, [n], int64) -> the gradient there, float32.
    """

    start: int
    errors: Tensor
    tiles: Iterator[tuple[int, Tensor]]
    exact: Callable[[Tensor], Tensor]


@final
class RoughGradient:
    """The gradient of a linear layer, about: |gradient| <= 1.004 |rough| + error of the row * error of the column.

    Args:
        inputs: shape [n, in], float32, on the CPU.
        output_grad: shape [n, out].
    """

    def __init__(self, inputs: Tensor, output_grad: Tensor) -> None:
        self._inputs_FB, self._grad_OB = inputs.t().contiguous(), output_grad.t()
        # Where it is large, again for each tile.
        self._rough_BF = inputs.bfloat16().contiguous() if 2 * inputs.numel() <= TILE_BYTES else None
        self.column_errors = torch.linalg.vector_norm(self._inputs_FB, dim=1)
        self._row_errors = torch.linalg.vector_norm(self._grad_OB, dim=1) * (_OFF + len(inputs) * _OFF_OF_SUM)

    @property
    def is_bounded(self) -> bool:
        """Whether all errors are numbers."""
        return bool(self.column_errors.isfinite().all() and self._row_errors.isfinite().all())

    def rows(self) -> Iterator[RoughRows]:
        """Return the gradient from the first row on, some rows at a time."""
        outputs, features = len(self._grad_OB), len(self._inputs_FB)
        width = min(features, TILE_COLUMNS)
        height = TILE_BYTES // (2 * width)
        for start in range(0, outputs, height):
            grad_OB = self._grad_OB[start : start + height].contiguous()
            tiles = self._tiles(grad_OB.bfloat16(), width)
            yield RoughRows(start, self._row_errors[start : start + height], tiles, self._exact(grad_OB))

    def _tiles(self, grad_OB: Tensor, width: int) -> Iterator[tuple[int, Tensor]]:
        place = grad_OB.new_empty(len(grad_OB) * width)
        for left in range(0, len(self._inputs_FB), width):
            if self._rough_BF is not None:
                inputs_BF = self._rough_BF[:, left : left + width]
            else:
                inputs_BF = self._inputs_FB[left : left + width].bfloat16().t()
            tile = place[: len(grad_OB) * inputs_BF.shape[1]].view(len(grad_OB), -1)
            yield left, torch.mm(grad_OB, inputs_BF, out=tile)

    def _exact(self, grad_OB: Tensor) -> Callable[[Tensor], Tensor]:
        shape = len(grad_OB), len(self._inputs_FB)

        def compute(indices: Tensor) -> Tensor:
            places = topology.from_linear(indices, shape)
            unread = (places.row_pointers[:0],) * 3
            found: Tensor = torch.ops.gossamer.sparse_linear_grad_values(
                grad_OB, self._inputs_FB, places.row_pointers, places.column_indices, *unread
            )
            return found

        return compute


def rough_gradient(inputs: Tensor, output_grad: Tensor) -> RoughGradient | None:
    """Return the rough gradient of a linear layer's weight, or None where it would not be sooner, or has no bound.

    Args:
        inputs: shape [n, in].
        output_grad: shape [n, out].
    """
    samples, features = inputs.shape
    if not (inputs.is_cpu and inputs.dtype == output_grad.dtype == torch.float32 and has_matrix_units()):
        return None
    if samples < _FEW_SAMPLES or features * output_grad.shape[1] < _FEW_ENTRIES:
        return None
    found = RoughGradient(inputs, output_grad)
    return found if found.is_bounded else None


@cache
def has_matrix_units() -> bool:
    """Return whether the processor multiplies matrices of bfloat16, and torch uses that."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16")) and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
