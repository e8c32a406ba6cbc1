import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer import counts

_FEW = settings(deadline=None, max_examples=200, derandomize=True)
_NO_SPARSITY = (1.0, -0.1, 1.5, math.nan, math.inf, -math.inf)
_NO_FRACTION = (1.5, -0.1, math.nan, math.inf, -math.inf)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.999, math.nextafter(1.0, 0.0)])
def test_a_sparsity_in_range_is_returned_unchanged(sparsity: float) -> None:
    assert counts.check_sparsity(sparsity) == sparsity


@pytest.mark.parametrize("sparsity", _NO_SPARSITY)
def test_a_sparsity_out_of_range_is_refused_by_value(sparsity: float) -> None:
    with pytest.raises(ValueError, match=rf"^sparsity must lie in \[0, 1\), got {sparsity}"):
        counts.check_sparsity(sparsity)


@pytest.mark.parametrize("sparsity", _NO_SPARSITY)
def test_a_count_is_refused_for_a_sparsity_out_of_range(sparsity: float) -> None:
    with pytest.raises(ValueError, match="sparsity must lie in"):
        counts.num_active(10, sparsity)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_a_fraction_in_range_is_returned_unchanged(fraction: float) -> None:
    assert counts.check_fraction(fraction, name="drop_fraction") == fraction


@pytest.mark.parametrize("fraction", _NO_FRACTION)
def test_a_fraction_out_of_range_is_refused_by_name_and_value(fraction: float) -> None:
    with pytest.raises(ValueError, match=rf"^grow_fraction must lie in \[0, 1\], got {fraction}"):
        counts.check_fraction(fraction, name="grow_fraction")


@pytest.mark.parametrize("value", [0, -1, -(10**12)])
def test_a_value_below_one_is_refused_by_name_and_value(value: int) -> None:
    with pytest.raises(ValueError, match=f"^update_every must be 1 or more, got {value}$"):
        counts.check_positive(value, name="update_every")


@pytest.mark.parametrize(
    ("numel", "sparsity", "expected"),
    [
        (512, 0.9, 51),  # 51.2; peers kept 52
        (784 * 1000, 0.95, 39_200),
        (10, 0.0, 10),
        (10, 0.96, 1),  # 0.4, but a layer of no weights is no layer
        (1, 0.999, 1),
        (0, 0.5, 0),
        (0, 0.0, 0),
        (10, 0.94, 1),  # 0.6
        (10, 0.83, 2),  # 1.7
        (50_000 * 50_000, 0.9996, 1_000_000),
        (2**40, 0.5, 2**39),
    ],
)
def test_the_count_is_the_nearest_integer_and_at_least_one(numel: int, sparsity: float, expected: int) -> None:
    assert counts.num_active(numel, sparsity) == expected


@_FEW
@given(st.integers(1, 10**12), st.integers(0, 9999))
def test_the_count_is_exact_for_decimal_sparsities(numel: int, tenthousandths: int) -> None:
    exact = Fraction(numel * (10_000 - tenthousandths), 10_000)

    active = counts.num_active(numel, tenthousandths / 10_000)

    # A tie may go either way, nothing else may.
    assert abs(active - exact) <= Fraction(1, 2) + Fraction(1, 1000) or (active == 1 and exact < 1)


@_FEW
@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_the_count_never_rises_with_sparsity(numel: int, one: float, other: float) -> None:
    low, high = sorted((one, other))

    assert numel >= counts.num_active(numel, low) >= counts.num_active(numel, high) >= min(numel, 1)


@pytest.mark.parametrize(("active", "numel", "expected"), [(50, 1000, 0.95), (0, 4, 1.0), (4, 4, 0.0), (0, 0, 0.0)])
def test_the_sparsity_of_a_count_is_the_fraction_removed(active: int, numel: int, expected: float) -> None:
    assert counts.sparsity_of(active, numel) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("active", "drop_fraction", "expected"),
    [(100, 0.29, 29), (3, 0.3, 0), (10, 0.3, 3), (10, 1.0, 10), (10, 0.0, 0), (0, 1.0, 0), (0, 0.3, 0), (7, 0.5, 3)],
)
def test_a_drop_takes_the_integer_part(active: int, drop_fraction: float, expected: int) -> None:
    assert counts.num_dropped(active, drop_fraction) == expected


@pytest.mark.parametrize("drop_fraction", _NO_FRACTION)
def test_a_drop_refuses_a_fraction_out_of_range(drop_fraction: float) -> None:
    with pytest.raises(ValueError, match="drop_fraction must lie in"):
        counts.num_dropped(10, drop_fraction)


@pytest.mark.parametrize(
    ("active", "drop_fraction", "expected"), [(136_862_000, 0.172, 23_540_264), (865_507_000, 0.568, 491_607_976)]
)
def test_a_drop_of_a_large_layer_is_not_short_of_one(active: int, drop_fraction: float, expected: int) -> None:
    assert counts.num_dropped(active, drop_fraction) == expected


@_FEW
@given(st.integers(0, 10**9), st.integers(0, 1000))
def test_a_drop_is_exact_for_decimal_fractions(active: int, thousandths: int) -> None:
    assert counts.num_dropped(active, thousandths / 1000) == active * thousandths // 1000


@pytest.mark.parametrize(
    ("total", "shares", "limits", "expected"),
    [
        (10, [3.5, 3.5, 3.0], [9, 9, 9], [4, 3, 3]),  # a tie goes to the first
        (10, [3.2, 3.7, 3.1], [9, 9, 9], [3, 4, 3]),  # the largest remainder
        (5, [4.0, 1.0], [2, 9], [2, 3]),  # what passes a limit goes elsewhere
        (5, [0.0, 0.0], [3, 9], [3, 2]),  # shares that say nothing: in turn, the first first
        (2, [3.9, 3.1], [9, 9], [1, 1]),  # shares that ask for too much
        (0, [3.9, 3.1], [9, 9], [0, 0]),
        (18, [1.0, 1.0], [9, 9], [9, 9]),
        (3, [3.0], [3], [3]),
        (0, [0.0], [0], [0]),
    ],
)
def test_a_split_adds_up(total: int, shares: list[float], limits: list[int], expected: list[int]) -> None:
    assert counts.split(total, shares, limits) == expected


@_FEW
@given(st.data())
def test_a_split_meets_total_and_limits_whatever_the_shares(data: st.DataObject) -> None:
    limits = data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=8))
    shares = data.draw(st.lists(st.floats(0, 50), min_size=len(limits), max_size=len(limits)))
    total = data.draw(st.integers(0, sum(limits)))

    parts = counts.split(total, shares, limits)

    assert sum(parts) == total
    assert all(0 <= part <= limit for part, limit in zip(parts, limits, strict=True))


@_FEW
@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(1, 7))
def test_a_split_of_shares_that_add_up_moves_no_part_by_one_or_more(weights: list[int], total: int) -> None:
    shares = [total * weight / max(1, sum(weights)) for weight in weights] if sum(weights) else [0.0] * len(weights)
    limits = [math.ceil(share) + 1 for share in shares]

    parts = counts.split(round(sum(shares)), shares, limits)

    assert all(abs(part - share) < 1 + 1e-9 for part, share in zip(parts, shares, strict=True))


@pytest.mark.parametrize("total", [-1, 7])
def test_a_split_that_cannot_fit_is_refused_by_value(total: int) -> None:
    with pytest.raises(ValueError, match=f"^cannot place {total} weights where 6 fit"):
        counts.split(total, [1.0, 1.0], [2, 4])


@pytest.mark.parametrize(
    ("value", "limit", "expected"),
    [(23_192.4, 784_000, 23_192), (2.6, 9, 3), (13_130.0, 10_000, 10_000), (-0.7, 5, 0), (0.0, 0, 0), (3.0, 3, 3)],
)
def test_the_nearest_count_stays_within_its_limit(value: float, limit: int, expected: int) -> None:
    assert counts.nearest(value, limit) == expected
