from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.optim import SGD

from gossamer import Sparsifier, criteria, schedules
from gossamer.nn import SparseEmbedding
from gossamer.updates import Change, JointUpdate, Redistribute, Update, by_largest, by_loss, by_survivors, over_all
from gossamer.weights import SparseWeight, Weight

from .storage import STORAGES, View, dense_of, momentum_of, view_of
from .test_exchange import first_absent

both = pytest.mark.parametrize("storage", STORAGES)


def magnitude(weight: Weight) -> Tensor:
    return criteria.magnitude(weight.values())


def redistribute(fraction: float = 0.5, **changed: Any) -> Redistribute:
    rules: dict[str, Any] = {"update_every": 1, "stop_step": 10, "drop_fraction": schedules.constant(fraction)}
    return Redistribute(**({"drop": magnitude, "grow": first_absent} | rules | changed))


def apply(update: JointUpdate, weights: list[Any], optimizer: SGD | None = None) -> list[Change]:
    optimizer = optimizer or SGD([weight.parameter for weight in weights], lr=0.1)
    return update.apply_all(weights, 1, optimizer=optimizer, generator=torch.Generator().manual_seed(0))


def two(storage: str) -> list[View]:
    first = view_of(torch.tensor([[8.0, -1.0, 0.0], [0.0, 7.0, 2.0]]), storage, name="first")[1]
    second = view_of(torch.tensor([[0.5, 0.25], [0.0, 0.0]]), storage, name="second")[1]
    return [first, second]


@both
def test_without_redistribution_each_weight_keeps_its_count(storage: str) -> None:
    weights = two(storage)

    assert apply(redistribute(), weights) == [Change("first", 2, 2), Change("second", 1, 1)]
    assert [dense_of(weight) for weight in weights] == [
        [[8.0, 0.0, 0.0], [0.0, 7.0, 0.0]],
        [[0.5, 0.0], [0.0, 0.0]],
    ]
    assert [weight.indices().tolist() for weight in weights] == [[0, 1, 2, 4], [0, 1]]


@both
def test_what_one_weight_loses_another_grows_and_the_total_stays(storage: str) -> None:
    weights = two(storage)

    # all compete: 0.25, 0.5 and 1 go, but the best of the second weight stays, so 2 goes; survivors 2 and 1
    changes = apply(redistribute(survive=over_all, allot=by_survivors), weights)

    assert changes == [Change("first", 2, 2), Change("second", 1, 1)]
    assert sum(weight.num_active for weight in weights) == 6
    changes = apply(
        redistribute(0.5, survive=over_all, allot=by_largest(lambda w: [(0, torch.ones(w.shape))])), weights
    )
    # equal scores: the first weights grow all that they have room for
    assert changes == [Change("first", 2, 3), Change("second", 1, 0)]
    assert sum(weight.num_active for weight in weights) == 6


@both
def test_a_full_weight_loses_to_others_and_takes_no_more_than_it_has(storage: str) -> None:
    full = view_of(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), storage, name="full")[1]
    other = view_of(torch.tensor([[9.0, 9.0, 9.0, 9.0, 0.0, 0.0]]), storage, name="other")[1]

    apply(redistribute(0.5, allot=lambda dropped, generator: [0, 4]), [full, other])

    assert (full.num_active, other.num_active) == (2, 6)


@both
def test_a_fraction_of_one_empties_no_weight(storage: str) -> None:
    weights = two(storage)

    # everything wants to go to the first weight, which has room for five more
    changes = apply(redistribute(1.0, allot=lambda dropped, generator: [4, 0]), weights)

    assert changes == [Change("first", 3, 4), Change("second", 1, 0)]
    assert [weight.num_active for weight in weights] == [5, 1]
    assert dense_of(weights[1]) == [[0.5, 0.0], [0.0, 0.0]]


@both
@pytest.mark.parametrize("keep_regrown", [False, True])
def test_a_weight_dropped_and_grown_again_starts_anew_unless_it_is_kept(storage: str, keep_regrown: bool) -> None:
    weight = view_of(torch.tensor([[1.0, 0.0, 3.0, 4.0]]), storage)[1]
    optimizer = SGD([weight.parameter], lr=0.0, momentum=0.9)
    weight.parameter.grad = torch.full_like(weight.parameter, 5.0)
    optimizer.step()

    changes = apply(redistribute(keep_regrown=keep_regrown), [weight], optimizer)

    assert dense_of(weight) == [[1.0 if keep_regrown else 0.0, 0.0, 3.0, 4.0]]
    assert momentum_of(weight, optimizer).tolist() == [5.0 if keep_regrown else 0.0, 5.0, 5.0]
    assert changes == [Change("w", *((0, 0) if keep_regrown else (1, 1)))]


@both
def test_an_empty_weight_takes_part(storage: str) -> None:
    empty = view_of(torch.zeros(2, 2), storage, name="empty")[1]
    other = view_of(torch.tensor([[1.0, 2.0, 3.0]]), storage, name="other")[1]

    apply(redistribute(0.7, allot=lambda dropped, generator: [2, 0]), [empty, other])

    assert (empty.num_active, other.num_active) == (2, 1)


def test_the_padding_of_an_embedding_neither_goes_nor_comes() -> None:
    layer = SparseEmbedding(4, 3, sparsity=0.5, padding_idx=0, generator=torch.Generator().manual_seed(0))
    weight = SparseWeight("w", layer)
    padding = [index for index in weight.indices().tolist() if index < 3]

    apply(redistribute(1.0), [weight])

    assert [index for index in weight.indices().tolist() if index < 3] == padding
    assert weight.num_active == layer.num_active


@both
def test_a_nan_names_its_weight_and_nothing_changes(storage: str) -> None:
    weights = two(storage)
    weights[1].set_values_(torch.tensor([float("nan"), 1.0]))
    before = [weight.indices().tolist() for weight in weights]

    with pytest.raises(ValueError, match="1 scores are NaN") as caught:
        apply(redistribute(), weights)
    assert caught.value.__notes__ == ["while updating second after step 1"]
    assert [weight.indices().tolist() for weight in weights] == before


@both
def test_growth_that_fails_in_one_weight_changes_none(storage: str) -> None:
    def grow(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
        if weight.name == "second":
            raise ValueError("no")
        return first_absent(weight, kept, count, generator)

    weights = two(storage)
    before = [dense_of(weight) for weight in weights]

    with pytest.raises(ValueError, match="no") as caught:
        apply(redistribute(grow=grow), weights)
    assert caught.value.__notes__ == ["while updating second after step 1"]
    assert [dense_of(weight) for weight in weights] == before


@both
@pytest.mark.parametrize("numbers", [[9, 0], [1, 1], [-1, 4], [0, 4], [5, -2]])
def test_numbers_that_do_not_fit_are_refused_with_nothing_changed(storage: str, numbers: list[int]) -> None:
    weights = two(storage)
    before = [dense_of(weight) for weight in weights]

    rule = redistribute(allot=lambda dropped, generator: numbers)
    with pytest.raises(ValueError, match=r"allot would grow \[.*\] weights where \[2, 1\] go and \[4, 3\] are absent"):
        apply(rule, weights)
    assert [dense_of(weight) for weight in weights] == before


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.floats(0, 1), st.sampled_from([by_loss, by_survivors]), st.booleans())
def test_the_total_is_exact_and_both_storages_agree(seed: int, fraction: float, allot: Any, together: bool) -> None:
    found = []
    for storage in STORAGES:
        generator = torch.Generator().manual_seed(seed)
        shapes = torch.randint(1, 6, (3, 2), generator=generator).tolist()
        dense = [torch.randn(shape, generator=generator) for shape in shapes]
        masks = [torch.rand(shape, generator=generator) < 0.5 for shape in shapes]
        pairs = enumerate(zip(dense, masks, strict=True))
        weights = [view_of(one * mask, storage, mask=mask, name=str(i))[1] for i, (one, mask) in pairs]
        total = sum(weight.num_active for weight in weights)
        rule = redistribute(fraction, allot=allot, **({"survive": over_all} if together else {}))
        apply(rule, weights)

        assert sum(weight.num_active for weight in weights) == total
        assert all(weight.num_active or not int(mask.sum()) for weight, mask in zip(weights, masks, strict=True))
        found.append([weight.indices().tolist() for weight in weights])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"update_every": 0}, "update_every must be 1 or more, got 0"),
        ({"stop_step": 0}, "stop_step must be 1 or more, got 0"),
        ({"drop_fraction": schedules.constant(1.5)}, r"drop_fraction must lie in \[0, 1\], got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        redistribute(**changed)


@both
def test_updates_of_both_kinds_act_in_their_order(storage: str) -> None:
    layer, weight = view_of(torch.tensor([[8.0, -1.0, 0.0], [0.0, 7.0, 2.0]]), storage)
    optimizer = SGD(layer.parameters(), lr=0.0)
    updates: list[Update | JointUpdate] = [redistribute(), redistribute(0.25)]
    sparsifier = Sparsifier([weight], optimizer, updates=updates, generator=torch.Generator())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()

    assert sparsifier.step() == [Change("w", 2, 2), Change("w", 1, 1)]
    assert list(sparsifier.state_dict()["updates"]) == []
