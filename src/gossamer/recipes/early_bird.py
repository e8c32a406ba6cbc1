"""Early-bird tickets: stop the dense training when the mask that pruning would give has come to rest."""

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from gossamer import counts


@final
class EarlyBird:
    """Watch the masks that pruning would give, and say when they have come to rest.

    distance = entries in which two masks differ / entries

    Give it the masks once every pass over the data. It draws no masks itself: any criterion will do.

    Args:
        num_masks: how many masks before are compared with, >= 1.
        max_distance: the masks are at rest when each of these is nearer than this, in [0, 1].

    Raises:
        ValueError: a setting out of range.

    Example:
        >>> early_bird = EarlyBird(num_masks=2)
        >>> mask = torch.tensor([True, False, True])
        >>> [early_bird.update({"0.weight": mask}) for _ in range(3)]
        [False, False, True]

    Source:
        You et al. Drawing early-bird tickets: towards more efficient training of deep networks. ICLR 2020,
        arXiv:1909.11957.

    Cost: memory of num_masks bytes a weight.
    """

    def __init__(self, *, num_masks: int = 5, max_distance: float = 0.1) -> None:
        self.num_masks = counts.check_positive(num_masks, name="num_masks")
        self.max_distance = counts.check_fraction(max_distance, name="max_distance")
        self._seen: list[dict[str, Tensor]] = []

    def update(self, masks: Mapping[str, Tensor]) -> bool:
        """Take the masks of now and return whether they have come to rest.

        Args:
            masks: bool, by name; the same names and shapes each time.

        Returns:
            True when `num_masks` were seen before and each of these is nearer than `max_distance`.

        Raises:
            ValueError: other names or shapes than before, or a mask is not bool.
        """
        _check_masks(masks, self._seen[-1] if self._seen else masks)
        full = len(self._seen) == self.num_masks
        at_rest = full and all(_distance(masks, before) < self.max_distance for before in self._seen)
        self._seen = [*self._seen, {name: mask.clone() for name, mask in masks.items()}][-self.num_masks :]
        return at_rest

    def state_dict(self) -> dict[str, Any]:
        """Return the masks seen, oldest first."""
        return {"seen": [{name: mask.clone() for name, mask in masks.items()} for masks in self._seen]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state.

        Args:
            state: from `state_dict()`.

        Raises:
            ValueError: it holds more masks than this one compares with, or these are no masks of one model. Nothing is
                changed then.
        """
        if len(state["seen"]) > self.num_masks:
            raise ValueError(f"the state holds {len(state['seen'])} masks, num_masks is {self.num_masks}; use the same")
        for masks in state["seen"]:
            _check_masks(masks, state["seen"][0])
        self._seen = [{name: mask.clone() for name, mask in masks.items()} for masks in state["seen"]]


def _check_masks(masks: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> None:
    mine, theirs = ({name: tuple(mask.shape) for name, mask in each.items()} for each in (masks, before))
    if mine != theirs or not sum(mask.numel() for mask in masks.values()):
        raise ValueError(f"masks of {mine} after masks of {theirs}; give the same weights each time, one or more")
    for name, mask in masks.items():
        if mask.dtype != torch.bool:
            raise ValueError(f"{name} has dtype {mask.dtype}; a mask is bool, True = active")


def _distance(masks: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> float:
    differing = sum(int((mask ^ others[name].to(mask.device)).sum()) for name, mask in masks.items())
    return differing / sum(mask.numel() for mask in masks.values())
