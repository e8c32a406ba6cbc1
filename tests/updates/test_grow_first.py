from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from gossamer import recipes, schedules
from gossamer.models import mlp
from gossamer.updates import Change, GrowFirst

from .storage import STORAGES, View, dense_of, view_of
from .test_exchange import first_absent
from .test_redistribute import magnitude

both = pytest.mark.parametrize("storage", STORAGES)


def grow_first(fraction: float = 0.5, **changed: Any) -> GrowFirst:
    rules: dict[str, Any] = {"update_every": 2, "stop_step": 8, "surplus_fraction": schedules.constant(fraction)}
    return GrowFirst(**({"drop": magnitude, "grow": first_absent} | rules | changed))


def apply(update: GrowFirst, weight: View, step: int) -> Change:
    optimizer = SGD([weight.parameter], lr=0.1)
    return update.apply(weight, [weight], step, optimizer=optimizer, generator=torch.Generator())


@both
def test_it_grows_lets_learn_and_drops_back(storage: str) -> None:
    weight, update = view_of(torch.tensor([[0.0, 3.0, 0.0, -1.0, 2.0, 0.0]]), storage)[1], grow_first(0.7)
    update.begin([weight])

    assert apply(update, weight, 2) == Change("w", 0, 2)
    assert weight.indices().tolist() == [0, 1, 2, 3, 4]
    weight.set_values_(torch.tensor([9.0, 3.0, 0.5, -1.0, 2.0]))
    # 0.5 and -1 go, and their places are the first absent ones
    assert apply(update, weight, 4) == Change("w", 2, 2)
    assert dense_of(weight) == [[9.0, 3.0, 0.0, 0.0, 2.0, 0.0]]
    assert apply(update, weight, 8) == Change("w", 2, 0)
    assert weight.indices().tolist() == [0, 1, 4]


@both
def test_where_fewer_are_absent_all_grow(storage: str) -> None:
    weight, update = view_of(torch.tensor([[0.0, 3.0, 1.0, -1.0]]), storage)[1], grow_first(1.0)
    update.begin([weight])

    assert apply(update, weight, 2) == Change("w", 0, 1)
    assert weight.num_active == 4


def test_it_is_due_before_the_stop_and_at_it() -> None:
    assert [step for step in range(13) if grow_first(stop_step=7).due(step)] == [2, 4, 6, 7]


def test_a_fraction_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"surplus_fraction must lie in \[0, 1\], got 1.5"):
        grow_first(1.5)


def train(storage: str, **settings: Any) -> list[list[int]]:
    sparse = storage == "truly sparse"
    model = mlp([10, 12, 4], sparsity=0.6 if sparse else 0.0, generator=torch.Generator().manual_seed(0))
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    sparsifier = recipes.mest(
        model,
        optimizer,
        update_every=2,
        stop_step=7,
        sparsity=None if sparse else 0.6,
        generator=torch.Generator(),
        **({"drop_fraction": 0.4, "grad_factor": 1.0} | settings),
    )
    counts = [[weight.num_active for weight in sparsifier.weights]]
    for _ in range(9):
        optimizer.zero_grad()
        model(torch.randn(8, 10, generator=torch.Generator().manual_seed(1))).pow(2).mean().backward()
        optimizer.step()
        sparsifier.step()
        counts.append([weight.num_active for weight in sparsifier.weights])
    return counts


@both
def test_the_soft_bound_of_mest_is_passed_only_before_the_stop(storage: str) -> None:
    counts = train(storage, soft_bound=True)

    assert counts[0] == counts[1] == counts[7] == counts[8] == counts[9]
    # along the cosine ever fewer, at last less than one
    assert counts[2] == counts[3] != counts[4] == counts[5]
    assert sum(counts[2]) > sum(counts[4]) > sum(counts[6]) == sum(counts[0])
    assert train(storage) == [counts[0]] * 10


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"grad_factor": -1.0}, "grad_factor must be 0 or more and finite, got -1.0"),
        ({"drop_fraction": 2.0}, "drop_fraction must lie in"),
    ],
)
def test_settings_of_mest_out_of_range_are_refused(settings: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        train("masked", **settings)


@both
def test_the_score_of_mest_adds_value_and_gradient(storage: str) -> None:
    layer, _ = view_of(torch.tensor([[1.0, 2.0, 3.0, 4.0] + [0.0] * 60]), storage)
    optimizer = SGD(layer.parameters(), lr=0.0)
    sparsity = None if storage == "truly sparse" else 0.0
    sparsifier = recipes.mest(
        layer, optimizer, update_every=1, stop_step=99, drop_fraction=0.6, grad_factor=0.5, sparsity=sparsity,
        generator=torch.Generator(),
    )  # fmt: skip
    weight = sparsifier.weights[0]
    if storage == "masked":
        weight.set_mask_(weight.parameter != 0)  # type: ignore[union-attr]
    layer(torch.tensor([[8.0, 2.0, 0.0, -6.0] + [0.0] * 60])).sum().backward()
    optimizer.step()
    sparsifier.step()

    # 1 + 4, 2 + 1, 3 + 0, 4 + 3: of the equal ones the first stays
    assert [value for value in weight.values().tolist() if value] == [1.0, 4.0]
    assert weight.num_active == 4


@both
def test_a_gradient_that_was_cleared_too_early_names_the_weight_and_the_remedy(storage: str) -> None:
    layer: nn.Module = view_of(torch.tensor([[1.0, 2.0, 0.0, 0.0]]), storage)[0]
    optimizer = SGD(layer.parameters(), lr=0.1)
    sparsifier = recipes.mest(
        layer, optimizer, update_every=1, stop_step=9, drop_fraction=0.5, grad_factor=1.0, generator=torch.Generator(),
        sparsity=None if storage == "truly sparse" else 0.5,
    )  # fmt: skip
    layer(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()

    with pytest.raises(
        RuntimeError, match=r"has no gradient after .*zero_grad\(\) must come after sparsifier.step\(\)"
    ) as caught:
        sparsifier.step()
    assert caught.value.__notes__ == [f"while updating {sparsifier.weights[0].name} after step 1"]
