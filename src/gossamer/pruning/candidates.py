"""Which weights of a model are to be pruned, and whose they are."""

from collections.abc import Iterable

from torch import nn

from gossamer import patterns
from gossamer.pruning.cut import Weights
from gossamer.pruning.scores import keeps_rows_whole
from gossamer.weights import MaskedWeight, prunable


def to_prune(model: nn.Module, pattern: patterns.Pattern, include: Iterable[str], exclude: Iterable[str]) -> Weights:
    """Return the weights that are to be pruned, with the masks that their zeros make.

    Args:
        model: whose weights.
        pattern: the shape that masks take.
        include: glob patterns, or one.
        exclude: glob patterns, or one.

    Raises:
        ValueError: there is none, or one holds what is no finite number.
    """
    include = (include,) if isinstance(include, str) else tuple(include)
    weights = prunable(model, include=include, exclude=exclude, embeddings=True, frozen=True)
    if keeps_rows_whole(pattern, weights[-1].shape) and include == ("*",) and len(weights) > 1:
        # Its outputs are the model's own: a class without weights would never be right.
        weights = weights[:-1]
    for weight in weights:
        values = weight.parameter.detach()
        if not bool(values.isfinite().all()):
            raise ValueError(
                f"{weight.name} holds {int((~values.isfinite()).sum())} values that are NaN or infinite; nothing can "
                "be ranked by them: load a good checkpoint"
            )
        if isinstance(weight, MaskedWeight):
            weight.mask = weight.parameter.detach() != 0
    return weights


def owners_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the module of each parameter by name; a tied one belongs to the first."""
    return {
        f"{path}.{name}".lstrip("."): module
        for path, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }
