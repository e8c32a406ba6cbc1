"""SynFlow: weights on the strongest paths from the inputs to the outputs."""

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from gossamer.criteria.inputs import check_same_shape, wide
from gossamer.elementwise import elementwise


@elementwise
def synflow(weight: Tensor, flow_grad: Tensor) -> Tensor:
    """Score each weight by its share of the synaptic flow R, the sum of the paths from inputs to outputs.

    score = |w * dR/dw|,   R = 1^T |W_L| ... |W_1| 1

    Without biases the scores of every layer add up to R, and those into a hidden unit to those out of it. Scores must
    be taken anew after each small step of removal (the paper: 100 steps); a single step empties layers. A flow of 0
    means that no path is left.

    Args:
        weight: current values, any shape [*].
        flow_grad: gradient of R with regard to the weight or to its absolute value (they differ in sign alone),
            shape [*].

    Returns:
        Scores, shape [*], never negative; larger means keep. Unlike other criteria float64 if an input is: R grows
        exponentially with depth and passes the range of float32 in deep networks. Otherwise float32.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> import torch
        >>> synflow(torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0]))
        tensor([1., 3.])

    Source:
        Tanaka, Kunin, Yamins, Ganguli. Pruning neural networks without any data by iteratively conserving synaptic
        flow. NeurIPS 2020, arXiv:2006.05467.
    """
    check_same_shape(weight, flow_grad, name="flow_grad")
    if _is_plain(weight) and _is_plain(flow_grad) and flow_grad.dtype == torch.float64:
        scores = torch.empty(flow_grad.shape, dtype=torch.float64)
        _products(weight.detach().reshape(-1).numpy(), flow_grad.detach().reshape(-1).numpy(), scores.view(-1).numpy())
        return scores
    return (wide(weight) * wide(flow_grad)).abs()


def _is_plain(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)


@njit(cache=True, nogil=True)
def _products(weight: NDArray[np.floating], flow: NDArray[np.float64], scores: NDArray[np.float64]) -> None:
    # torch takes three times as long for two dtypes.
    for i in range(scores.size):
        scores[i] = abs(weight[i] * flow[i])
