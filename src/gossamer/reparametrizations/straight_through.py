"""Straight-through masks by learned scores: a fixed number of weights stays."""

from typing import Any, final

import torch
from torch import Tensor, nn

from gossamer.masks import keep_largest
from gossamer.penalties.precision import widened


@final
class StraightThrough(nn.Module):
    """Keep the weights with the `num_active` largest scores; the scores learn as if the mask were the scores.

    result = m * w, m = 1 for the largest scores, else 0
    dL/dw = dL/dresult and dL/ds = dL/dresult * w

    With weights that are trained it is movement pruning; with random ones that are not (`requires_grad_(False)`),
    edge-popup.

    Args:
        scores: first scores, shape of the weight, larger = keep; copied.
        num_active: how many weights stay, 0 <= num_active <= number of weights.

    Attributes:
        scores: learned, float32 unless they came as float64.
        num_active: how many stay; set by `set_num_active_`, saved with the scores.

    Raises:
        ValueError: num_active lies outside its range.

    Example:
        >>> part = StraightThrough(torch.tensor([0.1, 3.0, 2.0]), num_active=2)
        >>> part(torch.tensor([5.0, 6.0, 7.0])).tolist()
        [0.0, 6.0, 7.0]

    Source:
        Sanh, Wolf, Rush. Movement Pruning: Adaptive Sparsity by Fine-Tuning. NeurIPS 2020, arXiv:2005.07683.
        Ramanujan, Wortsman, Kembhavi, Farhadi, Rastegari. What's Hidden in a Randomly Weighted Neural Network? CVPR
        2020, arXiv:1911.13299. The estimator: Bengio, Leonard, Courville. 2013, arXiv:1308.3432.
        Differs: the gradient also reaches weights that are absent, as in dynamic pruning with feedback; both papers
        pass it to active weights alone, or to none.

    Cost: a selection among all scores each time the weight is read.
    """

    def __init__(self, scores: Tensor, *, num_active: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(widened(scores.detach()).clone())
        self.set_num_active_(num_active)

    def set_num_active_(self, num_active: int) -> None:
        """Keep this many weights from now on.

        Args:
            num_active: 0 <= num_active <= number of weights.

        Raises:
            ValueError: it lies outside its range.
        """
        if not 0 <= num_active <= self.scores.numel():
            raise ValueError(f"num_active must lie in [0, {self.scores.numel()}], got {num_active}; there are no more")
        self.num_active = int(num_active)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with zeros where the mask has them."""
        return select(weight, self.scores, self.mask(weight))

    def mask(self, weight: Tensor) -> Tensor:
        """Return which entries stay: bool, the weight's shape, exactly `num_active` of them."""
        check_same_shape(self.scores, weight)
        return keep_largest(self.scores, self.num_active)

    def get_extra_state(self) -> Tensor:
        """Return the number of active weights."""
        return torch.tensor(self.num_active)

    def set_extra_state(self, state: Tensor) -> None:
        """Set the number of active weights."""
        self.num_active = int(state)


def check_same_shape(scores: Tensor, weight: Tensor) -> None:
    """Raise unless there is one score for each weight.

    Args:
        scores: any shape.
        weight: shape of the scores.

    Raises:
        ValueError: the shapes differ.
    """
    if scores.shape != weight.shape:
        raise ValueError(f"scores have shape {tuple(scores.shape)}, weight {tuple(weight.shape)}; they must agree")


def select(weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Return the weight where the mask is True, else 0; backward, the mask counts as open and as equal to the scores.

    Args:
        weight: shape [*].
        scores: shape [*]; only its gradient matters.
        mask: bool, shape [*].

    Example:
        >>> weight, scores = torch.tensor([2.0, 3.0], requires_grad=True), torch.tensor([0.0, 1.0], requires_grad=True)
        >>> select(weight, scores, scores > 0.5).sum().backward()
        >>> weight.grad, scores.grad
        (tensor([1., 1.]), tensor([2., 3.]))
    """
    selected: Tensor = _Select.apply(weight, scores, mask)  # type: ignore[no-untyped-call]
    return selected


class _Select(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return torch.where(mask, weight, 0.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (weight,) = ctx.saved_tensors
        return gradient, widened(gradient) * widened(weight), None
