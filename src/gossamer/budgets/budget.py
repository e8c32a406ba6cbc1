"""What a budget is, and how one is made of another."""

import inspect
import math
from collections.abc import Callable, Mapping

from torch import Tensor

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Scores = Mapping[str, Tensor]

# (shapes by name, *, sparsity) -> number of active weights by name; some also take scores by name, as a keyword
Budget = Callable[..., dict[str, int]]
Split = Callable[[Shapes, float], dict[str, int]]


def sizes_of(shapes: Shapes) -> dict[str, int]:
    """Return the number of entries of each tensor.

    Args:
        shapes: shape of each weight by name.

    Example:
        >>> sizes_of({"a": (10, 20)})
        {'a': 200}
    """
    return {name: math.prod(shape) for name, shape in shapes.items()}


def takes_scores(budget: Budget) -> bool:
    """Return whether a budget must be given scores: it has a keyword of that name without a default.

    Args:
        budget: any callable.
    """
    asked = inspect.signature(budget).parameters.get("scores")
    return asked is not None and asked.default is inspect.Parameter.empty


def adapt(budget: Budget, change: Callable[[Shapes, float, Split], dict[str, int]]) -> Budget:
    """Return a budget that takes the arguments of another: a driver looks at their names.

    Args:
        budget: with or without scores.
        change: (shapes, sparsity, split) -> counts; `split(shapes, sparsity)` asks `budget`.
    """

    def without_scores(shapes: Shapes, *, sparsity: float) -> dict[str, int]:
        return change(shapes, sparsity, lambda part, rest: budget(part, sparsity=rest))

    def with_scores(shapes: Shapes, *, sparsity: float, scores: Scores) -> dict[str, int]:
        def split(part: Shapes, rest: float) -> dict[str, int]:
            return budget(part, sparsity=rest, scores={name: scores[name] for name in part if name in scores})

        return change(shapes, sparsity, split)

    return with_scores if takes_scores(budget) else without_scores


def check_names(given: Mapping[str, object], shapes: Shapes, *, what: str) -> None:
    """Raise unless there is a value for each tensor and for no other.

    Args:
        given: values by name.
        shapes: shape of each weight by name.
        what: what the error calls the values.

    Raises:
        ValueError: a name lacks, or is not that of a tensor.
    """
    if lacking := [name for name in shapes if name not in given]:
        raise ValueError(f"no {what} for {', '.join(lacking)}; give one for each of the {len(shapes)} tensors")
    if surplus := [name for name in given if name not in shapes]:
        raise ValueError(f"{what} for {', '.join(surplus)}, which is no tensor of the model; leave it out")
