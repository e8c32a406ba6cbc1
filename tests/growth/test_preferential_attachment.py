"""The rule against its definition, written out over all entries of a small weight."""

import itertools
from collections import Counter, defaultdict

import pytest
import torch
from torch import Tensor

from gossamer import growth


def chances(kept: Tensor, closed_rows: Tensor, closed_columns: Tensor) -> dict[int, float]:
    """Return (d_i + 1) (e_j + 1) of every absent entry, in proportion."""
    mask = torch.zeros(closed_rows.numel(), closed_columns.numel(), dtype=torch.float64)
    mask.view(-1)[kept] = 1.0
    is_open = ~closed_rows[:, None] & ~closed_columns
    mask *= is_open
    weights = torch.outer(mask.sum(1) + 1, mask.sum(0) + 1) * is_open * (1 - mask)
    found = (weights / weights.sum()).flatten()
    return {place: float(found[place]) for place in found.nonzero().flatten().tolist()}


def in_turn(chance: dict[int, float], count: int) -> dict[tuple[int, ...], float]:
    """Return the probability of each set that `count` draws without replacement leave."""
    found: defaultdict[tuple[int, ...], float] = defaultdict(float)
    for order in itertools.permutations(chance, count):
        probability, left = 1.0, 1.0
        for place in order:
            probability *= chance[place] / left
            left -= chance[place]
        found[tuple(sorted(order))] += probability
    return dict(found)


def flags(size: int, *closed: int) -> Tensor:
    return torch.zeros(size, dtype=torch.bool).index_fill_(0, torch.tensor(closed, dtype=torch.int64), True)


# Chi-square of so many degrees of freedom is passed once in a thousand.
LIMITS = {1: 10.9, 2: 13.8, 5: 20.5, 7: 24.3, 9: 27.9, 20: 45.3, 27: 55.5}


@pytest.mark.parametrize(
    ("kept", "closed_rows", "closed_columns", "count"),
    [
        pytest.param([0, 1, 2, 4], flags(3), flags(4), 1, id="one, where most is absent"),
        pytest.param([0, 1, 2, 4], flags(3), flags(4), 2, id="two in turn"),
        pytest.param([0, 1, 2, 4, 6, 7, 8], flags(3), flags(3), 1, id="nearly full"),
        pytest.param([0, 1, 3, 6, 9, 10], flags(4, 2), flags(4, 1), 1, id="closed lines, kept entries in them"),
        pytest.param([], flags(2), flags(3), 1, id="empty"),
        pytest.param([0, 1, 2, 4], flags(3), flags(4), 6, id="nearly all"),
    ],
)
def test_sets_come_as_often_as_draws_in_turn_would_bring_them(
    kept: list[int], closed_rows: Tensor, closed_columns: Tensor, count: int
) -> None:
    expected = in_turn(chances(torch.tensor(kept, dtype=torch.int64), closed_rows, closed_columns), count)
    generator = torch.Generator().manual_seed(0)
    draws = 3000
    seen: Counter[tuple[int, ...]] = Counter()
    for _ in range(draws):
        grown = growth.preferential_attachment(
            torch.tensor(kept, dtype=torch.int64), closed_rows, closed_columns, count=count, generator=generator
        )
        seen[tuple(grown.tolist())] += 1

    assert set(seen) <= set(expected)
    statistic = sum((seen[chosen] - draws * p) ** 2 / (draws * p) for chosen, p in expected.items())
    assert statistic < LIMITS[len(expected) - 1]


def test_well_connected_neurons_gain_most() -> None:
    # Row 0 and column 0 hold all weights of a 100 x 100 layer.
    kept = torch.cat([torch.arange(0, 60), torch.arange(100, 6000, 100)])

    grown = growth.preferential_attachment(
        kept, flags(100), flags(100), count=400, generator=torch.Generator().manual_seed(0)
    )

    # 80 of 9,881 absent entries lie there: row 0 has 40 of a chance of 61 each, column 0 too, and all others together
    # (59 * 2 + 40)^2. Of 400 draws one in six goes there, fewer as places are taken.
    found = int(((grown < 100) | (grown % 100 == 0)).sum())
    assert 40 <= found <= 80


def test_a_layer_of_ten_billion_entries_with_one_full_row_grows_in_an_instant() -> None:
    # Most of the mass of draws by degree alone lies in the row that has no room left.
    kept = torch.cat([torch.arange(0, 100_000), torch.arange(10**9, 10**10, 10**8)])

    grown = growth.preferential_attachment(
        kept, flags(100_000), flags(100_000), count=1000, generator=torch.Generator().manual_seed(0)
    )

    assert grown.unique().numel() == 1000
    assert not torch.isin(grown, kept).any()
