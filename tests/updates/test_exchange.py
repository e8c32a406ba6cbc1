from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD

from gossamer import criteria, schedules
from gossamer.updates import Change, Exchange, by_sign
from gossamer.weights import Weight

from .storage import STORAGES, dense_of, momentum_of, view_of

both = pytest.mark.parametrize("storage", STORAGES)


def first_absent(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Grow the first open places: a rule whose answer is on paper."""
    columns = weight.closed_columns.numel()
    places = torch.arange(weight.shape[0] * columns)
    is_open = ~weight.closed_rows[places // columns] & ~weight.closed_columns[places % columns]
    return places[is_open & ~torch.isin(places, kept)][:count]


def exchange(fraction: float = 0.5, **changed: Any) -> Exchange:
    settings: dict[str, Any] = {"update_every": 1, "stop_step": 10, "drop_fraction": schedules.constant(fraction)}
    return Exchange(drop=criteria.magnitude, grow=first_absent, **(settings | changed))


def apply(update: Exchange, weight: Any, optimizer: SGD | None = None) -> Change:
    optimizer = SGD([weight.parameter], lr=0.1) if optimizer is None else optimizer
    return update.apply(weight, [weight], 1, optimizer=optimizer, generator=torch.Generator())


@both
def test_the_smallest_are_dropped_and_as_many_grown_at_zero(storage: str) -> None:
    _, weight = view_of(torch.tensor([[0.0, 0.0, 3.0], [-1.0, 2.0, -4.0]]), storage)

    change = apply(exchange(), weight)

    assert change == Change("w", num_dropped=2, num_grown=2)
    assert weight.indices().tolist() == [0, 1, 2, 5]
    assert dense_of(weight) == [[0.0, 0.0, 3.0], [0.0, 0.0, -4.0]]


@both
def test_a_fraction_is_dropped_in_each_group_by_itself(storage: str) -> None:
    _, weight = view_of(torch.tensor([[1.0, 2.0, 3.0, -7.0], [4.0, -8.0, 0.0, 0.0]]), storage)

    change = apply(exchange(groups=by_sign), weight)

    # half of the four positive ones (1 and 2), half of the two negative ones (-7)
    assert change == Change("w", num_dropped=3, num_grown=3)
    assert weight.indices().tolist() == [0, 1, 2, 3, 4, 5]
    assert dense_of(weight) == [[0.0, 0.0, 3.0, 0.0], [4.0, -8.0, 0.0, 0.0]]


@both
@pytest.mark.parametrize("keep_regrown", [False, True])
def test_a_weight_dropped_and_grown_again_starts_anew_unless_it_is_kept(storage: str, keep_regrown: bool) -> None:
    _, weight = view_of(torch.tensor([[1.0, 0.0, 3.0, 4.0]]), storage)
    optimizer = SGD([weight.parameter], lr=0.0, momentum=0.9)
    weight.parameter.grad = torch.full_like(weight.parameter, 5.0)
    optimizer.step()

    change = apply(exchange(keep_regrown=keep_regrown), weight, optimizer)

    # the value 1 goes, and the first place is its own
    assert weight.indices().tolist() == [0, 2, 3]
    assert dense_of(weight) == [[1.0 if keep_regrown else 0.0, 0.0, 3.0, 4.0]]
    assert momentum_of(weight, optimizer).tolist() == [5.0 if keep_regrown else 0.0, 5.0, 5.0]
    assert change == Change("w", *((0, 0) if keep_regrown else (1, 1)))


@both
def test_equal_values_are_dropped_in_exact_number(storage: str) -> None:
    _, weight = view_of(torch.tensor([[0.0] * 7 + [1.0] * 7]), storage)

    change = apply(exchange(0.3), weight)

    # floor(0.3 * 7) = 2: the last ones go, the first places come
    assert change == Change("w", num_dropped=2, num_grown=2)
    assert weight.indices().tolist() == [0, 1, 7, 8, 9, 10, 11]


@both
@pytest.mark.parametrize("fraction", [0.0, 0.1, 1.0])
def test_extreme_fractions_conserve_the_count(storage: str, fraction: float) -> None:
    _, weight = view_of(torch.tensor([[0.0, 2.0], [3.0, 0.0], [4.0, 0.0]]), storage)

    change = apply(exchange(fraction, first_values=lambda weight, indices, grown, generator: 1.0 + grown), weight)

    assert change.num_dropped == change.num_grown == (3 if fraction == 1.0 else 0)
    assert weight.num_active == 3


@both
def test_a_weight_with_no_place_left_stays_as_it_is(storage: str) -> None:
    _, full = view_of(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), storage)
    _, crowded = view_of(torch.tensor([[0.0, 2.0], [0.0, 4.0]]), storage)
    crowded.closed_columns = torch.tensor([True, False])

    assert apply(exchange(), full) == apply(exchange(), crowded) == Change("w", 0, 0)
    assert dense_of(full) == [[1.0, 2.0], [3.0, 4.0]]
    assert dense_of(crowded) == [[0.0, 2.0], [0.0, 4.0]]


@both
def test_a_weight_without_active_entries_stays_empty(storage: str) -> None:
    _, weight = view_of(torch.zeros(2, 3), storage)

    assert apply(exchange(0.99), weight) == Change("w", 0, 0)
    assert weight.num_active == 0


@both
def test_an_active_value_of_zero_is_a_weight_like_any_other(storage: str) -> None:
    mask = torch.tensor([[True, True, False, False]])
    _, weight = view_of(torch.tensor([[5.0, 0.0, 0.0, 0.0]]), storage, mask=mask)

    change = apply(exchange(), weight)

    assert change == Change("w", 1, 1)
    assert weight.indices().tolist() == [0, 1]


@both
def test_first_values_see_the_topology_after_the_update(storage: str) -> None:
    seen: list[list[int]] = []

    def first_values(weight: Weight, indices: Tensor, grown: Tensor, generator: torch.Generator) -> Tensor:
        seen.extend([sorted(indices.tolist()), grown.tolist()])
        return torch.full(grown.shape, 9.0)

    _, weight = view_of(torch.tensor([[0.0, 2.0], [3.0, 0.0]]), storage)
    apply(exchange(first_values=first_values), weight)

    # 2 goes from place 1, place 0 comes
    assert seen == [[0, 2], [0]]
    assert dense_of(weight) == [[9.0, 0.0], [3.0, 0.0]]


@both
def test_a_nan_among_the_values_is_an_error(storage: str) -> None:
    _, weight = view_of(torch.tensor([[float("nan"), 2.0, 0.0]]), storage)

    with pytest.raises(ValueError, match="NaN"):
        apply(exchange(), weight)


def test_it_is_due_at_multiples_of_update_every_before_the_stop() -> None:
    update = exchange(update_every=3, stop_step=9)

    assert [step for step in range(13) if update.due(step)] == [3, 6]


def test_a_start_moves_the_steps_at_which_it_is_due() -> None:
    update = exchange(update_every=3, stop_step=9, start_step=2)

    assert [step for step in range(13) if update.due(step)] == [2, 5, 8]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"update_every": 0}, "update_every must be 1 or more, got 0"),
        ({"stop_step": 0}, "stop_step must be 1 or more, got 0"),
        ({"drop_fraction": schedules.constant(1.5)}, r"drop_fraction must lie in \[0, 1\], got 1.5"),
        ({"drop_fraction": schedules.constant(float("nan"))}, "drop_fraction must lie in"),
    ],
)
def test_settings_out_of_range_are_refused(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        exchange(**changed)
