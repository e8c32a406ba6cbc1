"""SparseGPT: one sweep over the columns of a layer, with one inverse for all rows."""

from collections.abc import Callable

import torch
from torch import Tensor

from gossamer import counts
from gossamer.masks import keep_largest
from gossamer.solvers import solution
from gossamer.solvers.checks import check_count, check_groups, flat_mask, rows_and_gram
from gossamer.solvers.linear_algebra import dampened, factor, layer_error
from gossamer.solvers.solution import Solution

# (first column, column behind the last, their scores [out, columns]) -> mask of these columns
Choose = Callable[[int, int, Tensor], Tensor]


def sparsegpt(
    weight: Tensor, input_gram: Tensor, *, num_active: int, block_columns: int = 128, dampening: float = 0.01
) -> Solution:
    """Remove weights block by block of columns; the columns to the right make up for what goes.

    score_rc = w_rc^2 / u_cc^2;  w_r,c: <- w_r,c: - (w_rc / u_cc) u_c:, with G^-1 = U^T U

    Args:
        weight: current values, shape [out, in, ...], n in all; the axes behind the first are flattened.
        input_gram: G = E x x^T, shape [in, in].
        num_active: how many weights stay, in [0, n]; each block keeps its share.
        block_columns: columns within which weights compete, >= 1.
        dampening: added to the diagonal, as a share of its mean, >= 0.

    Returns:
        The solution; `loss_increase` is E |W' x - W x|^2. Weights of inputs that are always zero go first.

    Raises:
        ValueError: a count or shapes that do not fit, NaN, or a Gram matrix that is singular in spite of the
            dampening.

    Example:
        >>> import torch
        >>> gram = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
        >>> sparsegpt(torch.tensor([[1.0, 2.0]]), gram, num_active=1, dampening=0.0).weight
        tensor([[0.0000, 2.5000]])

    Source:
        Frantar, Alistarh. SparseGPT: massive language models can be accurately pruned in one-shot. ICML 2023,
        arXiv:2301.00774.
        Differs: the counts of the blocks add up exactly, and blocks keep in proportion to their live inputs.

    Cost: O(in^3 + out in^2) time, O(in^2 + out in) memory.
    """
    rows, gram = rows_and_gram(weight, input_gram)
    check_count(num_active, rows.numel())
    counts.check_positive(block_columns, name="block_columns")
    kept = _block_counts(num_active, len(rows), gram.diagonal() != 0, block_columns)

    def choose(start: int, stop: int, scores: Tensor) -> Tensor:
        return keep_largest(scores, kept[start // block_columns])

    return _sweep(weight, rows, gram, choose, block_columns=block_columns, group=block_columns, dampening=dampening)


def sparsegpt_nm(
    weight: Tensor, input_gram: Tensor, *, n: int, m: int, block_columns: int = 128, dampening: float = 0.01
) -> Solution:
    """Keep n of each m consecutive inputs in every row; the columns to the right make up for what goes.

    Args:
        weight: current values, shape [out, in, ...]; the axes behind the first are flattened to a multiple of m.
        input_gram: G = E x x^T, shape [in, in].
        n: how many are kept of each m, in [1, m].
        m: consecutive inputs of a group, >= 1.
        block_columns: columns that are updated at once; changes time, not the result. Rounded up to groups.
        dampening: added to the diagonal, as a share of its mean, >= 0.

    Returns:
        The solution; `loss_increase` is E |W' x - W x|^2. In each group, inputs that are always zero go first.

    Raises:
        ValueError: n, m or shapes that do not fit, NaN, or a Gram matrix that is singular in spite of the dampening.

    Example:
        >>> import torch
        >>> sparsegpt_nm(torch.tensor([[2.0, 1.0, 0.5, 3.0]]), torch.eye(4), n=1, m=2).mask
        tensor([[ True, False, False,  True]])

    Source:
        Frantar, Alistarh. SparseGPT: massive language models can be accurately pruned in one-shot. ICML 2023,
        arXiv:2301.00774.

    Cost: O(in^3 + out in^2) time, O(in^2 + out in) memory.
    """
    rows, gram = rows_and_gram(weight, input_gram)
    check_groups(n, m, rows.shape[1])
    width = counts.check_positive(block_columns, name="block_columns")
    ranks = torch.arange(m, device=rows.device)

    def choose(start: int, stop: int, scores: Tensor) -> Tensor:
        order = scores.argsort(dim=1, descending=True, stable=True)
        return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order, (ranks < n).expand_as(order))

    return _sweep(weight, rows, gram, choose, block_columns=width + -width % m, group=m, dampening=dampening)


def sparsegpt_update(
    weight: Tensor, input_gram: Tensor, mask: Tensor, *, block_columns: int = 128, dampening: float = 0.01
) -> Solution:
    """Move the weights as SparseGPT does, for a mask chosen elsewhere.

    Args:
        weight: current values, shape [out, in, ...]; the axes behind the first are flattened.
        input_gram: G = E x x^T, shape [in, in].
        mask: bool, shape of the weight.
        block_columns: columns that are updated at once, >= 1; changes time, not the result.
        dampening: added to the diagonal, as a share of its mean, >= 0.

    Returns:
        The solution; `loss_increase` is E |W' x - W x|^2.

    Raises:
        ValueError: shapes that do not fit, NaN, or a Gram matrix that is singular in spite of the dampening.

    Example:
        >>> import torch
        >>> gram, mask = torch.tensor([[1.0, 0.5], [0.5, 1.0]]), torch.tensor([[False, True]])
        >>> sparsegpt_update(torch.tensor([[1.0, 2.0]]), gram, mask, dampening=0.0).weight
        tensor([[0.0000, 2.5000]])

    Source:
        Frantar, Alistarh. SparseGPT: massive language models can be accurately pruned in one-shot. ICML 2023,
        arXiv:2301.00774.

    Cost: O(in^3 + out in^2) time, O(in^2 + out in) memory.
    """
    rows, gram = rows_and_gram(weight, input_gram)
    width, keep = counts.check_positive(block_columns, name="block_columns"), flat_mask(mask, weight.shape)
    return _sweep(
        weight,
        rows,
        gram,
        lambda start, stop, scores: keep[:, start:stop],
        block_columns=width,
        group=width,
        dampening=dampening,
    )


def _sweep(
    weight: Tensor, rows: Tensor, gram: Tensor, choose: Choose, *, block_columns: int, group: int, dampening: float
) -> Solution:
    """Go through the columns from left to right; a group of columns is chosen when the sweep reaches it."""
    upper = _inverse_factor(dampened(gram, dampening))
    dead, columns = gram.diagonal() == 0, rows.shape[1]
    solved, mask = rows.clone(), torch.ones_like(rows, dtype=torch.bool)
    errors = torch.zeros_like(rows)
    for start in range(0, columns, block_columns):
        stop = min(start + block_columns, columns)
        for column in range(start, stop):
            if (column - start) % group == 0:
                part = slice(column, min(column + group, stop))
                scores = (solved[:, part] / upper.diagonal()[part]).square()
                scores = torch.where(dead[part], -1.0, scores)
                mask[:, part] = choose(part.start, part.stop, scores)
            errors[:, column] = torch.where(mask[:, column], 0.0, solved[:, column] / upper[column, column])
            solved[:, column:stop] -= torch.outer(errors[:, column], upper[column, column:stop])
        # The columns behind the block have waited for it.
        solved[:, stop:] -= errors[:, start:stop] @ upper[start:stop, stop:]
    solved = torch.where(mask, solved, 0.0)
    return solution.make(weight, solved, mask, layer_error(solved - rows, gram))


def _inverse_factor(gram: Tensor) -> Tensor:
    """Return the upper U with G^-1 = U^T U, from the Cholesky factor of G in reverse order."""
    upper = factor(gram.flip(0, 1), name="input_gram").flip(0, 1)
    solved: Tensor = torch.linalg.solve_triangular(upper, torch.eye(len(gram)).to(gram), upper=True)
    return solved


def _block_counts(num_active: int, out: int, live: Tensor, block_columns: int) -> list[int]:
    """Return how many weights each block keeps: those of live inputs before those of dead ones."""
    limits = [out * int(part.sum()) for part in live.split(block_columns)]
    dead_limits = [out * part.numel() - limit for part, limit in zip(live.split(block_columns), limits, strict=True)]
    kept = min(num_active, sum(limits))
    shares = [kept * limit / max(1, sum(limits)) for limit in limits]
    dead_shares = [(num_active - kept) * limit / max(1, sum(dead_limits)) for limit in dead_limits]
    parts = counts.split(kept, shares, limits), counts.split(num_active - kept, dead_shares, dead_limits)
    return [a + b for a, b in zip(*parts, strict=True)]
