"""The search among tiles: exact whatever the tiles, the sample, the room and the device's way of doing it."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer import growth
from gossamer.growth import search

from .test_gradient import brute_force, none_of, problems

Tiles = list[tuple[int, Tensor]]


class Sample:
    """Tiles with a sample that may have nothing to do with them."""

    def __init__(self, tiles: Tiles, sample: Tensor | None) -> None:
        self.tiles, self.entries = tiles, sample
        self.passes = 0

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        self.passes += 1
        return iter(self.tiles)

    def sample(self) -> Tensor | None:
        return self.entries


def cut(matrix: Tensor, rows: int, columns: int, order: int = 0) -> Tiles:
    """Cut a matrix into tiles that are narrower than it, in an order of their own."""
    starts = [(i, j) for i in range(0, matrix.shape[0], rows) for j in range(0, matrix.shape[1], columns)]
    found = [(i * matrix.shape[1] + j, matrix[i : i + rows, j : j + columns]) for i, j in starts]
    shuffled = torch.randperm(len(found), generator=torch.Generator().manual_seed(order)).tolist()
    return [found[place] for place in shuffled]


@settings(max_examples=150, deadline=None)
@given(
    problem=problems(),
    cuts=st.tuples(st.integers(1, 7), st.integers(1, 5), st.integers(0, 9)),
    sample=st.none() | st.lists(st.integers(-4, 4), max_size=30),
)
def test_the_best_are_those_of_a_full_sort_in_any_order_of_tiles_and_with_any_sample(
    problem: tuple[Tensor, Tensor, Tensor, Tensor, int], cuts: tuple[int, int, int], sample: list[int] | None
) -> None:
    gradient, *places, count = problem
    tiles = Sample(cut(gradient, *cuts), None if sample is None else torch.tensor(sample, dtype=torch.float32))

    assert growth.gradient(tiles, *places, count=count).tolist() == brute_force(*problem)


@pytest.mark.parametrize("levels", [2, 10, 10**6], ids=lambda levels: f"{levels} levels")
@pytest.mark.parametrize("count", [1, 100, 3000])
@pytest.mark.parametrize("rising", [False, True], ids=["even", "rising"])
def test_what_does_not_fit_the_room_is_thrown_away_and_only_that(
    levels: int, count: int, rising: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So little room that most candidates have to go, at the worst in a matrix that grows from row to row.
    monkeypatch.setattr(search, "_SPARE", 2048)
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randint(-levels, levels + 1, (120, 100), generator=generator).float()
    if rising:
        matrix *= torch.arange(1, 121)[:, None]
    kept = torch.arange(0, 12_000, 7)

    grown = growth.gradient(cut(matrix, 17, 33), kept, none_of(120), none_of(100), count=count)

    scores = matrix.abs().flatten().index_fill(0, kept, -1.0).numpy()
    order = np.lexsort((np.arange(scores.size), -scores))
    assert grown.tolist() == sorted(order[:count].tolist())


def test_a_sample_of_too_large_entries_costs_a_second_pass_and_nothing_else() -> None:
    matrix = torch.randn(60, 50, generator=torch.Generator().manual_seed(0))
    kept = torch.arange(0, 3000, 9)
    misleading, true = Sample([(0, matrix)], torch.full((100,), 50.0)), Sample([(0, matrix)], matrix[::2])
    found = [
        growth.gradient(tiles, kept, none_of(60), none_of(50), count=40).tolist()
        for tiles in ([(0, matrix)], misleading, true)
    ]

    assert found[0] == found[1] == found[2]
    assert (misleading.passes, true.passes) == (2, 1)


@settings(max_examples=60, deadline=None)
@given(problem=problems(), cuts=st.tuples(st.integers(1, 7), st.integers(1, 5), st.integers(0, 9)))
def test_plain_pytorch_finds_the_same(
    problem: tuple[Tensor, Tensor, Tensor, Tensor, int], cuts: tuple[int, int, int]
) -> None:
    gradient, kept, closed_rows, closed_columns, count = problem
    if count == 0:
        return
    best = search._Best(kept, closed_rows, closed_columns, count, bar=-1.0)
    for first, tile in cut(gradient, *cuts):
        assert best.offer_anywhere(first, tile)

    assert best.num_held == count
    assert sorted(best.indices.tolist()) == brute_force(*problem)


@pytest.mark.parametrize("closed", [False, True])
def test_plain_pytorch_sees_a_nan_too(closed: bool) -> None:
    best = search._Best(torch.tensor([0]), torch.tensor([closed]), none_of(3), 1, bar=-1.0)

    assert not best.offer_anywhere(0, torch.tensor([[1.0, float("nan"), 2.0]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_type_is_searched(dtype: torch.dtype) -> None:
    matrix = torch.arange(-6.0, 6.0).view(3, 4).to(dtype)

    assert growth.gradient([(0, matrix)], torch.tensor([0]), none_of(3), none_of(4), count=3).tolist() == [1, 2, 11]


def test_a_transposed_tile_is_read_as_it_is() -> None:
    matrix = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    kept = torch.arange(0, 1200, 5)
    strided = matrix.t().contiguous().t()

    found = [growth.momentum([(0, tile)], kept, none_of(40), none_of(30), count=50) for tile in (matrix, strided)]
    assert torch.equal(*found)
    with pytest.raises(ValueError, match="the momentum holds NaN"):
        growth.momentum([(0, strided.fill_(float("nan")))], kept, none_of(40), none_of(30), count=1)


def test_candidates_take_no_more_room_than_is_stated() -> None:
    best = search._Best(torch.empty(0, dtype=torch.int64), none_of(4000), none_of(4000), 100_000, bar=-1.0)

    assert best.scores.nbytes + best.indices.nbytes == 12 * (150_000 + 16_384)
