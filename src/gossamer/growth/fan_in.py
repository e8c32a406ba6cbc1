"""Values for grown weights: as at the start, by the live fan-in."""

import torch
from torch import Tensor


def fan_in_uniform(rows: Tensor, fan_in: Tensor, *, generator: torch.Generator) -> Tensor:
    """Draw first values for weights: uniform in +-sqrt(6 / number of active inputs of the output they lead to).

    Args:
        rows: the output that each weight leads to, shape [n], int64.
        fan_in: number of active inputs of each output, shape [outputs].
        generator: source of randomness, on the CPU.

    Returns:
        Shape [n], float32.

    Example:
        >>> draws = fan_in_uniform(torch.zeros(1000, dtype=torch.long), torch.tensor([6]), generator=torch.Generator())
        >>> bool(draws.abs().max() <= 1)
        True

    Source:
        He, Zhang, Ren, Sun. Delving deep into rectifiers. ICCV 2015, arXiv:1502.01852.
        Differs: the live fan-in, not the size of the layer.
    """
    bound = (6.0 / fan_in.clamp(min=1).double()).sqrt()[rows]
    unit = torch.rand(rows.numel(), generator=generator, dtype=torch.float64, device="cpu").to(rows.device)
    return ((2.0 * unit - 1.0) * bound).float()
