"""Go through row numbers in batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def batches(num_rows: int, *, batch_size: int, generator: torch.Generator | None) -> Iterator[Tensor]:
    """Go once through all rows, in batches of row numbers.

    The order is drawn when this is called, not when the first batch is taken.

    Args:
        num_rows: number of rows, at least 1.
        batch_size: rows per batch, at least 1; the last batch holds what is left.
        generator: shuffles the rows; None keeps their order.

    Returns:
        An iterator of index tensors, [batch_size] or shorter at the end, int64, on the generator's device.

    Raises:
        ValueError: `num_rows` or `batch_size` is below 1.

    Example:
        >>> [batch.tolist() for batch in batches(5, batch_size=2, generator=None)]
        [[0, 1], [2, 3], [4]]
    """
    for name, value in (("num_rows", num_rows), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} is {value}; give at least 1")
    if generator is None:
        order = torch.arange(num_rows)
    else:
        order = torch.randperm(num_rows, generator=generator, device=generator.device)
    return iter(order.split(batch_size))
