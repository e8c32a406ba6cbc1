"""How many places there are to grow at."""

from torch import Tensor


def open_only(kept: Tensor, closed_rows: Tensor, closed_columns: Tensor) -> Tensor:
    """Return the kept entries that stand in no closed row and no closed column.

    Args:
        kept: linear indices that are active, ascending, shape [n], int64.
        closed_rows: bool, shape [rows].
        closed_columns: bool, shape [columns].
    """
    if not (closed_rows.any() or closed_columns.any()):
        return kept
    width = max(1, closed_columns.numel())
    return kept[~(closed_rows[kept // width] | closed_columns[kept % width])]


def num_absent(kept: Tensor, closed_rows: Tensor, closed_columns: Tensor) -> int:
    """Return how many entries are open and not kept; for the arguments see `open_only`."""
    num_open = int((~closed_rows).sum()) * int((~closed_columns).sum())
    return num_open - open_only(kept, closed_rows, closed_columns).numel()
