"""Boolean masks, True = active, and the one way in which entries are selected."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gossamer import ranking, sampling


def keep_largest(scores: Tensor, count: int, *, competes: Tensor | None = None) -> Tensor:
    """Mark the `count` largest scores; equal scores are taken in order of their place.

    Args:
        scores: any shape [*], larger = keep, no NaN.
        count: how many to mark, 0 <= count <= number of competitors.
        competes: bool, shape [*]; entries that may be marked. Default: all.

    Returns:
        Mask, bool, shape [*], with exactly `count` entries True.

    Raises:
        ValueError: a score is NaN, fewer than `count` entries compete, or `competes` has another shape.

    Cost: O(n) selection, no full sort.

    Example:
        >>> keep_largest(torch.tensor([1.0, 3.0, 3.0, 3.0]), 2)
        tensor([False,  True,  True, False])
    """
    if competes is not None and competes.shape != scores.shape:
        raise ValueError(
            f"competes has shape {tuple(competes.shape)}, the scores {tuple(scores.shape)}; pass one shape"
        )
    flat = scores.detach().flatten()
    ranked = flat if competes is None else ranking.taken(flat, competes.flatten())
    if not 0 <= count <= ranked.numel():
        raise ValueError(f"cannot keep {count} of {ranked.numel()} competing entries; ask for fewer")
    chosen = _marked({"": ranked}, count)[""]
    if competes is not None:
        chosen = ranking.spread(chosen, competes.flatten())
    return chosen.view(scores.shape)


def keep_largest_of(scores: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Mark the `count` largest scores of several tensors together; of equal ones those of the first tensors.

    Args:
        scores: of any shapes, larger = keep, no NaN.
        count: how many to mark, 0 <= count <= number of scores.

    Returns:
        Masks by name, bool, of their shapes, with `count` entries True in all.

    Raises:
        ValueError: a score is NaN.

    Cost: O(n) selection, no full sort; one search for all tensors.

    Example:
        >>> keep_largest_of({"a": torch.tensor([5.0, 1.0]), "b": torch.tensor([3.0])}, 2)
        {'a': tensor([ True, False]), 'b': tensor([True])}
    """
    dtype = torch.float64 if any(part.dtype == torch.float64 for part in scores.values()) else torch.float32
    return _marked({name: part.detach().to(dtype) for name, part in scores.items()}, count)


def largest(scores: Tensor, count: int) -> Tensor:
    """Return the places of the `count` largest of a vector in ascending order; ties go to the lower place.

    Args:
        scores: shape [n], no NaN.
        count: 0 <= count <= n.

    Returns:
        Places, shape [count], int64, ascending.

    Cost: O(n) selection, no full sort.

    Example:
        >>> largest(torch.tensor([5.0, 1.0, 5.0, 5.0]), 2)
        tensor([0, 2])
    """
    return _marked({"": scores}, count)[""].nonzero().flatten()


def _marked(parts: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Mark exactly `count`: every entry above the threshold, then the first ones that equal it."""
    threshold = ranking.kth_largest(list(parts.values()), count) if count else torch.tensor(torch.inf, device="cpu")
    marked = {name: torch.empty(part.shape, dtype=torch.bool, device=part.device) for name, part in parts.items()}
    found = {name: ranking.beside(part, threshold, marked=marked[name]) for name, part in parts.items()}
    for name, (_, _, unclear) in found.items():
        if unclear:
            whose = f" of {name}" if name else ""
            raise ValueError(f"{unclear} scores{whose} are NaN; scores must be numbers, check data and loss")
    missing = count - sum(above for above, _, _ in found.values())
    for name, (_, equal, _) in found.items():
        kept = min(missing, equal)
        if kept < equal:
            ties = (parts[name].flatten() == threshold).nonzero().flatten()
            marked[name].view(-1)[ties[kept:]] = False
        missing -= kept
    return marked


def overlap(mask: Tensor, other: Tensor) -> int:
    """Return how many entries are active in both masks.

    Args:
        mask: bool, shape [*].
        other: bool, shape [*].

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> overlap(torch.tensor([True, True, False]), torch.tensor([True, False, False]))
        1
    """
    if mask.shape != other.shape:
        raise ValueError(f"masks have shapes {tuple(mask.shape)} and {tuple(other.shape)}; compare masks of one weight")
    return int((mask & other).sum())


def draw(shape: tuple[int, ...], num_active: int, *, generator: torch.Generator) -> Tensor:
    """Draw a mask with exactly `num_active` entries True, every such mask equally likely.

    Args:
        shape: of the mask.
        num_active: how many entries are True, at most as many as there are.
        generator: source of randomness, on the CPU.

    Returns:
        Mask, bool, of that shape, on the CPU.

    Raises:
        ValueError: more active entries than entries.

    Example:
        >>> int(draw((4, 5), 7, generator=torch.Generator()).sum())
        7
    """
    mask = torch.zeros(shape, dtype=torch.bool, device="cpu")
    mask.view(-1)[sampling.distinct(mask.numel(), num_active, generator=generator)] = True
    return mask


def fan_in_scale(mask: Tensor) -> Tensor:
    """Return sqrt(fan-in / live fan-in) of each output: what keeps the scale of the signal when weights are removed.

    Args:
        mask: bool, shape [out, in, ...].

    Returns:
        Shape [out, 1, ...], float64; 1 for an output with no live input.

    Example:
        >>> fan_in_scale(torch.tensor([[True, False, False, False]]))
        tensor([[2.]], dtype=torch.float64)
    """
    live = mask.flatten(1).sum(1)
    scale = (mask.flatten(1).shape[1] / live.clamp(min=1).double()).sqrt()
    return torch.where(live > 0, scale, 1.0).view(-1, *[1] * (mask.dim() - 1))
