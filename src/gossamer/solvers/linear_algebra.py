"""What the solvers share: inverses and exact least squares, all in float64."""

from collections.abc import Iterator

import torch
from torch import Tensor

# Entries of a batch of float64 matrices: 32 MiB, so that memory stays bounded whatever the number of rows.
_BATCH_ENTRIES = 2**22
# A pivot this much smaller than its diagonal entry belongs to an input that the others determine.
_SINGULAR = 1e-10


def dampened(matrix: Tensor, dampening: float) -> Tensor:
    """Add a share of the mean of the diagonal to the diagonal; where that is zero, it becomes the mean itself.

    Args:
        matrix: positive semidefinite, shape [d, d], float64; a zero on the diagonal is an input that is always zero.
        dampening: that share, >= 0.

    Raises:
        ValueError: a negative dampening, or a diagonal that no positive semidefinite matrix has.
    """
    if not dampening >= 0:
        raise ValueError(f"dampening must be 0 or more, got {dampening}; it is a share of the mean of the diagonal")
    diagonal = matrix.diagonal()
    dead = diagonal == 0
    if bool((diagonal < 0).any()) or bool(matrix[dead].any()):
        raise ValueError(
            "the matrix is not positive semidefinite: its diagonal is negative, or zero in a row that is not"
        )
    mean = float(diagonal[~dead].mean()) if bool((~dead).any()) else 1.0
    added = torch.full_like(diagonal, dampening * mean)
    added[dead] = mean
    return matrix + torch.diag(added)


def factor(matrix: Tensor, *, name: str) -> Tensor:
    """Return the lower Cholesky factor of a positive definite matrix.

    Args:
        matrix: symmetric, shape [d, d], float64.
        name: what the error calls it.

    Raises:
        ValueError: it is not positive definite.
    """
    lower: Tensor
    lower, info = torch.linalg.cholesky_ex(matrix)
    pivots = lower.diagonal().square()
    if int(info) or not bool((pivots > _SINGULAR * matrix.diagonal()).all()):
        least = float(torch.linalg.eigvalsh(matrix).min())
        raise ValueError(
            f"{name} must be positive definite, its smallest eigenvalue is {least:.3g}; pass more samples or a "
            "dampening, such as 0.01"
        )
    return lower


def inverse(matrix: Tensor, *, name: str) -> Tensor:
    """Return the inverse of a positive definite matrix.

    Args:
        matrix: symmetric, shape [d, d], float64.
        name: what the error calls it.

    Raises:
        ValueError: it is not positive definite.
    """
    return torch.cholesky_inverse(factor(matrix, name=name))


def row_errors(change: Tensor, gram: Tensor) -> Tensor:
    """Return E (change x)^2 of each output.

    Args:
        change: of the weight, shape [out, d], float64.
        gram: E x x^T, shape [d, d], float64.

    Returns:
        Shape [out], float64.
    """
    return (change @ gram * change).sum(1)


def layer_error(change: Tensor, gram: Tensor) -> float:
    """Return E |change x|^2: the squared change of a layer's outputs, summed over them, mean over samples.

    Args:
        change: of the weight, shape [out, d], float64.
        gram: E x x^T, shape [d, d], float64.
    """
    return max(0.0, float(row_errors(change, gram).sum()))


def batches(rows: int, entries: int) -> Iterator[slice]:
    """Yield slices of the rows, so few at a time that their work fits.

    Args:
        rows: how many there are.
        entries: float64 numbers that one row needs.
    """
    size = max(1, _BATCH_ENTRIES // max(1, entries))
    yield from (slice(start, start + size) for start in range(0, rows, size))


def least_squares(rows: Tensor, quadratics: Tensor, mask: Tensor) -> Tensor:
    """Return for each row r the minimiser w of (w - r)^T H (w - r) with w = 0 where masked.

    Args:
        rows: shape [n, d], float64.
        quadratics: positive semidefinite H, shape [n, d, d], or [1, d, d] for all rows alike.
        mask: bool, shape [n, d].

    Returns:
        Shape [n, d], float64; directions that change nothing are left as they are.
    """
    solved = torch.empty_like(rows)
    for part in batches(len(rows), rows.shape[1] ** 2):
        quadratic = quadratics if len(quadratics) == 1 else quadratics[part]
        pull = (quadratic @ (rows[part] * ~mask[part])[:, :, None]) * mask[part][:, :, None]
        change = solve_kept(quadratic, mask[part], pull)[:, :, 0]
        solved[part] = torch.where(mask[part], rows[part] + change, 0.0)
    return solved


def solve_kept(quadratics: Tensor, mask: Tensor, pull: Tensor) -> Tensor:
    """Return H_KK^-1 pull_K on the kept entries K of each problem, zero elsewhere.

    Args:
        quadratics: positive semidefinite H, shape [n or 1, d, d], float64.
        mask: the kept entries, bool, shape [n, d].
        pull: right-hand sides, zero where masked, shape [n, d, k].

    Returns:
        Shape [n, d, k]; the least solution in the scale of the diagonal where H_KK is singular.
    """
    both = mask[:, :, None] & mask[:, None, :]
    kept = torch.where(both, quadratics, 0.0) + torch.diag_embed((~mask).double())
    lower, info = torch.linalg.cholesky_ex(kept)
    diagonal = kept.diagonal(dim1=1, dim2=2)
    pivots = lower.diagonal(dim1=1, dim2=2).square()
    singular = (info != 0) | ~(pivots > _SINGULAR * diagonal).all(1)
    solved = torch.zeros_like(pull)
    solved[~singular] = torch.cholesky_solve(pull[~singular], lower[~singular])
    if pull.numel() and bool(singular.any()):
        solved[singular] = _solve_singular(kept[singular], pull[singular])
    return solved * mask[:, :, None]


def _solve_singular(matrices: Tensor, pull: Tensor) -> Tensor:
    """Solve within the eigenvectors that count; any subspace holds zero change, so none makes matters worse."""
    diagonal = matrices.diagonal(dim1=1, dim2=2)
    scale = torch.where(diagonal > 0, diagonal, 1.0).rsqrt()[:, :, None]
    values, vectors = torch.linalg.eigh(matrices * scale * scale.mT)
    counted = values > _SINGULAR * values.amax(1, keepdim=True)
    weights = torch.where(counted, 1.0 / torch.where(counted, values, 1.0), 0.0)
    solved: Tensor = scale * (vectors @ (weights[:, :, None] * (vectors.mT @ (scale * pull))))
    return solved
