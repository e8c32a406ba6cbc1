"""Global: all scores of the model compete with one another."""

from collections.abc import Mapping

from torch import Tensor

from gossamer import counts
from gossamer.budgets.budget import sizes_of
from gossamer.budgets.threshold import check_scores, counts_of_largest


def global_(shapes: Mapping[str, tuple[int, ...]], *, sparsity: float, scores: Mapping[str, Tensor]) -> dict[str, int]:
    """Give each tensor as many weights as it has among the largest scores of the whole model.

    Scores must be comparable between tensors. Nothing keeps a tensor from losing all its weights; `lamp` and `floor`
    do. Of equal scores those of the first tensors stay.

    Args:
        shapes: shape of each weight by name.
        sparsity: fraction removed over all tensors together, in [0, 1).
        scores: scores of each weight by name, larger = keep, no NaN; of its shape, or a vector for what is still there
            of it.

    Returns:
        How many weights each tensor keeps; the total is exact.

    Raises:
        ValueError: sparsity outside [0, 1), or scores that lack, have another shape or are NaN.

    Example:
        >>> import torch
        >>> scores = {"a": torch.tensor([[5.0, 1.0]]), "b": torch.tensor([[4.0, 3.0]])}
        >>> global_({"a": (1, 2), "b": (1, 2)}, sparsity=0.25, scores=scores)
        {'a': 1, 'b': 2}

    Source:
        See, Luong, Manning. Compression of Neural Machine Translation Models via Pruning. CoNLL 2016, arXiv:1606.09274;
        there called class-blind.

    Cost: O(n), a few passes over the scores without a sort.
    """
    total = counts.num_active(sum(sizes_of(shapes).values()), sparsity)
    check_scores(shapes, scores)
    return counts_of_largest({name: scores[name] for name in shapes}, total)
