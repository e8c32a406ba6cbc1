"""Distillation: a pruned network learns from what the dense one says, not from the labels alone."""

import torch
from torch import Tensor
from torch.nn import functional as F


def distillation(outputs: Tensor, teacher_outputs: Tensor, *, temperature: float) -> Tensor:
    """Return how far the softened outputs are from those of the teacher.

    loss = T^2 * mean over samples of KL(softmax(teacher / T) || softmax(outputs / T))

    Add it to the loss of the labels: `(1 - share) * cross_entropy(outputs, targets) + share * distillation(...)`. The
    factor T^2 keeps the size of its gradient the same at every temperature.

    Args:
        outputs: of the network that learns, before softmax, shape [samples, classes].
        teacher_outputs: of the dense network for the same inputs, shape [samples, classes]; no gradient goes there.
        temperature: T > 0; the higher, the more the order of the unlikely classes counts.

    Returns:
        Shape [], not negative, dtype of the outputs but float32 at least.

    Raises:
        ValueError: the shapes differ, or the temperature is not positive.

    Example:
        >>> float(distillation(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]]), temperature=4.0))
        0.0

    Source:
        Hinton, Vinyals, Dean. Distilling the knowledge in a neural network. 2015, arXiv:1503.02531.
    """
    if outputs.shape != teacher_outputs.shape or outputs.dim() != 2:
        raise ValueError(
            f"outputs have shape {tuple(outputs.shape)}, the teacher's {tuple(teacher_outputs.shape)}; "
            "both must be [samples, classes]"
        )
    if not temperature > 0.0:
        raise ValueError(f"temperature must be above 0, got {temperature}; 4 is usual")
    wide = torch.promote_types(outputs.dtype, torch.float32)
    mine = F.log_softmax(outputs.to(wide) / temperature, dim=1)
    theirs = F.log_softmax(teacher_outputs.detach().to(wide) / temperature, dim=1)
    return temperature**2 * F.kl_div(mine, theirs, reduction="batchmean", log_target=True)
