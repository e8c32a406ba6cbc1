import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from gossamer import topology
from gossamer.topology import Topology

_FEW = settings(deadline=None, max_examples=60, derandomize=True)
_SIZES = st.tuples(st.integers(0, 9), st.integers(0, 9))
_MASKS = {
    "ragged": torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1]]).bool(),
    "empty row and column": torch.tensor([[0, 1, 1], [0, 0, 0], [0, 1, 0]]).bool(),
    "nothing": torch.zeros(3, 4).bool(),
    "everything": torch.ones(3, 4).bool(),
    "one full row": torch.tensor([[0, 0, 0], [1, 1, 1], [0, 0, 0]]).bool(),
    "one full column": torch.tensor([[0, 1, 0], [0, 1, 0]]).bool(),
    "no rows": torch.zeros(0, 4).bool(),
    "no columns": torch.zeros(4, 0).bool(),
    "neither": torch.zeros(0, 0).bool(),
    "one entry": torch.ones(1, 1).bool(),
    "one row": torch.tensor([[1, 0, 1]]).bool(),
    "one column": torch.tensor([[1], [0], [1]]).bool(),
}


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _random_mask(shape: tuple[int, int], density: float, seed: int) -> Tensor:
    return torch.rand(shape, generator=_generator(seed)) < density


def _wide(places: Topology) -> Topology:
    return Topology(places.shape, places.row_pointers.long(), places.column_indices.long())


def _check_transpose(places: Topology) -> None:
    """SciPy carries the place of each entry through its own transposition."""
    arrays = (np.arange(places.num_active), places.column_indices.numpy(), places.row_pointers.numpy())
    expected = scipy.sparse.csr_array(arrays, shape=places.shape).tocsc()
    found = topology.transpose(places)

    assert found.column_pointers.tolist() == expected.indptr.tolist()
    assert found.row_indices.tolist() == expected.indices.tolist()
    assert found.permutation.tolist() == expected.data.tolist()
    assert {part.dtype for part in found} == {places.column_indices.dtype}


def test_a_small_matrix_worked_by_hand() -> None:
    places = topology.from_mask(torch.tensor([[0.0, -2.0, 0.0], [0.0, 0.0, 0.0], [math.nan, 0.0, 1e-40]]))

    assert places.shape == (3, 3)
    assert places.num_active == 3
    assert places.row_pointers.tolist() == [0, 1, 1, 3]
    assert places.column_indices.tolist() == [1, 0, 2]
    assert topology.linear_indices(places).tolist() == [1, 6, 8]
    assert topology.row_indices(places).tolist() == [0, 2, 2]


def test_a_small_transpose_worked_by_hand() -> None:
    found = topology.transpose(topology.from_mask(torch.tensor([[0, 1, 1], [1, 0, 1]])))

    assert found.column_pointers.tolist() == [0, 1, 2, 4]
    assert found.row_indices.tolist() == [1, 0, 0, 1]
    assert found.permutation.tolist() == [2, 0, 1, 3]


@pytest.mark.parametrize("mask", _MASKS.values(), ids=_MASKS.keys())
def test_a_mask_comes_back_from_its_topology(mask: Tensor) -> None:
    places = topology.from_mask(mask)
    topology.check_topology(places)

    assert torch.equal(topology.to_mask(places), mask)
    assert places.num_active == int(mask.sum())
    assert places.row_pointers.shape == (mask.shape[0] + 1,)


@pytest.mark.parametrize("mask", _MASKS.values(), ids=_MASKS.keys())
def test_the_transpose_equals_that_of_scipy(mask: Tensor) -> None:
    _check_transpose(topology.from_mask(mask))


@pytest.mark.parametrize("mask", _MASKS.values(), ids=_MASKS.keys())
def test_indices_of_64_bits_give_the_same(mask: Tensor) -> None:
    places = topology.from_mask(mask)
    wide = _wide(places)
    topology.check_topology(wide)
    _check_transpose(wide)

    assert torch.equal(topology.linear_indices(wide), topology.linear_indices(places))
    assert torch.equal(topology.to_mask(wide), mask)
    assert topology.fingerprint(wide) == topology.fingerprint(places)


@_FEW
@given(_SIZES, st.floats(0, 1), st.integers(0, 2**31))
def test_mask_topology_and_linear_indices_go_round(shape: tuple[int, int], density: float, seed: int) -> None:
    mask = _random_mask(shape, density, seed)
    places = topology.from_mask(mask)
    linear = topology.linear_indices(places)
    again = topology.from_linear(linear, shape)
    topology.check_topology(again)
    _check_transpose(again)

    assert linear.dtype == torch.int64
    assert linear.tolist() == mask.flatten().nonzero().flatten().tolist()
    assert torch.equal(again.row_pointers, places.row_pointers)
    assert torch.equal(again.column_indices, places.column_indices)


@pytest.mark.parametrize("mask", [_MASKS["ragged"].t(), _MASKS["ragged"][:, ::2], _MASKS["one row"].expand(3, 3)])
def test_a_mask_need_not_be_contiguous(mask: Tensor) -> None:
    assert torch.equal(topology.to_mask(topology.from_mask(mask)), mask)


@pytest.mark.parametrize("shape", [(4,), (), (2, 2, 2)])
def test_a_mask_that_is_no_matrix_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a topology describes a matrix, got shape \("):
        topology.from_mask(torch.ones(shape))


@pytest.mark.parametrize("linear", [[-1, 2], [0, 6], [2, 1], [0, 3, 3], [6]])
def test_linear_indices_that_do_not_ascend_in_range_are_refused(linear: list[int]) -> None:
    with pytest.raises(ValueError, match=rf"run from {linear[0]} to {linear[-1]}; .* \[0, 6\) for a 2 x 3 weight"):
        topology.from_linear(torch.tensor(linear), (2, 3))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_an_entry_in_a_matrix_without_places_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="linear indices run from 0 to 0"):
        topology.from_linear(torch.tensor([0]), shape)


@pytest.mark.parametrize("shape", [(-1, 5), (5, -1), (-2, -3)])
def test_a_negative_size_is_refused_by_value(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"cannot have shape \({shape[0]}, {shape[1]}\)"):
        topology.erdos_renyi(shape, 0, generator=_generator())


@pytest.mark.parametrize(
    ("shape", "num_active", "expected"),
    [
        ((2**31 - 1, 1), 0, torch.int32),
        ((1, 2**31 - 1), 2**31 - 1, torch.int32),
        ((2**31, 1), 0, torch.int64),
        ((1, 2**31), 0, torch.int64),
        ((2**20, 2**20), 2**31, torch.int64),
        ((2**20, 2**20), 2**31 - 1, torch.int32),
        ((0, 0), 0, torch.int32),
    ],
)
def test_an_index_takes_64_bits_only_where_it_must(
    shape: tuple[int, int], num_active: int, expected: torch.dtype
) -> None:
    assert topology.index_dtype(shape, num_active) == expected


def test_places_beyond_32_bits_are_kept_with_narrow_indices() -> None:
    linear = torch.tensor([0, 2**31, 2**32 + 5, 65_536 * 65_536 * 2 - 1])
    places = topology.from_linear(linear, (131_072, 65_536))
    topology.check_topology(places)

    assert places.column_indices.dtype == torch.int32
    assert torch.equal(topology.linear_indices(places), linear)


def test_columns_beyond_32_bits_take_wide_indices() -> None:
    linear = torch.tensor([5, 2**32 + 1, 2**33 + 2**32 + 7])
    places = topology.from_linear(linear, (2, 2**33))
    topology.check_topology(places)

    assert places.column_indices.dtype == places.row_pointers.dtype == torch.int64
    assert places.column_indices.tolist() == [5, 2**32 + 1, 2**32 + 7]
    assert torch.equal(topology.linear_indices(places), linear)


@pytest.mark.parametrize("num_active", [0, 1, 11, 12, 23, 24])
def test_a_random_topology_has_exactly_its_count(num_active: int) -> None:
    places = topology.erdos_renyi((4, 6), num_active, generator=_generator())
    topology.check_topology(places)

    assert places.num_active == num_active == int(topology.to_mask(places).sum())


def test_more_entries_than_places_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot draw 10 different entries out of 9"):
        topology.erdos_renyi((3, 3), 10, generator=_generator())


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot draw -1 different entries out of 9"):
        topology.erdos_renyi((3, 3), -1, generator=_generator())


def test_a_random_topology_favours_no_place() -> None:
    generator = _generator(3)
    hits = torch.zeros(3, 4)

    for _ in range(200):
        hits += topology.to_mask(topology.erdos_renyi((3, 4), 5, generator=generator))

    # Entries of one draw exclude each other, which only makes the statistic smaller.
    assert chisquare(hits.flatten().numpy()).pvalue > 1e-3


def test_the_seed_decides_the_topology() -> None:
    one, again, other = (topology.erdos_renyi((9, 9), 20, generator=_generator(seed)) for seed in (0, 0, 1))

    assert topology.fingerprint(one) == topology.fingerprint(again) != topology.fingerprint(other)


def _ints(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


_GOOD = (_ints(0, 2, 2, 3), _ints(0, 3, 1))
_CORRUPT = {
    "too few pointers": (_ints(0, 2, 3), _GOOD[1]),
    "too many pointers": (_ints(0, 2, 2, 3, 3), _GOOD[1]),
    "pointers as a matrix": (_GOOD[0][None], _GOOD[1]),
    "a first pointer that is not 0": (_ints(1, 2, 2, 3), _GOOD[1]),
    "a last pointer past the end": (_ints(0, 2, 2, 4), _GOOD[1]),
    "a last pointer before the end": (_ints(0, 2, 2, 2), _GOOD[1]),
    "pointers that fall": (_ints(0, 3, 2, 3), _GOOD[1]),
    "a negative pointer": (_ints(0, -1, 2, 3), _GOOD[1]),
    "pointers whose differences wrap around": (_ints(0, 2**31 - 1, -2, 3), _GOOD[1]),
    "pointers of one byte": (torch.tensor([0, 3, 1, 3], dtype=torch.uint8), _GOOD[1]),
    "pointers that are no integers": (torch.tensor([0.0, 1.5, 2.0, 3.0]), _GOOD[1]),
    "a pointer that is no number": (torch.tensor([0.0, math.nan, 2.0, 3.0]), _GOOD[1]),
    "a negative column": (_GOOD[0], _ints(-1, 3, 1)),
    "a column past the end": (_GOOD[0], _ints(0, 4, 1)),
    "columns out of order": (_GOOD[0], _ints(3, 0, 1)),
    "a column twice in a row": (_GOOD[0], _ints(3, 3, 1)),
    "columns that are no integers": (_GOOD[0], torch.tensor([0.2, 0.7, 1.0])),
    "a column that is no number": (_GOOD[0], torch.tensor([0.0, math.nan, 1.0])),
    "columns as a matrix": (_GOOD[0], _GOOD[1][None]),
    "indices of two widths": (_GOOD[0].long(), _GOOD[1]),
    "columns as a number": (_GOOD[0], torch.tensor(3)),
}


@pytest.mark.parametrize(("pointers", "columns"), _CORRUPT.values(), ids=_CORRUPT.keys())
def test_a_corrupt_topology_is_refused(pointers: Tensor, columns: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^(row_pointers|column_indices) .*\w{3}"):
        topology.check_topology(Topology((3, 4), pointers, columns))


def test_a_column_may_come_again_in_another_row_and_fall_between_rows() -> None:
    topology.check_topology(Topology((3, 4), *_GOOD))
    topology.check_topology(Topology((3, 4), _ints(0, 1, 2, 3), _ints(3, 3, 0)))


def test_a_negative_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cannot have shape \(-1, 4\)"):
        topology.check_topology(Topology((-1, 4), _ints(), _ints()))


def test_fingerprints_are_equal_exactly_where_topologies_are() -> None:
    shapes = [(2, 3), (3, 2), (1, 6), (6, 1), (0, 3), (3, 0)]
    masks = [torch.zeros(shape).bool() for shape in shapes] + [torch.ones(shape).bool() for shape in shapes[:4]]
    masks += [torch.arange(6).eq(place).view(2, 3) for place in range(6)]

    prints = [topology.fingerprint(topology.from_mask(mask)) for mask in masks]

    assert len(set(prints)) == len(prints)
    assert prints == [topology.fingerprint(topology.from_mask(mask.clone())) for mask in masks]


_LARGE = """
import resource, torch
from gossamer import topology
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def work(size, active):
    places = topology.erdos_renyi((size, size), active, generator=torch.Generator().manual_seed(0))
    topology.transpose(places), topology.check_topology(places), topology.fingerprint(places)
    again = topology.from_linear(topology.linear_indices(places), places.shape)
    assert again.num_active == active and torch.equal(again.column_indices, places.column_indices)
work(10, 10)
before = peak()
work(50_000, 1_000_000)
print(peak() - before)
"""


def test_a_large_topology_takes_no_dense_detour() -> None:
    result = subprocess.run([sys.executable, "-c", _LARGE], capture_output=True, text=True, timeout=120)

    assert result.returncode == 0, result.stderr
    # The dense mask alone would take 2500 MB.
    assert int(result.stdout) < 300_000


@pytest.mark.parametrize(("shape", "num_active"), [((40, 70_001), 9_000), ((3, 16_384), 40_000), ((70_000, 20_000), 5)])
def test_the_transpose_of_many_columns_equals_that_of_scipy(shape: tuple[int, int], num_active: int) -> None:
    places = topology.erdos_renyi(shape, num_active, generator=_generator())

    _check_transpose(places)
    _check_transpose(_wide(places))


def test_a_topology_larger_than_a_bucket_favours_no_row_and_no_column() -> None:
    places = topology.erdos_renyi((50, 40_000), 300_000, generator=_generator())

    topology.check_topology(places)
    assert chisquare(places.row_pointers.diff().numpy()).pvalue > 1e-3
    assert chisquare((places.column_indices // 1000).bincount().numpy()).pvalue > 1e-3


def test_every_topology_of_a_count_is_equally_likely() -> None:
    generator = _generator(7)
    seen = {prints: 0 for prints in itertools.combinations(range(6), 2)}

    for _ in range(100 * len(seen)):
        seen[tuple(topology.linear_indices(topology.erdos_renyi((2, 3), 2, generator=generator)).tolist())] += 1

    assert chisquare(list(seen.values())).pvalue > 1e-3


@_FEW
@given(_SIZES, st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**31))
def test_an_exchange_equals_the_sorted_union(shape: tuple[int, int], dropped: float, added: float, seed: int) -> None:
    before = topology.from_mask(_random_mask(shape, 0.5, seed))
    old = topology.linear_indices(before)
    kept = (_random_mask((1, old.numel()), 1 - dropped, seed + 1)[0]).nonzero().flatten()
    absent = torch.tensor(sorted(set(range(math.prod(shape))) - set(old[kept].tolist())), dtype=torch.int64)
    grown = absent[_random_mask((1, absent.numel()), added, seed + 2)[0]]

    after, source = topology.exchange(before, kept, grown)

    topology.check_topology(after)
    assert topology.linear_indices(after).tolist() == sorted([*old[kept].tolist(), *grown.tolist()])
    assert source[source >= 0].tolist() == kept.tolist()
    assert (-1 - source[source < 0]).tolist() == list(range(grown.numel()))


@pytest.mark.parametrize(
    ("kept", "grown"),
    [([1, 0], []), ([0, 0], []), ([3], []), ([-1], []), ([], [0]), ([], [5, 2]), ([], [-1]), ([], [9])],
)
def test_an_exchange_that_does_not_fit_is_refused(kept: list[int], grown: list[int]) -> None:
    # What is there already may be grown only if it is not kept.
    kept = kept or [0, 1, 2]
    with pytest.raises(ValueError, match=f"cannot keep {len(kept)} of 3 entries and add {len(grown)}"):
        topology.exchange(topology.from_mask(torch.eye(3)), torch.tensor(kept), torch.tensor(grown, dtype=torch.int64))


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.bool]
)
def test_numbers_of_any_kind_follow_an_exchange(dtype: torch.dtype) -> None:
    numbers, grown = torch.tensor([1, 0, 1]).to(dtype), torch.tensor([1, 0]).to(dtype)
    source = torch.tensor([2, -1, 1, -2])

    assert topology.gather(numbers, source, grown).tolist() == [numbers[2], grown[0], numbers[1], grown[1]]
    assert topology.gather(numbers, source).tolist() == [numbers[2], 0, numbers[1], 0]
    assert topology.gather(numbers, source).dtype == dtype


@settings(max_examples=60, deadline=None)
@given(active=st.sets(st.integers(0, 40)), places=st.lists(st.integers(0, 40)))
def test_each_place_is_found_among_the_active_ones_or_said_to_be_absent(active: set[int], places: list[int]) -> None:
    found = topology.slots_of(
        torch.tensor(sorted(places), dtype=torch.int64), torch.tensor(sorted(active), dtype=torch.int64)
    )

    assert found.dtype == torch.int64
    assert found.tolist() == [sorted(active).index(place) if place in active else -1 for place in sorted(places)]
