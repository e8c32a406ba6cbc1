"""Statistics of a unit's activations over unlabelled data: what is silent or constant goes first."""

import torch
from torch import Tensor

from gossamer.criteria.inputs import check_one_a_unit, wide


def apoz(zero_fraction: Tensor) -> Tensor:
    """Score each unit by how often it is not zero: one minus its average percentage of zeros (APoZ).

    score = 1 - share of samples and positions with a = 0

    Args:
        zero_fraction: share of each unit's activations that are 0, shape [units], in [0, 1].

    Returns:
        Scores, shape [units], float32, in [0, 1]; larger means keep.

    Raises:
        ValueError: more or less than one dimension.

    Example:
        >>> apoz(torch.tensor([0.75, 1.0]))
        tensor([0.2500, 0.0000])

    Source:
        Hu, Peng, Tai, Tang. Network Trimming. 2016, arXiv:1607.03250.
    """
    check_one_a_unit(zero_fraction, name="zero_fraction")
    return (1.0 - wide(zero_fraction)).float()


def mean_activation(activation_magnitude: Tensor) -> Tensor:
    """Score each unit by the mean absolute value of its activations.

    score = E |a|

    Args:
        activation_magnitude: that mean over samples and positions, shape [units].

    Returns:
        Scores, shape [units], float32, never negative; larger means keep.

    Raises:
        ValueError: more or less than one dimension.

    Example:
        >>> mean_activation(torch.tensor([0.5, 2.0]))
        tensor([0.5000, 2.0000])

    Source:
        Tan, Motani. DropNet: Reducing Neural Network Complexity via Iterative Pruning. ICML 2020, arXiv:2207.06646.
    """
    check_one_a_unit(activation_magnitude, name="activation_magnitude")
    return activation_magnitude.detach().to(torch.float32, copy=True)


def energy(activation_energy: Tensor) -> Tensor:
    """Score each unit by the mean square of its activations.

    score = E a^2

    Args:
        activation_energy: that mean over samples and positions, shape [units].

    Returns:
        Scores, shape [units], float32, never negative; larger means keep.

    Raises:
        ValueError: more or less than one dimension.

    Example:
        >>> energy(torch.tensor([0.25, 4.0]))
        tensor([0.2500, 4.0000])

    Source:
        Chauvin. A Back-Propagation Algorithm with Optimal Use of Hidden Units. NIPS 1988.
        Differs: there the energy is a penalty of training that pushes units to silence; here it judges them.
    """
    check_one_a_unit(activation_energy, name="activation_energy")
    return activation_energy.detach().to(torch.float32, copy=True)


def output_variance(activation_variance: Tensor) -> Tensor:
    """Score each unit by the variance of its activations.

    score = Var a

    A constant unit is a bias: add its mean, times the weights that read it, to the biases of the next layer. After that
    the squared error in a reader's sum is the squared weight times this score.

    Args:
        activation_variance: the variance over samples and positions, shape [units].

    Returns:
        Scores, shape [units], float32, never negative; larger means keep.

    Raises:
        ValueError: more or less than one dimension.

    Example:
        >>> output_variance(torch.tensor([0.0, 4.0]))
        tensor([0., 4.])

    Source:
        Sietsma, Dow. Creating artificial neural networks that generalize. Neural Networks 4, 1991.
        Differs: there units that hardly vary are found by inspection; here the variance ranks them.
    """
    check_one_a_unit(activation_variance, name="activation_variance")
    return activation_variance.detach().to(torch.float32, copy=True)
