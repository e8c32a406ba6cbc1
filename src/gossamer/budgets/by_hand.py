"""By hand: sparsities for some tensors by name, another budget for the rest."""

import difflib
import fnmatch
import re
from collections.abc import Mapping

from gossamer import counts
from gossamer.budgets.budget import Budget, Shapes, Split, adapt, sizes_of
from gossamer.budgets.fill import proportional
from gossamer.budgets.uniform import uniform


def by_hand(rules: Mapping[str, float], *, rest: Budget = uniform) -> Budget:
    """Fix the sparsity of the tensors that rules name; the rest meets the total of the model.

    Args:
        rules: sparsity by name. A name is a glob such as `layer1.*`, or `re:` and a regular expression for the whole
            name, `re:layer[12][.].*`. The first rule that matches a tensor counts.
        rest: splits what is left over the tensors that no rule matches; the result takes scores if it does.

    Returns:
        A budget. Its `sparsity` is that of the whole model, and the total is exact.

    Raises:
        ValueError: a sparsity outside [0, 1) or a regular expression that is none. When called: a rule without effect,
            or a total that the rest cannot meet.

    Example:
        >>> budget = by_hand({"fc1": 0.5, "re:fc[34]": 0.0})
        >>> budget({"fc1": (10, 10), "fc2": (20, 10), "fc3": (5, 4)}, sparsity=0.75)
        {'fc1': 50, 'fc2': 10, 'fc3': 20}

    Source:
        Han, Pool, Tran, Dally. Learning both Weights and Connections for Efficient Neural Networks. NIPS 2015,
        arXiv:1506.02626; there each layer has a threshold of its own.
    """
    matchers = {rule: _matcher(rule) for rule in rules}
    for sparsity in rules.values():
        counts.check_sparsity(sparsity)

    def change(shapes: Shapes, sparsity: float, split: Split) -> dict[str, int]:
        sizes = sizes_of(shapes)
        total = counts.num_active(sum(sizes.values()), sparsity)
        fixed = {name: rules[rule] for name, rule in _named(matchers, shapes).items()}
        found = {name: counts.num_active(sizes[name], fixed[name]) for name in fixed}
        others = {name: shape for name, shape in shapes.items() if name not in fixed}
        if any(sizes[name] for name in others):
            found |= _of_the_rest(others, total - sum(found.values()), sparsity, split)
        elif sum(found.values()) != total:
            found = _rounded_to(total, {name: sizes[name] for name in fixed}, fixed, sum(found.values()))
        return {name: found.get(name, 0) for name in shapes}

    return adapt(rest, change)


def _matcher(rule: str) -> re.Pattern[str]:
    try:
        return re.compile(rule.removeprefix("re:") if rule.startswith("re:") else fnmatch.translate(rule))
    except re.error as error:
        raise ValueError(f"{rule!r} is no regular expression: {error}; mend it, or leave out re: for a glob") from error


def _named(matchers: Mapping[str, re.Pattern[str]], shapes: Shapes) -> dict[str, str]:
    """The rule of each tensor that has one; a rule that has no tensor is an error."""
    named = {
        name: next(rule for rule, matcher in matchers.items() if matcher.fullmatch(name))
        for name in shapes
        if any(matcher.fullmatch(name) for matcher in matchers.values())
    }
    for rule, matcher in matchers.items():
        if rule in named.values():
            continue
        if any(matcher.fullmatch(name) for name in shapes):
            raise ValueError(f"rule {rule!r} matches only tensors that earlier rules take; put it before them")
        near = difflib.get_close_matches(rule.removeprefix("re:"), shapes, n=3, cutoff=0.0)
        raise ValueError(f"rule {rule!r} matches no tensor; the nearest names are {', '.join(near) or 'none'}")
    return named


def _rounded_to(total: int, sizes: Mapping[str, int], fixed: Mapping[str, float], found: int) -> dict[str, int]:
    """Counts that add up to the total where rules fix all tensors, each within a weight of what its rule says."""
    if abs(total - found) >= len(sizes):
        raise ValueError(
            f"the rules fix every tensor, which makes the sparsity "
            f"{counts.sparsity_of(found, sum(sizes.values())):.6g}; ask for that, or leave a tensor to the rest"
        )
    shares = [size * (1.0 - fixed[name]) for name, size in sizes.items()]
    return dict(zip(sizes, counts.split(total, shares, list(sizes.values())), strict=True))


def _of_the_rest(others: Shapes, missing: int, sparsity: float, split: Split) -> dict[str, int]:
    """The counts of the tensors without a rule, which add up to what the others leave."""
    sizes = sizes_of(others)
    entries, fewest = sum(sizes.values()), sum(size > 0 for size in sizes.values())
    if not fewest <= missing <= entries:
        raise ValueError(
            f"for sparsity {sparsity} the tensors without a rule would have to keep {missing} of their {entries} "
            f"weights, they can keep {fewest} to {entries}; change the rules or the sparsity"
        )
    parts = split(others, counts.sparsity_of(missing, entries))
    # A budget that rounds each tensor, such as uniform, may be a few weights off.
    least = [min(1, parts[name]) for name in sizes]
    exact = proportional(missing, [float(parts[name]) for name in sizes], least, list(sizes.values()))
    return dict(zip(sizes, exact, strict=True))
