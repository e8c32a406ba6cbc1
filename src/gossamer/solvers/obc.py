"""Optimal brain compression: exact OBS on each row of a layer."""

import torch
from torch import Tensor

from gossamer import masks
from gossamer.solvers import solution
from gossamer.solvers.checks import check_count, check_groups, rows_and_gram
from gossamer.solvers.linear_algebra import batches, dampened, inverse, layer_error, least_squares
from gossamer.solvers.solution import Solution


def obc(weight: Tensor, input_gram: Tensor, *, num_active: int, dampening: float = 0.01) -> Solution:
    """Run exact OBS on every row, then take from all rows together the removals that cost least.

    In a row: p = argmin w_p^2 / [G^-1]_pp;  w <- w - (w_p / [G^-1]_pp) G^-1 e_p;
    G^-1 <- G^-1 - G^-1 e_p e_p^T G^-1 / [G^-1]_pp

    Args:
        weight: current values, shape [out, in, ...], n in all; the axes behind the first are flattened.
        input_gram: G = E x x^T, shape [in, in].
        num_active: how many weights stay, in [0, n].
        dampening: added to the diagonal, as a share of its mean, >= 0.

    Returns:
        The solution; `loss_increase` is E |W' x - W x|^2. Weights of inputs that are always zero go first.

    Raises:
        ValueError: a count or shapes that do not fit, NaN, or a Gram matrix that is singular in spite of the
            dampening.

    Example:
        >>> import torch
        >>> obc(torch.tensor([[2.0, 1.0]]), torch.tensor([[2.0, 1.0], [1.0, 1.0]]), num_active=1, dampening=0.0)
        Solution(mask=tensor([[ True, False]]), weight=tensor([[2.5000, 0.0000]]), loss_increase=0.5)

    Source:
        Frantar, Alistarh. Optimal Brain Compression: a framework for accurate post-training quantization and
        pruning. NeurIPS 2022, arXiv:2208.11580.
        Differs: H is G, not 2 X X^T, which changes no choice; the dampening is that of SparseGPT.

    Cost: O(out in^3) time in bounded memory.
    """
    rows, gram = rows_and_gram(weight, input_gram)
    removals = rows.numel() - check_count(num_active, rows.numel())
    traces = _traces(rows, gram, dampening, min(removals, rows.shape[1]))
    mask = _merge(*traces, removals, rows) if removals else torch.ones_like(rows, dtype=torch.bool)
    return _settle(weight, rows, gram, mask, dampening)


def obc_nm(weight: Tensor, input_gram: Tensor, *, n: int, m: int, dampening: float = 0.01) -> Solution:
    """Run exact OBS on every row until n of each m consecutive inputs are left.

    Args:
        weight: current values, shape [out, in, ...]; the axes behind the first are flattened to a multiple of m.
        input_gram: G = E x x^T, shape [in, in].
        n: how many are kept of each m, in [1, m].
        m: consecutive inputs of a group, >= 1.
        dampening: added to the diagonal, as a share of its mean, >= 0.

    Returns:
        The solution; `loss_increase` is E |W' x - W x|^2. In each group, inputs that are always zero go first.

    Raises:
        ValueError: n, m or shapes that do not fit, NaN, or a Gram matrix that is singular in spite of the dampening.

    Example:
        >>> import torch
        >>> obc_nm(torch.tensor([[2.0, 1.0, 0.5, 3.0]]), torch.eye(4), n=1, m=2).mask
        tensor([[ True, False, False,  True]])

    Source:
        Frantar, Alistarh. Optimal Brain Compression: a framework for accurate post-training quantization and
        pruning. NeurIPS 2022, arXiv:2208.11580.
        Differs: H is G, not 2 X X^T, which changes no choice; the dampening is that of SparseGPT.

    Cost: O(out in^3) time in bounded memory.
    """
    rows, gram = rows_and_gram(weight, input_gram)
    check_groups(n, m, rows.shape[1])
    removals = rows.shape[1] // m * (m - n)
    order, _ = _traces(rows, gram, dampening, removals, group=m, limit=m - n)
    mask = torch.ones_like(rows, dtype=torch.bool).scatter_(1, order, False)
    return _settle(weight, rows, gram, mask, dampening)


def _settle(weight: Tensor, rows: Tensor, gram: Tensor, mask: Tensor, dampening: float) -> Solution:
    """Solve anew for the mask: the end of the recursion, without the rounding of its steps."""
    solved = least_squares(rows, dampened(gram, dampening)[None], mask)
    return solution.make(weight, solved, mask, layer_error(solved - rows, gram))


def _merge(order: Tensor, costs: Tensor, removals: int, rows: Tensor) -> Tensor:
    """Take the cheapest removals of all rows, in each row a beginning of its trace."""
    # A removal behind a dear one waits for it, so it counts as no cheaper; then any cheapest set is beginnings.
    waiting = costs.cummax(1).values.flip(0)
    chosen = masks.largest(-waiting.flatten(), removals)
    per_row = torch.bincount(chosen // order.shape[1], minlength=len(order)).flip(0)
    goes = torch.arange(order.shape[1], device=order.device) < per_row[:, None]
    return torch.ones_like(rows, dtype=torch.bool).scatter_(1, order, ~goes)


class Trace:
    """Exact OBS on some rows at once, each with its own inverse.

    Args:
        rows: current values, shape [n, d], float64; changed by removals.
        inverses: of the Gram matrix on what is left of each row, shape [n, d, d]; changed by removals.
        dead: inputs that are always zero, bool, shape [d] or [n, d]; they go first, at cost -1.
    """

    def __init__(self, rows: Tensor, inverses: Tensor, dead: Tensor) -> None:
        self.rows, self.inverses, self.dead = rows, inverses, dead
        self.gone = torch.zeros_like(rows, dtype=torch.bool)
        self.num_gone = 0

    def remove(self, group: int = 1, limit: int = 1) -> tuple[Tensor, Tensor]:
        """Remove the cheapest weight of each row, of equal ones the last, and move the rest.

        Args:
            group: consecutive inputs of a group.
            limit: how many inputs may go in a group.

        Returns:
            Which goes and what it costs, shapes [n], int64 and float64.
        """
        each = torch.arange(len(self.rows), device=self.rows.device)
        costs = torch.where(self.dead, -1.0, self.rows.square() / self.inverses.diagonal(dim1=1, dim2=2))
        full = self.gone.unflatten(1, (-1, group)).sum(2) >= limit
        costs = costs.masked_fill(self.gone | full.repeat_interleave(group, 1), torch.inf)
        places = costs.shape[1] - 1 - costs.flip(1).argmin(1)
        columns = self.inverses[each, places]
        scaled = columns / columns[each, places][:, None]
        self.rows -= self.rows[each, places][:, None] * scaled
        self.inverses.baddbmm_(columns[:, :, None], scaled[:, None, :], alpha=-1)
        self.gone[each, places] = True
        self.num_gone += 1
        self.rows[each, places] = 0.0
        self.inverses[each, places] = 0.0
        self.inverses[each, :, places] = 0.0
        return places, costs[each, places]


def _traces(
    rows: Tensor, gram: Tensor, dampening: float, steps: int, *, group: int = 1, limit: int = 1
) -> tuple[Tensor, Tensor]:
    """Return for each row which inputs go, in order, and what each costs: [out, steps] int64 and float64."""
    inv = inverse(dampened(gram, dampening), name="input_gram")
    order = torch.zeros(len(rows), steps, dtype=torch.int64, device=rows.device)
    costs = torch.zeros(len(rows), steps, dtype=torch.float64, device=rows.device)
    for part in batches(len(rows), inv.numel()):
        trace = Trace(rows[part].clone(), inv.repeat(len(rows[part]), 1, 1), gram.diagonal() == 0)
        inputs = torch.arange(rows.shape[1], device=rows.device).expand_as(trace.rows)
        for step in range(steps):
            places, costs[part, step] = trace.remove(group, limit)
            order[part, step] = inputs.gather(1, places[:, None])[:, 0]
            if group == 1 and step + 1 < steps and 8 * trace.num_gone >= inputs.shape[1]:
                trace, inputs = _compacted(trace, inputs)
    return order, costs


def _compacted(trace: Trace, inputs: Tensor) -> tuple[Trace, Tensor]:
    """Leave out what is gone: a removal costs the square of what the matrices still hold, a third on the whole."""
    each = torch.arange(len(inputs), device=inputs.device)[:, None, None]
    kept = (~trace.gone).nonzero()[:, 1].view(len(inputs), -1)
    inverses = trace.inverses[each, kept[:, :, None], kept[:, None, :]]
    dead = trace.dead.expand_as(trace.rows).gather(1, kept)
    return Trace(trace.rows.gather(1, kept), inverses, dead), inputs.gather(1, kept)
