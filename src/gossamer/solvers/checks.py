"""What solvers ask of their arguments, which they take on in float64."""

import torch
from torch import Tensor


def as_float64(tensor: Tensor, *, name: str) -> Tensor:
    """Return the values of a tensor in float64, apart from any graph.

    Args:
        tensor: any shape [*].
        name: what the error calls it.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    values = tensor.detach().double()
    if bad := int((~values.isfinite()).sum()):
        raise ValueError(f"{name} holds {bad} values that are NaN or infinite; check the data and the model")
    return values


def check_count(count: int, limit: int, *, name: str = "num_active") -> int:
    """Return `count` if it lies in [0, limit], else raise.

    Args:
        count: what a user gave.
        limit: the largest value allowed.
        name: what the error calls it.

    Raises:
        ValueError: it lies outside.
    """
    if not 0 <= count <= limit:
        raise ValueError(f"{name} must lie in [0, {limit}], got {count}")
    return count


def square(matrix: Tensor, size: int, *, name: str) -> Tensor:
    """Return a symmetric matrix in float64, freed of the rounding that makes its halves differ.

    Args:
        matrix: shape [size, size].
        size: rows that it must have.
        name: what the error calls it.

    Raises:
        ValueError: another shape, or a value is NaN or infinite.
    """
    if matrix.shape != (size, size):
        raise ValueError(f"{name} must have shape ({size}, {size}) to fit the weight, got {tuple(matrix.shape)}")
    values = as_float64(matrix, name=name)
    return (values + values.t()) / 2


def rows_and_gram(weight: Tensor, input_gram: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight as a matrix [out, in] and the Gram matrix of its inputs, both in float64.

    Args:
        weight: shape [out, in, ...]; the axes behind the first are flattened.
        input_gram: shape [in, in].

    Raises:
        ValueError: shapes that do not fit, or a value is NaN or infinite.
    """
    if weight.dim() < 2:
        raise ValueError(f"the weight must have shape [out, in, ...], got {tuple(weight.shape)}")
    rows = as_float64(weight, name="weight").flatten(1).contiguous()
    return rows, square(input_gram, rows.shape[1], name="input_gram")


def gradient_rows(sample_grads: Tensor, shape: torch.Size, *, dampening: float) -> Tensor:
    """Return the gradient of each sample as a row of float64; check the dampening that is to go with it.

    Args:
        sample_grads: shape [samples, *].
        shape: of the weight, [*], n in all.
        dampening: > 0.

    Returns:
        Shape [samples, n], float64.

    Raises:
        ValueError: another shape, no sample, NaN, or a dampening that is not positive.
    """
    if sample_grads.dim() == 0 or len(sample_grads) == 0 or sample_grads.shape[1:] != shape:
        raise ValueError(
            f"sample_grads must have shape [samples, *] with one sample or more and * = {tuple(shape)}, "
            f"got {tuple(sample_grads.shape)}"
        )
    if not dampening > 0:
        raise ValueError(f"dampening must be positive, got {dampening}; without it few gradients have no inverse")
    return as_float64(sample_grads, name="sample_grads").reshape(len(sample_grads), shape.numel())


def check_groups(n: int, m: int, columns: int) -> None:
    """Raise unless n of m can be kept in this many columns.

    Args:
        n: how many are kept of each m.
        m: consecutive inputs of a group.
        columns: inputs of the flattened weight.

    Raises:
        ValueError: n outside [1, m], or columns that m does not divide.
    """
    if not 1 <= n <= m:
        raise ValueError(f"n of m are kept, so n must lie in [1, {m}] for m = {m}, got {n}")
    if columns % m:
        raise ValueError(f"{columns} inputs do not part into groups of {m}; pass an m that divides them")


def flat_mask(mask: Tensor, shape: torch.Size) -> Tensor:
    """Return a mask as a matrix [out, in].

    Args:
        mask: bool, shape [out, in, ...].
        shape: of the weight.

    Raises:
        ValueError: another shape, or not bool.
    """
    if mask.shape != shape or mask.dtype != torch.bool:
        raise ValueError(f"mask must be bool of shape {tuple(shape)}, got {mask.dtype} {tuple(mask.shape)}")
    return mask.flatten(1)
