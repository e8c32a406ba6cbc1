import torch

from gossamer import growth


def test_every_open_absent_entry_is_as_likely_as_any_other() -> None:
    closed_rows = torch.tensor([False, False, True, False, False])
    closed_columns = torch.tensor([False, True, False, False])
    kept = torch.tensor([0, 6, 15, 18])
    generator = torch.Generator().manual_seed(0)
    seen = torch.zeros(20)
    for _ in range(3000):
        seen[growth.random(kept, closed_rows, closed_columns, count=3, generator=generator)] += 1
    absent = torch.tensor([2, 3, 4, 7, 12, 14, 16, 19])

    # Inclusion of 3 in 8 without replacement: p = 3/8, and the 8 counts add up, so 7 degrees of freedom.
    expected, variance = 3000 * 3 / 8, 3000 * 3 / 8 * 5 / 8
    statistic = float(((seen[absent] - expected) ** 2).sum() / variance * 7 / 8)
    assert int(seen.sum()) == int(seen[absent].sum()) == 9000
    # chi-square with 7 degrees of freedom: 24.3 is passed once in a thousand
    assert statistic < 24.3


def test_closed_lines_leave_one_place() -> None:
    closed_rows, closed_columns = torch.tensor([True, False, True]), torch.tensor([False, True, False])

    grown = growth.random(torch.tensor([3]), closed_rows, closed_columns, count=1, generator=torch.Generator())

    assert grown.tolist() == [5]


def test_a_weight_too_large_to_list_grows_in_an_instant() -> None:
    open_lines = torch.zeros(100_000, dtype=torch.bool)
    kept = torch.arange(0, 10**10, 10**8)

    grown = growth.random(kept, open_lines, open_lines, count=100, generator=torch.Generator().manual_seed(0))

    assert grown.unique().numel() == 100
    assert not torch.isin(grown, kept).any()
