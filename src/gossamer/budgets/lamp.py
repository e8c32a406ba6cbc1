"""LAMP: magnitudes of all tensors compete, each weighed against what its own tensor would keep beside it."""

from collections.abc import Mapping

from torch import Tensor

from gossamer import counts, ranking
from gossamer.budgets.budget import sizes_of
from gossamer.budgets.threshold import check_scores, counts_of_largest


def lamp(shapes: Mapping[str, tuple[int, ...]], *, sparsity: float, scores: Mapping[str, Tensor]) -> dict[str, int]:
    """Give each tensor as many weights as it has among the largest LAMP scores of the whole model.

    With the magnitudes of a tensor in ascending order, w_1 <= w_2 <= ... <= w_n,

    lamp(u) = w_u^2 / (w_u^2 + w_(u+1)^2 + ... + w_n^2)

    The last one of each tensor has the value 1 and no other has, so no tensor is emptied while there is a weight for
    each.

    Args:
        shapes: shape of each weight by name.
        sparsity: fraction removed over all tensors together, in [0, 1).
        scores: magnitudes of each weight by name, as `criteria.magnitude` gives them: finite, >= 0; of its shape, or a
            vector for what is still there of it.

    Returns:
        How many weights each tensor keeps; the total is exact.

    Raises:
        ValueError: sparsity outside [0, 1), or scores that lack, have another shape, are NaN, infinite or negative.

    Example:
        >>> import torch
        >>> scores = {"a": torch.tensor([[100.0, 100.0]]), "b": torch.tensor([[1.0, 2.0]])}
        >>> lamp({"a": (1, 2), "b": (1, 2)}, sparsity=0.25, scores=scores)
        {'a': 2, 'b': 1}

    Source:
        Lee, Park, Mo, Ahn, Shin. Layer-adaptive Sparsity for the Magnitude-based Pruning. ICLR 2021, arXiv:2010.07611.

    Cost: one sort of each tensor; a float64 for each weight.
    """
    total = counts.num_active(sum(sizes_of(shapes).values()), sparsity)
    check_scores(shapes, scores)
    return counts_of_largest({name: _weighed(name, scores[name]) for name in shapes}, total)


def _weighed(name: str, magnitudes: Tensor) -> Tensor:
    """The LAMP scores of a tensor in ascending order, float64."""
    if bool((magnitudes < 0).any()) or bool(magnitudes.isinf().any()):
        raise ValueError(
            f"lamp needs finite magnitudes, the scores of {name} reach from {float(magnitudes.min()):.6g} to "
            f"{float(magnitudes.max()):.6g}; pass those of criteria.magnitude, or use global_ for other scores"
        )
    if ranking.has_nan(magnitudes):
        raise ValueError(
            f"{int(magnitudes.isnan().sum())} scores of {name} are NaN; scores must be numbers, check them"
        )
    squares = magnitudes.detach().flatten().double().sort().values.square()
    beside = squares.flip(0).cumsum(0).flip(0)
    weighed = squares / beside.where(beside > 0, 1.0)
    # By the equation, but for a tensor of zeros, where it says 0 / 0.
    weighed[-1:] = 1.0
    return weighed
