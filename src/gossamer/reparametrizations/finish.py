"""The end of training with a reparametrization: the values in eval mode become the parameter."""

from typing import Any

from torch import nn
from torch.nn.utils import parametrize


def finish_(module: nn.Module, name: str = "weight") -> None:
    """Replace a parametrized tensor by its value in eval mode, and remove what was learned beside it.

    The parameter stays the same object, so that an optimizer keeps it; its zeros are exact, so that
    `gossamer.to_sparse(model)` can follow. Nothing holds them at zero if training goes on.

    Args:
        module: layer whose tensor is parametrized.
        name: of the tensor.

    Raises:
        ValueError: that tensor is not parametrized.

    Example:
        >>> from gossamer.reparametrizations import SoftThreshold
        >>> layer = nn.Linear(3, 2)
        >>> layer = parametrize.register_parametrization(layer, "weight", SoftThreshold(raw_threshold=3.0))
        >>> finish_(layer)
        >>> type(layer).__name__, int(layer.weight.count_nonzero())
        ('Linear', 0)
    """
    check_parametrized(module, name)
    parts: Any = module.parametrizations
    parts[name].eval()
    parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    getattr(module, name).grad = None


def check_parametrized(module: nn.Module, name: str) -> None:
    """Raise unless a tensor of a module is parametrized.

    Args:
        module: any module.
        name: of the tensor.

    Raises:
        ValueError: it is not.
    """
    if not parametrize.is_parametrized(module, name):
        raise ValueError(
            f"{name} of {type(module).__name__} is not parametrized; pass the layer on which register_parametrization "
            "was called"
        )
