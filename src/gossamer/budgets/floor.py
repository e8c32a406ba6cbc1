"""Floor: another budget, with a least number of weights for each tensor."""

from gossamer.budgets.budget import Budget, Shapes, Split, adapt, sizes_of
from gossamer.budgets.fill import proportional
from gossamer.counts import check_positive


def floor(budget: Budget, *, num_active: int) -> Budget:
    """Give each tensor at least `num_active` weights, or all it has; the others pay for it in proportion.

    Args:
        budget: splits the total; the result takes scores if it does.
        num_active: least number of weights of a tensor, >= 1.

    Returns:
        A budget with the same total.

    Raises:
        ValueError: num_active below 1; when called, a total that is too small for the floor.

    Example:
        >>> from gossamer.budgets import uniform
        >>> floor(uniform, num_active=30)({"a": (30, 20), "b": (10, 30), "c": (10, 10)}, sparsity=0.9)
        {'a': 40, 'b': 30, 'c': 30}

    Source:
        Tanaka, Kunin, Yamins, Ganguli. Pruning neural networks without any data by iteratively conserving synaptic
        flow. NeurIPS 2020, arXiv:2006.05467: no layer is to be emptied while the total allows otherwise.
        Differs: a floor for any budget; the paper has a score that needs none.
    """
    check_positive(num_active, name="num_active")

    def change(shapes: Shapes, sparsity: float, split: Split) -> dict[str, int]:
        parts = split(shapes, sparsity)
        sizes = sizes_of(shapes)
        total = sum(parts.values())
        least = [min(num_active, size) for size in sizes.values()]
        if sum(least) > total:
            raise ValueError(
                f"sparsity {sparsity} keeps {total} weights, {num_active} in each tensor takes {sum(least)}; "
                "lower the sparsity or the floor"
            )
        raised = proportional(total, [float(parts[name]) for name in sizes], least, list(sizes.values()))
        return dict(zip(sizes, raised, strict=True))

    return adapt(budget, change)
