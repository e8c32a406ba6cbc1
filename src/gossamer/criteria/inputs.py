"""What criteria ask of their inputs: shapes that fit one another, and numbers wide enough to compute with."""

import torch
from torch import Tensor


def wide(tensor: Tensor) -> Tensor:
    """Return the values without history, in float32, or in float64 where they come in it.

    The product of two half-precision numbers over- and underflows where each of them is harmless.

    Args:
        tensor: any shape [*]; it may share memory with what is returned.
    """
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))


def check_same_shape(weight: Tensor, other: Tensor, *, name: str) -> None:
    """Raise unless an input has the shape of the weight.

    Args:
        weight: shape [*].
        other: what must have this shape.
        name: what the error calls it.

    Raises:
        ValueError: the shapes differ.
    """
    if weight.shape != other.shape:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}, {name} {tuple(other.shape)}; "
            f"they must agree, so pass the {name} of this weight"
        )


def check_one_a_unit(values: Tensor, *, name: str) -> None:
    """Raise unless an input holds one number for each unit.

    Args:
        values: shape [units].
        name: what the error calls it.

    Raises:
        ValueError: the shape is another.
    """
    if values.dim() != 1:
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}, allowed is [units]; reduce it to one number for each unit"
        )


def check_samples(values: Tensor, *, name: str) -> None:
    """Raise unless an input holds a row for each sample, and at least one.

    Args:
        values: shape [samples, n].
        name: what the error calls it.

    Raises:
        ValueError: the shape is another, or there is no sample.
    """
    if values.dim() != 2 or not len(values):
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}, allowed is [samples, units] with one sample or more; "
            "stack what the samples give"
        )


def filters(weight: Tensor) -> Tensor:
    """Return the incoming weights of each unit as a row, in float64 without history.

    Sums over a filter cancel, and distances square what they add: neither is safe in float32.

    Args:
        weight: shape [units, in, ...].

    Returns:
        Shape [units, fan-in], float64, contiguous, so that sums do not depend on how the weight lies in memory.

    Raises:
        ValueError: the weight has fewer than two dimensions.
    """
    if weight.dim() < 2:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}, allowed is [units, in, ...]; whole units are judged by all "
            "their weights, so pass the dense tensor"
        )
    return weight.detach().flatten(1).double().contiguous()
