"""Erdos-Renyi budgets: small tensors keep more, wide ones less."""

import math
from collections.abc import Callable, Mapping

from gossamer import counts

Shape = tuple[int, ...]


def er(shapes: Mapping[str, Shape], *, sparsity: float) -> dict[str, int]:
    """Split a total so that each density is in proportion to (n_in + n_out) / (n_in n_out).

    Args:
        shapes: shape of each weight by name, (n_out, n_in, ...); kernel axes scale all alike.
        sparsity: fraction removed over all tensors together, in [0, 1).

    Returns:
        How many weights each tensor keeps; the total is exact, and none keeps more than it has: a tensor whose share
        passes 1 is dense and the others share what is left. While there are enough to go round, each keeps one.

    Raises:
        ValueError: sparsity outside [0, 1).

    Example:
        >>> er({"a": (100, 100), "b": (10, 100)}, sparsity=0.8)
        {'a': 1419, 'b': 781}

    Source:
        Mocanu et al. 2018, arXiv:1707.04780; with the fixed total of Evci et al. 2020, arXiv:1911.11134.
    """
    return _proportional(shapes, sparsity, lambda shape: (shape[0] + shape[1]) / (shape[0] * shape[1]))


def erk(shapes: Mapping[str, Shape], *, sparsity: float) -> dict[str, int]:
    """Split a total so that each density is in proportion to (n_in + n_out + k_h + k_w) / (n_in n_out k_h k_w).

    Args:
        shapes: shape of each weight by name, (n_out, n_in) or (n_out, n_in, *kernel).
        sparsity: fraction removed over all tensors together, in [0, 1).

    Returns:
        How many weights each tensor keeps, as `er`; for linear weights the two are the same.

    Raises:
        ValueError: sparsity outside [0, 1).

    Example:
        >>> erk({"fc1": (300, 784), "fc2": (100, 300), "fc3": (10, 100)}, sparsity=0.9)
        {'fc1': 18714, 'fc2': 6906, 'fc3': 1000}

    Source:
        Evci, Gale, Menick, Castro, Elsen. Rigging the Lottery. ICML 2020, arXiv:1911.11134.
    """
    return _proportional(shapes, sparsity, lambda shape: sum(shape) / math.prod(shape))


def er_epsilon(shapes: Mapping[str, Shape], *, epsilon: float) -> dict[str, int]:
    """Give each tensor epsilon (n_in + n_out) weights, all of them if it has fewer.

    Args:
        shapes: shape of each weight by name, (n_out, n_in, ...).
        epsilon: connections for each neuron on either side, > 0; the SET paper uses 11 to 20.

    Returns:
        How many weights each tensor keeps.

    Raises:
        ValueError: epsilon is not a positive number.

    Example:
        >>> er_epsilon({"0": (1000, 784), "2": (10, 1000)}, epsilon=13)
        {'0': 23192, '2': 10000}

    Source:
        Mocanu et al. Scalable training of artificial neural networks with adaptive sparse connectivity inspired by
        network science. Nature Communications 2018, arXiv:1707.04780.
    """
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be a positive number, got {epsilon}; the SET paper uses 11 to 20")
    return {name: counts.nearest(epsilon * (shape[0] + shape[1]), math.prod(shape)) for name, shape in shapes.items()}


def _proportional(shapes: Mapping[str, Shape], sparsity: float, weight_of: Callable[[Shape], float]) -> dict[str, int]:
    """Split the total by density ~ weight_of(shape), dense where that passes 1, never less than one weight."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    total = counts.num_active(sum(sizes.values()), sparsity)
    wanted = {name: size * weight_of(shapes[name]) for name, size in sizes.items() if size}
    enough = total >= len(wanted)
    shares: dict[str, float] = {}
    while True:
        # A tensor that holds one weight more than its due takes it from the others: split again without it.
        rest = {name: share for name, share in wanted.items() if name not in shares}
        split = _capped(total - len(shares), rest, sizes)
        small = dict.fromkeys((name for name, share in split.items() if enough and share < 1.0), 1.0)
        shares |= small
        if not small:
            break
    shares |= split
    parts = counts.split(total, [shares.get(name, 0.0) for name in sizes], list(sizes.values()))
    return dict(zip(sizes, parts, strict=True))


def _capped(total: int, wanted: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
    """Split the total in proportion; a tensor whose share passes its size is dense and the others share the rest."""
    full: dict[str, float] = {}
    while True:
        rest = {name: share for name, share in wanted.items() if name not in full}
        scale = (total - sum(full.values())) / sum(rest.values()) if rest else 0.0
        more = {name: float(sizes[name]) for name, share in rest.items() if scale * share > sizes[name]}
        if not more:
            return full | {name: scale * share for name, share in rest.items()}
        full |= more
