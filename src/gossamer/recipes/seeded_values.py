"""Weights that stand at first values which nobody stores: they are drawn anew from a seed whenever they are read."""

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gossamer.recipes.untraced import untraced
from gossamer.reparametrizations import finish_
from gossamer.weights.undo import write_


@final
class SeededValues(nn.Module):
    """Read a weight that is zero where it was never tracked as its first value there, and as it is elsewhere.

    result = w where w is not 0, else factor * scale * u,  u uniform in +-sqrt(3) by the seed

    Backward, every entry gets the gradient of the result.

    Args:
        seed: of the first values, in [0, 2^63).
        scale: their root mean square.
        decay: by which `decay_` multiplies the factor, in [0, 1].

    Attributes:
        seed, scale, num_decays: tensors, saved with the model.
    """

    seed: Tensor
    scale: Tensor
    num_decays: Tensor

    def __init__(self, seed: int, scale: float, *, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self.register_buffer("seed", torch.tensor(seed))
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("num_decays", torch.tensor(0))

    @property
    def factor(self) -> float:
        """What is left of the first values, in [0, 1]."""
        return self._decay ** int(self.num_decays) if self.num_decays >= 0 else 0.0

    def decay_(self) -> None:
        """Make the first values smaller by the factor once."""
        write_(self.num_decays, self.num_decays + int(self.num_decays >= 0))

    def end_(self) -> None:
        """Make the first values zero for good."""
        write_(self.num_decays, -1)

    def first(self, weight: Tensor) -> Tensor:
        """Return the first values as they stand now, of the shape, type and device of the weight."""
        if not self.factor:
            return torch.zeros_like(weight)
        generator = torch.Generator().manual_seed(int(self.seed))
        unit = torch.rand(weight.shape, generator=generator, dtype=torch.float32, device="cpu")
        size = self.factor * float(self.scale) * math.sqrt(3.0)
        return ((2.0 * unit - 1.0) * size).to(weight)

    # What is left of the first values is a number of this run, not of the compiled graph.
    @untraced
    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with its first values where it is zero."""
        if not self.factor:
            return weight
        return weight + self.first(weight.detach()).masked_fill(weight.detach() != 0, 0.0)


def finish_seeded_(model: nn.Module) -> None:
    """Leave plain weights in the layers of a model whose weights stand at seeded values; others stay as they are."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parts = module.get_submodule("parametrizations.weight").children()
            if any(isinstance(part, SeededValues) for part in parts):
                finish_(module)
