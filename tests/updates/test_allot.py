import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer.updates.allot import Dropped, apportion, at_random, by_largest, by_loss, by_survivors, room_of, scores_at
from gossamer.updates.survive import open_slots
from gossamer.weights import Weight

from .storage import STORAGES, view_of

both = pytest.mark.parametrize("storage", STORAGES)
NONE = torch.Generator()


def dropped(weights: list[Weight], slots: list[list[int]]) -> Dropped:
    """What goes where only these slots stay."""
    kept = [
        weight.indices()[torch.tensor(stay, dtype=torch.int64)] for weight, stay in zip(weights, slots, strict=True)
    ]
    return Dropped(
        weights,
        kept,
        [weight.num_active - len(stay) for weight, stay in zip(weights, slots, strict=True)],
        [room_of(weight, stay, open_slots(weight, stay)) for weight, stay in zip(weights, kept, strict=True)],
    )


def two(storage: str) -> list[Weight]:
    first = view_of(torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 0.0, 0.0, 0.0]]), storage, name="first")[1]
    second = view_of(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), storage, name="second")[1]
    return [first, second]


@pytest.mark.parametrize(
    ("total", "wanted", "room", "parts"),
    [
        (10, [1.0, 1.0, 2.0], [9, 9, 9], [3, 2, 5]),
        (7, [3.0, 1.0], [2, 9], [2, 5]),  # what the first has no room for goes to the second
        (9, [1.0, 1.0, 8.0], [9, 2, 4], [3, 2, 4]),  # two that are full, one after the other
        (4, [0.0, 0.0], [1, 3], [1, 3]),  # wanted by none: by room
        (6, [2.0, 0.0, 0.0], [2, 2, 6], [2, 1, 3]),  # beyond what anybody wanted: by room
        (0, [1.0, 1.0], [0, 0], [0, 0]),
        (3, [1.0, 1.0], [0, 3], [0, 3]),
    ],
)
def test_parts_on_paper(total: int, wanted: list[float], room: list[int], parts: list[int]) -> None:
    assert apportion(total, wanted, room) == parts


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_parts_add_up_and_none_outgrows_its_room(data: st.DataObject) -> None:
    room = data.draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=5))
    wanted = data.draw(st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=len(room), max_size=len(room)))
    total = data.draw(st.integers(0, sum(room)))

    parts = apportion(total, wanted, room)

    assert sum(parts) == total
    assert all(0 <= part <= most for part, most in zip(parts, room, strict=True))
    assert apportion(total, wanted, room) == parts


def test_more_than_there_is_room_for_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot grow 5 weights where 4 are absent; lower the number to drop"):
        apportion(5, [1.0, 1.0], [2, 2])


@pytest.mark.parametrize("share", [math.nan, math.inf, -1.0])
def test_a_share_that_is_no_number_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="a share of what is grown is"):
        apportion(1, [share, 1.0], [2, 2])


@both
def test_each_grows_what_it_lost_where_nothing_is_redistributed(storage: str) -> None:
    assert by_loss(dropped(two(storage), [[0, 1], [0]]), NONE) == [3, 1]


@both
def test_survivors_attract_what_is_grown(storage: str) -> None:
    # 3 and 1 survive, 3 are dropped: 2.25 and 0.75
    assert by_survivors(dropped(two(storage), [[0, 1, 2], [0]]), NONE) == [2, 1]


@both
def test_closed_places_are_no_room(storage: str) -> None:
    first, second = two(storage)
    first.closed_columns = torch.tensor([False, True, True, True])

    lost = dropped([first, second], [[0], [0, 1]])

    # of the first column of two rows one entry stays
    assert lost.room == [1, 2]
    with pytest.raises(ValueError, match="cannot grow 4 weights where 3 are absent"):
        by_survivors(lost, NONE)


@both
def test_random_places_are_counted_by_weight(storage: str) -> None:
    weights = two(storage)
    lost = dropped(weights, [[], [0, 1]])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([at_random(lost, generator) for _ in range(400)])

    # five of ten absent places, eight of them in the first weight: four on average
    assert lost.room == [8, 2]
    assert bool((drawn.sum(1) == 5).all())
    assert float(drawn[:, 0].double().mean()) == pytest.approx(4.0, abs=0.1)
    assert int(drawn[:, 1].max()) == 2


@both
def test_the_largest_of_the_whole_model_decide(storage: str) -> None:
    weights = two(storage)
    scores = {
        "first": torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 3.0, -5.0, 1.0]]),
        "second": torch.tensor([[9.0, 3.0], [-4.0, 9.0]]),
    }
    rule = by_largest(lambda weight: [(0, scores[weight.name])])

    # absent: -5, 3, 1 and 3, -4; of the equal ones the first weight's comes first
    assert rule(dropped(weights, [[0, 1, 2], [0, 1]]), NONE) == [1, 1]
    assert rule(dropped(weights, [[0, 1], [0, 1]]), NONE) == [2, 1]
    assert rule(dropped(weights, [[0, 1, 2, 3, 4], [0, 1]]), NONE) == [0, 0]


@pytest.mark.parametrize("cut", [(5, 7), (2, 7), (1, 3), (3, 2)])
def test_scores_are_found_however_the_matrix_is_cut(cut: tuple[int, int]) -> None:
    matrix = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    tiles: list[tuple[int, Tensor]] = [
        (top * 7 + left, matrix[top : top + cut[0], left : left + cut[1]])
        for top in range(0, 5, cut[0])
        for left in range(0, 7, cut[1])
    ]
    places = torch.tensor([0, 3, 6, 7, 20, 33, 34])

    assert torch.equal(scores_at(tiles, places, 7), matrix.flatten()[places].abs())
