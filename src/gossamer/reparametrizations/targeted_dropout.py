"""Targeted dropout: drop the small weights at random in training, so that it does no harm to drop them for good."""

from typing import final

import torch
from torch import Tensor, nn

from gossamer import counts


@final
class TargetedDropout(nn.Module):
    """Set the smallest weights of each output row to zero: each with a probability in training, all in eval mode.

    Args:
        sparsity: fraction of each row that is among the smallest, in [0, 1).
        drop_probability: with which each of them is zero in training, in [0, 1].
        generator: source of randomness; its state is saved with the model.

    Raises:
        ValueError: sparsity or drop_probability lies outside its range.

    Example:
        >>> part = TargetedDropout(sparsity=0.5, drop_probability=0.5, generator=torch.Generator()).eval()
        >>> part(torch.tensor([[4.0, -1.0, 2.0, -3.0]])).tolist()
        [[4.0, 0.0, 0.0, -3.0]]

    Source:
        Gomez, Zhang, Kamalakara, Madaan, Swersky, Gal, Hinton. Learning Sparse Networks Using Targeted Dropout. 2019,
        arXiv:1905.13678.
        Differs: equal magnitudes are ordered by their place, so that each row keeps the same number.

    Cost: a sort of each row each time the weight is read.
    """

    def __init__(self, *, sparsity: float, drop_probability: float, generator: torch.Generator) -> None:
        super().__init__()
        self._sparsity = counts.check_sparsity(sparsity)
        self._drop_probability = counts.check_fraction(drop_probability, name="drop_probability")
        self._generator = generator

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with zeros among the smallest of each row."""
        dropped = ~self.mask(weight)
        if self.training:
            chance = torch.rand(weight.shape, generator=self._generator, device=self._generator.device)
            dropped &= (chance < self._drop_probability).to(weight.device)
        return torch.where(dropped, 0.0, weight)

    def mask(self, weight: Tensor) -> Tensor:
        """Return which entries stay: bool, the weight's shape; the largest magnitudes of each row.

        Raises:
            ValueError: the weight has fewer than two axes.
        """
        if weight.dim() < 2:
            raise ValueError(f"weight has shape {tuple(weight.shape)}; it needs rows: two axes or more")
        rows = weight.detach().flatten(1)
        count = counts.num_active(rows.shape[1], self._sparsity)
        order = rows.abs().argsort(dim=1, descending=True, stable=True)
        mask = torch.zeros_like(rows, dtype=torch.bool).scatter_(1, order[:, :count], True)
        return mask.view(weight.shape)

    def get_extra_state(self) -> Tensor:
        """Return the generator's state, so that a resumed training draws what the other would have drawn."""
        return self._generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Set the generator's state."""
        self._generator.set_state(state.cpu())
