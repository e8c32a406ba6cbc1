"""What the reparametrizations of a model say: which weights would stay, and what their penalties add up to."""

from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from gossamer.reparametrizations.finish import check_parametrized


def mask(module: nn.Module, name: str = "weight") -> Tensor:
    """Return which entries of a parametrized tensor would stay.

    Args:
        module: layer whose tensor is parametrized by one of this folder, and by nothing else.
        name: of the tensor.

    Returns:
        Bool, shape of the tensor, True = active.

    Raises:
        ValueError: that tensor is not parametrized, or by more or by something else.
    """
    check_parametrized(module, name)
    parts = _parametrizations(module)[name]
    found: Tensor = _only(parts, name).mask(parts.original)
    return found


def penalty(model: nn.Module) -> Tensor:
    """Return the sum of the penalties of all reparametrizations of a model that have one, a scalar with a gradient.

    Args:
        model: any module.

    Raises:
        ValueError: there is none, or another parametrization acts on the same tensor.
    """
    penalties = [
        _only(parts, name).penalty(parts.original)
        for module in model.modules()
        if parametrize.is_parametrized(module)
        for name, parts in _parametrizations(module).items()
        if any(hasattr(part, "penalty") for part in parts)
    ]
    if not penalties:
        raise ValueError(f"{type(model).__name__} has no reparametrization with a penalty; register one first")
    total: Tensor = sum(penalties[1:], start=penalties[0])
    return total


def _parametrizations(module: nn.Module) -> Any:
    return module.parametrizations


def _only(parts: Any, name: str) -> Any:
    """Return the one parametrization of a tensor."""
    if len(parts) != 1 or not hasattr(parts[0], "mask"):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise ValueError(
            f"{name} goes through {kinds}; one alone of gossamer.reparametrizations knows which weights stay: ask the "
            "parts themselves"
        )
    return parts[0]
