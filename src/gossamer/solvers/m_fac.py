"""M-FAC: inverse Fisher products from stored gradients, without a matrix of n x n."""

from typing import NamedTuple

import torch
from torch import Tensor

from gossamer.masks import keep_largest
from gossamer.solvers import solution
from gossamer.solvers.checks import as_float64, check_count, gradient_rows
from gossamer.solvers.solution import Solution


class LowRankInverse(NamedTuple):
    """The inverse I / dampening - sum d_i d_i^T / s_i of an empirical Fisher matrix.

    Attributes:
        directions: d_i, shape [samples, n], float64.
        scales: s_i > 0, shape [samples], float64.
        dampening: what the Fisher matrix has on its diagonal beside the gradients, > 0.
    """

    directions: Tensor
    scales: Tensor
    dampening: float

    def product(self, vector: Tensor) -> Tensor:
        """Return the inverse times a vector, in O(samples n).

        Args:
            vector: shape [n].

        Returns:
            Shape [n], float64.
        """
        vector = vector.detach().double()
        return vector / self.dampening - self.directions.t() @ ((self.directions @ vector) / self.scales)

    def diagonal(self) -> Tensor:
        """Return the diagonal of the inverse, shape [n], float64, in O(samples n)."""
        return 1.0 / self.dampening - (self.directions.square() / self.scales[:, None]).sum(0)


def m_fac_inverse(sample_grads: Tensor, *, dampening: float) -> LowRankInverse:
    """Prepare products with the inverse of F = dampening I + (1/N) sum g g^T.

    d_i = F_{i-1}^-1 g_i;  s_i = N + g_i^T d_i

    Args:
        sample_grads: gradient of each sample's loss, shape [samples, *], n weights in all.
        dampening: added to the diagonal, > 0.

    Returns:
        The inverse, as a record that multiplies vectors.

    Raises:
        ValueError: no sample, NaN, or a dampening that is not positive.

    Example:
        >>> import torch
        >>> m_fac_inverse(torch.tensor([[1.0, 0.0]]), dampening=1.0).product(torch.tensor([4.0, 4.0]))
        tensor([2., 4.], dtype=torch.float64)

    Source:
        Frantar, Kurtic, Alistarh. M-FAC: efficient matrix-free approximations of second-order information.
        NeurIPS 2021, arXiv:2107.03356.

    Cost: O(samples^2 n) time, O(samples n) memory.
    """
    grads = gradient_rows(sample_grads, sample_grads.shape[1:], dampening=dampening)
    directions, scales = torch.zeros_like(grads), grads.new_zeros(len(grads))
    for i, grad in enumerate(grads):
        known = LowRankInverse(directions[:i], scales[:i], dampening)
        directions[i] = known.product(grad)
        scales[i] = len(grads) + grad @ directions[i]
    return LowRankInverse(directions, scales, dampening)


def m_fac_scores(weight: Tensor, sample_grads: Tensor, *, dampening: float) -> Tensor:
    """Score each weight by what the loss gains when it goes and all others make up for it.

    score_i = w_i^2 / (2 [F^-1]_ii), F the empirical Fisher matrix of the whole tensor

    Args:
        weight: current values, any shape [*].
        sample_grads: gradient of each sample's loss, shape [samples, *].
        dampening: added to the diagonal, > 0.

    Returns:
        Scores, shape [*], float32, never negative; larger means keep.

    Raises:
        ValueError: shapes that do not fit, NaN, or a dampening that is not positive.

    Example:
        >>> import torch
        >>> m_fac_scores(torch.tensor([1.0, 1.0]), torch.tensor([[1.0, 0.0]]), dampening=1.0)
        tensor([1.0000, 0.5000])

    Source:
        Frantar, Kurtic, Alistarh. M-FAC: efficient matrix-free approximations of second-order information.
        NeurIPS 2021, arXiv:2107.03356.

    Cost: O(samples^2 n) time, O(samples n) memory.
    """
    return (
        _scores(weight, gradient_rows(sample_grads, weight.shape, dampening=dampening), dampening)
        .float()
        .view(weight.shape)
    )


def m_fac(weight: Tensor, sample_grads: Tensor, *, num_active: int, dampening: float) -> Solution:
    """Remove the weights of least score at once and move what stays by the exact minimiser, matrix-free.

    score_i = w_i^2 / (2 [F^-1]_ii);  dw_K = F_KK^-1 F_KQ w_Q, Q removed and K kept

    Args:
        weight: current values, any shape [*], n in all.
        sample_grads: gradient of each sample's loss, shape [samples, *].
        num_active: how many weights stay, in [0, n].
        dampening: added to the diagonal, > 0.

    Returns:
        The solution; `loss_increase` is dw^T F dw / 2.

    Raises:
        ValueError: shapes, a count or settings out of range, or NaN.

    Example:
        >>> import torch
        >>> grads = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
        >>> m_fac(torch.tensor([3.0, 1.0]), grads, num_active=1, dampening=1e-3).weight
        tensor([3., 0.])

    Source:
        Frantar, Kurtic, Alistarh. M-FAC: efficient matrix-free approximations of second-order information.
        NeurIPS 2021, arXiv:2107.03356.
        Differs: the removed weights act together; the paper adds up what each would do alone.

    Cost: O(samples^2 n) time, O(samples n) memory.
    """
    values = as_float64(weight, name="weight").flatten()
    grads = gradient_rows(sample_grads, weight.shape, dampening=dampening)
    mask = keep_largest(_scores(weight, grads, dampening), check_count(num_active, values.numel()))
    # On the kept weights F_KK has the same form, so that their own gradients give its inverse.
    pull = (grads * mask).t() @ (grads @ (values * ~mask)) / len(grads)
    change = torch.where(mask, m_fac_inverse(grads * mask, dampening=dampening).product(pull), -values)
    loss = 0.5 * float(dampening * change.square().sum() + (grads @ change).square().mean())
    return solution.make(weight, values + change, mask, loss)


def _scores(weight: Tensor, grads: Tensor, dampening: float) -> Tensor:
    """Return the scores of the flattened weight in float64."""
    values = as_float64(weight, name="weight").flatten()
    return values.square() / (2 * m_fac_inverse(grads, dampening=dampening).diagonal())
