"""The products of `kernels.ops` in plain PyTorch: any device, any dtype; the oracle of the fast kernels.

Shapes: F = features in, O = features out, B = batch, K = active weights.
"""

import torch
from torch import Tensor

# Entries gathered at once are bounded, so that a large layer does not need its size times the batch in memory.
_GATHERED_NUMBERS = 1 << 24


def multiply(rows: Tensor, columns: Tensor, values: Tensor, x_FB: Tensor, num_rows: int) -> Tensor:
    """Return W x for a weight given by the row, the column and the value of each entry.

    Args:
        rows: shape [K], int64.
        columns: shape [K], int64.
        values: shape [K].
        x_FB: shape [F, B].
        num_rows: O.

    Returns:
        Shape [O, B].
    """
    result = x_FB.new_zeros(num_rows, x_FB.shape[1])
    for part in _parts(values.numel(), x_FB.shape[1]):
        # Not in place: under torch.func.vmap the products may have a dimension that the zeros have not.
        result = result.index_add(0, rows[part], values[part, None] * x_FB[columns[part]])
    return result


def sample(rows: Tensor, columns: Tensor, g_OB: Tensor, x_FB: Tensor) -> Tensor:
    """Return the product of row g[rows[k]] with row x[columns[k]] for each k, shape [K]."""
    parts = [(g_OB[rows[part]] * x_FB[columns[part]]).sum(1) for part in _parts(rows.numel(), x_FB.shape[1])]
    return torch.cat(parts) if parts else x_FB.new_zeros(0)


def _parts(entries: int, batch: int) -> list[slice]:
    step = max(1, _GATHERED_NUMBERS // max(1, batch))
    return [slice(start, min(start + step, entries)) for start in range(0, entries, step)]
