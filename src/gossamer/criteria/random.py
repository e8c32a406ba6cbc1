"""Random: the baseline that every criterion has to beat."""

import torch
from torch import Tensor

from gossamer.elementwise import elementwise


@elementwise
def random(weight: Tensor, *, generator: torch.Generator) -> Tensor:
    """Score each weight by a draw of its own, whatever its value.

    score ~ U(0, 1)

    Args:
        weight: any shape [*]; only its shape and device are used.
        generator: source of randomness, on the CPU.

    Returns:
        Scores, shape [*], float32, in [0, 1); larger means keep.

    Example:
        >>> random(torch.zeros(2, 3), generator=torch.Generator()).shape
        torch.Size([2, 3])

    Source:
        Liu, Chen, Chen, Shen, Mocanu, Wang, Pechenizkiy. The Unreasonable Effectiveness of Random Pruning.
        ICLR 2022, arXiv:2202.02643.
    """
    return torch.rand(weight.shape, generator=generator, dtype=torch.float32, device="cpu").to(weight.device)
