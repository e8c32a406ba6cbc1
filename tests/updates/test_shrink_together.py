from typing import Any

import pytest
import torch
from torch.optim import SGD

from gossamer import recipes, schedules
from gossamer.models import mlp
from gossamer.updates import Change, ShrinkTogether

from .storage import STORAGES, View, dense_of, momentum_of, view_of
from .test_redistribute import magnitude

both = pytest.mark.parametrize("storage", STORAGES)


def shrink(sparsity: float) -> ShrinkTogether:
    return ShrinkTogether(
        drop=magnitude, sparsity=schedules.constant(sparsity), start_step=0, stop_step=4, update_every=1
    )


def apply(update: ShrinkTogether, weights: list[Any], optimizer: SGD | None = None) -> list[Change]:
    optimizer = optimizer or SGD([weight.parameter for weight in weights], lr=0.1)
    return update.apply_all(weights, 1, optimizer=optimizer, generator=torch.Generator())


def two(storage: str) -> list[View]:
    first = view_of(torch.tensor([[8.0, -1.0], [6.0, 7.0]]), storage, name="first")[1]
    second = view_of(torch.tensor([[0.5, 0.25], [0.0, 9.0]]), storage, name="second")[1]
    return [first, second]


@both
def test_the_smallest_of_the_model_go(storage: str) -> None:
    weights = two(storage)
    optimizer = SGD([weight.parameter for weight in weights], lr=0.0, momentum=0.9)
    for weight in weights:
        weight.parameter.grad = torch.full_like(weight.parameter, 5.0)
    optimizer.step()

    assert apply(shrink(0.5), weights, optimizer) == [Change("first", 1, 0), Change("second", 2, 0)]
    assert [dense_of(weight) for weight in weights] == [[[8.0, 0.0], [6.0, 7.0]], [[0.0, 0.0], [0.0, 9.0]]]
    assert momentum_of(weights[0], optimizer).tolist() == [5.0] * 3


@both
def test_each_weight_keeps_its_best(storage: str) -> None:
    weights = two(storage)

    # one of eight would stay
    apply(shrink(0.9), weights)
    assert [weight.values().tolist() for weight in weights] == [[8.0], [9.0]]


@both
def test_nothing_goes_or_comes_where_the_target_is_above_what_is_left(storage: str) -> None:
    weights = two(storage)

    assert apply(shrink(0.0), weights) == [Change("first", 0, 0), Change("second", 0, 0)]
    assert [weight.num_active for weight in weights] == [4, 3]


@both
def test_a_nan_names_its_weight(storage: str) -> None:
    weights = two(storage)
    weights[0].set_values_(torch.tensor([1.0, 2.0, float("nan"), 3.0]))

    with pytest.raises(ValueError, match="1 scores are NaN") as caught:
        apply(shrink(0.5), weights)
    assert caught.value.__notes__ == ["while updating first after step 1"]


@both
def test_granet_starts_dense_and_ends_at_the_sparsity_over_all(storage: str) -> None:
    model = mlp([10, 12, 4], sparsity=0.0, generator=torch.Generator().manual_seed(0))
    if storage == "truly sparse":
        model = mlp([10, 12, 4], sparsity=0.5, generator=torch.Generator().manual_seed(0))
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = recipes.granet(
        model, optimizer, sparsity=0.9, stop_step=9, update_every=2, generator=torch.Generator()
    )
    totals = []
    for number in range(10):
        optimizer.zero_grad()
        model(torch.randn(8, 10, generator=torch.Generator().manual_seed(number))).pow(2).mean().backward()
        optimizer.step()
        sparsifier.step()
        totals.append(sparsifier.num_active())

    start = 0.0 if storage == "masked" else 1 - totals[0] / 168
    schedule = schedules.cubic(start, 0.9, start_step=0, stop_step=9)
    assert totals[-1] == totals[-2] == 17
    assert [totals[step - 1] for step in (2, 4, 6, 8)] == [round(168 * (1 - schedule(step))) for step in (2, 4, 6, 8)]


def test_granet_from_a_half_draws_it() -> None:
    model = mlp([10, 12, 4], generator=torch.Generator().manual_seed(0))
    sparsifier = recipes.granet(
        model, SGD(model.parameters(), lr=0.1), sparsity=0.9, start_sparsity=0.5, stop_step=9,
        generator=torch.Generator(),
    )  # fmt: skip

    assert sparsifier.num_active() == 84


@pytest.mark.parametrize(
    ("model_sparsity", "settings", "text"),
    [
        (0.9, {"sparsity": 0.5}, r"the model starts at a sparsity of 0\.\d+ and is to end at 0.5; give a higher one"),
        (0.0, {"sparsity": 0.5, "start_sparsity": 0.6}, "starts at a sparsity of 0.6 and is to end at 0.5"),
        (0.0, {"sparsity": 1.0}, "sparsity must lie in"),
        (0.5, {"sparsity": 0.9, "start_sparsity": 0.6}, "sparsity=0.6 has no effect"),
        (0.0, {"sparsity": 0.9, "start_sparsity": -0.5}, "sparsity must lie in"),
        (0.0, {"sparsity": 0.9, "drop_fraction": 1.5}, "drop_fraction must lie in"),
    ],
)
def test_settings_of_granet_out_of_range_are_refused(
    model_sparsity: float, settings: dict[str, float], text: str
) -> None:
    model = mlp([30, 40, 20], sparsity=model_sparsity, generator=torch.Generator())
    before = [parameter.detach().clone() for parameter in model.parameters()]
    rules: dict[str, Any] = {"stop_step": 9, "generator": torch.Generator()} | settings
    with pytest.raises(ValueError, match=text):
        recipes.granet(model, SGD(model.parameters(), lr=0.1), **rules)

    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))
