"""One row for each criterion: it enrols the criterion in the contract tests."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer import criteria

Inputs = tuple[Tensor, ...]


def alone(weight: Tensor) -> Inputs:
    """Return the inputs of a criterion of the weight alone."""
    return (weight,)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A criterion and how its inputs are made up from a weight.

    Attributes:
        name: the criterion.
        score: the inputs -> scores: of the shape of the weight, or one for each unit.
        inputs: weight of any shape -> the tensors that the criterion takes, in their order.
        by_entry: whether the score of an entry depends on that entry alone.
        min_dim: fewest dimensions of a weight that it judges.
        keeps_float64: whether float64 inputs give float64 scores, against the rule.
        reads_values: whether the scores depend on the values of the inputs.
    """

    name: str
    score: Callable[..., Tensor]
    inputs: Callable[[Tensor], Inputs] = alone
    by_entry: bool = True
    min_dim: int = 1
    keeps_float64: bool = False
    reads_values: bool = True

    def of(self, weight: Tensor) -> Tensor:
        """Return the scores for a weight."""
        return self.score(*self.inputs(weight))


def slope(weight: Tensor) -> Tensor:
    """Make up a gradient: entry by entry, of both signs against the weight, and it scales with the weight."""
    return 2.0 * weight.abs() - weight


def with_slope(weight: Tensor) -> Inputs:
    """Return a weight with a second tensor of its shape."""
    return weight, slope(weight)


def with_curvature(weight: Tensor) -> Inputs:
    """Return a weight with a second tensor of its shape that is not negative."""
    return weight, slope(weight).abs()


def with_norms(weight: Tensor) -> Inputs:
    """Return a weight with a norm for each of its inputs."""
    return weight, 1.0 + torch.arange(weight.shape[1:].numel()).to(weight)


def with_readers(weight: Tensor) -> Inputs:
    """Return a weight with the weight of a layer that reads its units; both scale together."""
    return weight, slope(weight.flatten(1).t()[:3])


def samples(weight: Tensor) -> Inputs:
    """Return one row for each input, as if inputs were samples: shape [samples, units]."""
    return (weight.flatten(1).t(),)


def zero_fraction(weight: Tensor) -> Inputs:
    """Return the share of negative entries of each unit."""
    return ((weight.flatten(1) < 0).to(weight).mean(1),)


def magnitude(weight: Tensor) -> Inputs:
    """Return one number for each unit that is not negative."""
    return (weight.flatten(1).abs().mean(1),)


def mean(weight: Tensor) -> Inputs:
    """Return one number for each unit, of both signs."""
    return (weight.flatten(1).mean(1),)


def covariance(weight: Tensor) -> Inputs:
    """Return the products of the units' rows, in size like the weight: shape [units, units]."""
    rows = weight.flatten(1)
    return (rows @ rows.t() / (rows.norm() + (rows.norm() == 0.0)),)


def _random(weight: Tensor) -> Tensor:
    return criteria.random(weight, generator=torch.Generator().manual_seed(0))


# Criteria that give each weight a score.
WEIGHT_CASES = [
    Case(name="fisher", score=criteria.fisher, inputs=with_curvature),
    Case(name="grasp", score=criteria.grasp, inputs=with_slope),
    Case(name="magnitude", score=criteria.magnitude),
    Case(name="magnitude_increase", score=criteria.magnitude_increase, inputs=with_slope),
    Case(name="movement", score=criteria.movement, inputs=with_slope),
    Case(name="obd", score=criteria.obd, inputs=with_slope),
    Case(name="random", score=_random, by_entry=False, reads_values=False),
    Case(name="sensitivity", score=criteria.sensitivity),
    Case(name="snip", score=criteria.snip, inputs=with_slope),
    Case(name="synflow", score=criteria.synflow, inputs=with_slope, keeps_float64=True),
    Case(name="taylor", score=criteria.taylor, inputs=with_slope),
    Case(name="wanda", score=criteria.wanda, inputs=with_norms, by_entry=False, min_dim=2),
]

# Criteria that give each unit, an output of the weight, a score.
UNIT_CASES = [
    Case(name="apoz", score=criteria.apoz, inputs=zero_fraction),
    Case(name="batch_norm_scale", score=criteria.batch_norm_scale, inputs=mean),
    Case(name="correlation", score=criteria.correlation, inputs=covariance, by_entry=False),
    Case(name="energy", score=criteria.energy, inputs=magnitude),
    Case(name="geometric_median", score=criteria.geometric_median, by_entry=False),
    Case(name="head_gates", score=criteria.head_gates, inputs=samples),
    Case(name="mean_activation", score=criteria.mean_activation, inputs=magnitude),
    Case(name="output_variance", score=criteria.output_variance, inputs=magnitude),
    Case(name="similarity", score=criteria.similarity, inputs=with_readers, by_entry=False),
    Case(name="skeletonization", score=criteria.skeletonization, inputs=mean),
    Case(name="taylor_activation", score=criteria.taylor_activation, inputs=samples, by_entry=False),
    Case(name="taylor_filter", score=criteria.taylor_filter, inputs=with_slope),
]
CASES = WEIGHT_CASES + UNIT_CASES
