"""Optimal brain surgeon on a full Hessian: the oracle of the other solvers."""

import torch
from torch import Tensor

from gossamer.solvers import solution
from gossamer.solvers.checks import as_float64, check_count, square
from gossamer.solvers.linear_algebra import dampened, inverse
from gossamer.solvers.solution import Solution


def obs_scores(weight: Tensor, hessian: Tensor, *, dampening: float = 0.0) -> Tensor:
    """Score each weight by what the loss gains when it goes and all others move to make up for it.

    score_i = w_i^2 / (2 [H^-1]_ii)

    Args:
        weight: values at a minimum of the loss, any shape [*], n in all.
        hessian: of the loss, positive definite, shape [n, n] for the flattened weight.
        dampening: added to the diagonal, as a share of its mean, >= 0.

    Returns:
        Scores, shape [*], float32, never negative; larger means keep.

    Raises:
        ValueError: shapes that do not fit, NaN, or a Hessian that is not positive definite.

    Example:
        >>> import torch
        >>> obs_scores(torch.tensor([2.0, 1.0]), torch.tensor([[2.0, 1.0], [1.0, 1.0]]))
        tensor([2.0000, 0.2500])

    Source:
        Hassibi, Stork. Second order derivatives for network pruning: Optimal Brain Surgeon. NeurIPS 1992.

    Cost: O(n^3) time, O(n^2) memory.
    """
    values = as_float64(weight, name="weight").flatten()
    curvature = square(hessian, values.numel(), name="hessian")
    inv = inverse(dampened(curvature, dampening), name="hessian")
    scores = torch.where(curvature.diagonal() == 0, 0.0, values.square() / (2 * inv.diagonal()))
    return scores.float().view(weight.shape)


def obs(weight: Tensor, hessian: Tensor, *, num_active: int, dampening: float = 0.0) -> Solution:
    """Remove one weight at a time, each the cheapest, and move all others by the exact minimiser.

    p = argmin w_p^2 / (2 [H^-1]_pp);  w <- w - (w_p / [H^-1]_pp) H^-1 e_p;
    H^-1 <- H^-1 - H^-1 e_p e_p^T H^-1 / [H^-1]_pp

    Args:
        weight: values at a minimum of the loss, any shape [*], n in all.
        hessian: of the loss, positive definite, shape [n, n] for the flattened weight.
        num_active: how many weights stay, in [0, n].
        dampening: added to the diagonal, as a share of its mean, >= 0.

    Returns:
        The solution; `loss_increase` is dw^T H dw / 2. Of equal weights the later go first.

    Raises:
        ValueError: a count or shapes that do not fit, NaN, or a Hessian that is not positive definite.

    Example:
        >>> import torch
        >>> obs(torch.tensor([2.0, 1.0]), torch.tensor([[2.0, 1.0], [1.0, 1.0]]), num_active=1)
        Solution(mask=tensor([ True, False]), weight=tensor([2.5000, 0.0000]), loss_increase=0.25)

    Source:
        Hassibi, Stork. Second order derivatives for network pruning: Optimal Brain Surgeon. NeurIPS 1992.
        Differs: the inverse is downdated after a removal instead of being estimated again after retraining.

    Cost: O(n^3) time, O(n^2) memory.
    """
    values = as_float64(weight, name="weight").flatten()
    curvature = square(hessian, values.numel(), name="hessian")
    mask = torch.ones_like(values, dtype=torch.bool)
    solved = values.clone()
    removals = values.numel() - check_count(num_active, values.numel())
    inv = inverse(dampened(curvature, dampening), name="hessian")
    for _ in range(removals):
        # A weight that the loss does not feel goes before all others.
        costs = torch.where(curvature.diagonal() == 0, -1.0, solved.square() / inv.diagonal())
        costs = costs.masked_fill(~mask, torch.inf)
        place = int((costs == costs.min()).nonzero()[-1])
        solved -= solved[place] / inv[place, place] * inv[place]
        inv = downdate(inv, place)
        mask[place] = False
        solved[~mask] = 0.0
    change = solved - values
    return solution.make(weight, solved, mask, 0.5 * float(change @ curvature @ change))


def downdate(inv: Tensor, place: int) -> Tensor:
    """Return the inverse of a matrix without one row and column, from the inverse of the whole.

    Args:
        inv: inverse of the whole, symmetric, shape [n, n].
        place: which row and column goes.

    Returns:
        Shape [n, n], exactly zero in that row and column.
    """
    smaller = inv - torch.outer(inv[place], inv[place] / inv[place, place])
    smaller[place] = 0.0
    smaller[:, place] = 0.0
    return smaller
