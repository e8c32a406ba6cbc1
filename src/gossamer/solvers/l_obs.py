"""L-OBS: optimal brain surgeon on the output error of one layer."""

import torch
from torch import Tensor

from gossamer.masks import keep_largest
from gossamer.solvers import solution
from gossamer.solvers.checks import check_count, rows_and_gram
from gossamer.solvers.linear_algebra import dampened, inverse, layer_error, least_squares
from gossamer.solvers.solution import Solution


def l_obs_scores(weight: Tensor, input_gram: Tensor, *, dampening: float = 0.01) -> Tensor:
    """Score each weight by the output error of the layer when it goes and the others of its row make up for it.

    score_rc = w_rc^2 / [G^-1]_cc

    Args:
        weight: current values, shape [out, in, ...]; the axes behind the first are flattened.
        input_gram: G = E x x^T, shape [in, in].
        dampening: added to the diagonal, as a share of its mean, >= 0.

    Returns:
        Scores, shape of the weight, float32; larger means keep. Weights of inputs that are always zero score 0.

    Raises:
        ValueError: shapes that do not fit, NaN, or a Gram matrix that is singular in spite of the dampening.

    Example:
        >>> import torch
        >>> l_obs_scores(torch.tensor([[2.0, 1.0]]), torch.tensor([[2.0, 1.0], [1.0, 1.0]]), dampening=0.0)
        tensor([[4.0000, 0.5000]])

    Source:
        Dong, Chen, Pan. Learning to prune deep neural networks via layer-wise optimal brain surgeon. NeurIPS 2017,
        arXiv:1705.07565.

    Cost: O(in^3 + out in) time.
    """
    rows, gram = rows_and_gram(weight, input_gram)
    return _scores(rows, gram, dampening).clamp(min=0.0).float().view(weight.shape)


def l_obs(weight: Tensor, input_gram: Tensor, *, num_active: int, dampening: float = 0.01) -> Solution:
    """Remove the weights of least score at once and move what stays of each row by the exact minimiser.

    score_rc = w_rc^2 / [G^-1]_cc;  dw = -G^-1_:Q ([G^-1]_QQ)^-1 w_Q for the removed Q of a row

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
        >>> l_obs(torch.tensor([[2.0, 1.0]]), torch.tensor([[2.0, 1.0], [1.0, 1.0]]), num_active=1, dampening=0.0)
        Solution(mask=tensor([[ True, False]]), weight=tensor([[2.5000, 0.0000]]), loss_increase=0.5)

    Source:
        Dong, Chen, Pan. Learning to prune deep neural networks via layer-wise optimal brain surgeon. NeurIPS 2017,
        arXiv:1705.07565.
        Differs: the removed weights of a row act together; the paper adds up what each would do alone. The
        dampening is relative.

    Cost: O(out in^3) time in bounded memory.
    """
    rows, gram = rows_and_gram(weight, input_gram)
    mask = keep_largest(_scores(rows, gram, dampening), check_count(num_active, rows.numel()))
    solved = least_squares(rows, dampened(gram, dampening)[None], mask)
    return solution.make(weight, solved, mask, layer_error(solved - rows, gram))


def _scores(rows: Tensor, gram: Tensor, dampening: float) -> Tensor:
    """Return the scores in float64, -1 where the input is always zero, so that those go before all others."""
    inv = inverse(dampened(gram, dampening), name="input_gram")
    return torch.where(gram.diagonal() == 0, -1.0, rows.square() / inv.diagonal())
