"""One row for each solver: it enrols the solver in the contract tests."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gossamer import masks, solvers
from gossamer.solvers import Solution


class Inputs(NamedTuple):
    """What solvers are given beside the weight."""

    hessian: Tensor
    input_gram: Tensor
    sample_grads: Tensor


@dataclass(frozen=True, kw_only=True)
class Case:
    """A solver and how it is called.

    Attributes:
        name: the solver.
        solve: (weight, inputs, how many units stay) -> solution.
        unit: weight's shape -> entries that go or stay together.
        least: the smallest number of units that may stay.
        argument: what an error about that number calls it; empty where it is given in another way.
        reads: which of the inputs it takes.
    """

    name: str
    solve: Callable[[Tensor, Inputs, int], Solution]
    unit: Callable[[torch.Size], int] = lambda shape: 1
    least: int = 0
    argument: str = "num_active"
    reads: str = "input_gram"

    def units(self, weight: Tensor) -> int:
        """Return how many units a weight has, or how many a group of it has."""
        return weight.numel() if self.unit(weight.shape) == 1 else columns(weight.shape)


def columns(shape: torch.Size) -> int:
    """Return the inputs of a flattened weight."""
    return math.prod(shape[1:])


def mask_of(weight: Tensor, kept: int) -> Tensor:
    """Return a mask with so many entries True, the same for the same arguments."""
    return masks.draw(tuple(weight.shape), kept, generator=torch.Generator().manual_seed(kept))


CASES = [
    Case(
        name="l_obs",
        solve=lambda weight, inputs, kept: solvers.l_obs(weight, inputs.input_gram, num_active=kept),
    ),
    Case(
        name="lasso_channels",
        solve=lambda weight, inputs, kept: solvers.lasso_channels(weight, inputs.input_gram, num_channels=kept),
        unit=lambda shape: shape[0],
        argument="num_channels",
    ),
    Case(
        name="m_fac",
        solve=lambda weight, inputs, kept: solvers.m_fac(weight, inputs.sample_grads, num_active=kept, dampening=1e-3),
        reads="sample_grads",
    ),
    Case(
        name="obc",
        solve=lambda weight, inputs, kept: solvers.obc(weight, inputs.input_gram, num_active=kept),
    ),
    Case(
        name="obc_nm",
        solve=lambda weight, inputs, kept: solvers.obc_nm(
            weight, inputs.input_gram, n=kept, m=max(1, columns(weight.shape))
        ),
        unit=lambda shape: shape[0],
        least=1,
        argument="n",
    ),
    Case(
        name="obs",
        solve=lambda weight, inputs, kept: solvers.obs(weight, inputs.hessian, num_active=kept),
        reads="hessian",
    ),
    Case(
        name="reconstruct",
        solve=lambda weight, inputs, kept: solvers.reconstruct(weight, inputs.input_gram, mask_of(weight, kept)),
        argument="",
    ),
    Case(
        name="sparsegpt",
        solve=lambda weight, inputs, kept: solvers.sparsegpt(
            weight, inputs.input_gram, num_active=kept, block_columns=4
        ),
    ),
    Case(
        name="sparsegpt_nm",
        solve=lambda weight, inputs, kept: solvers.sparsegpt_nm(
            weight, inputs.input_gram, n=kept, m=max(1, columns(weight.shape))
        ),
        unit=lambda shape: shape[0],
        least=1,
        argument="n",
    ),
    Case(
        name="sparsegpt_update",
        solve=lambda weight, inputs, kept: solvers.sparsegpt_update(
            weight, inputs.input_gram, mask_of(weight, kept), block_columns=4
        ),
        argument="",
    ),
    Case(
        name="thinet",
        solve=lambda weight, inputs, kept: solvers.thinet(weight, inputs.input_gram, num_channels=kept),
        unit=lambda shape: shape[0],
        argument="num_channels",
    ),
    Case(
        name="woodfisher",
        solve=lambda weight, inputs, kept: solvers.woodfisher(
            weight, inputs.sample_grads, num_active=kept, block_size=5, dampening=1e-3
        ),
        reads="sample_grads",
    ),
]


def make_inputs(weight: Tensor, *, samples: int = 40, dead: int = 0, seed: int = 0) -> Inputs:
    """Draw what solvers are given for a weight; the first `dead` inputs are always zero."""
    generator = torch.Generator().manual_seed(seed)
    size, numel = columns(weight.shape), weight.numel()
    mixed = torch.randn(size, size, generator=generator, dtype=torch.float64)
    data = torch.randn(samples, size, generator=generator, dtype=torch.float64) @ mixed
    data[:, :dead] = 0.0
    slopes = torch.randn(2 * numel, numel, generator=generator, dtype=torch.float64)
    grads = torch.randn(8, *weight.shape, generator=generator, dtype=torch.float64)
    return Inputs(slopes.t() @ slopes / max(1, len(slopes)), data.t() @ data / samples, grads)
