import math
from typing import Any

import pytest
import torch
from torch.optim import SGD

from gossamer import recipes
from gossamer.recipes.set_ import grow_at_random
from gossamer.updates import Change, Rewire

from .storage import STORAGES, View, dense_of, momentum_of, view_of
from .test_exchange import first_absent

both = pytest.mark.parametrize("storage", STORAGES)


def rewire(strength: float = 0.0, temperature: float = 0.0, **changed: Any) -> Rewire:
    rules: dict[str, Any] = {"grow": first_absent, "stop_step": 9}
    return Rewire(strength=strength, temperature=temperature, **(rules | changed))


def apply(update: Rewire, weights: list[Any], optimizer: SGD | None = None, seed: int = 0) -> list[Change]:
    optimizer = optimizer or SGD([weight.parameter for weight in weights], lr=0.5)
    generator = torch.Generator().manual_seed(seed)
    return update.apply_all(weights, 1, optimizer=optimizer, generator=generator)


def begun(update: Rewire, storage: str, values: list[float]) -> View:
    weight = view_of(torch.tensor([values]), storage)[1]
    update.begin([weight])
    return weight


@both
def test_the_penalty_pulls_to_zero_and_what_passes_it_is_replaced(storage: str) -> None:
    update = rewire(strength=0.5)
    weight = begun(update, storage, [0.0, 2.0, -0.2, -1.0, 0.25])

    # each comes 0.25 nearer to zero: -0.2 would pass it, 0.25 ends at zero and stays
    assert apply(update, [weight]) == [Change("w", 1, 1)]
    assert weight.indices().tolist() == [0, 1, 3, 4]
    assert dense_of(weight) == [[0.0, 1.75, 0.0, -0.75, 0.0]]


@both
def test_a_sign_that_the_optimizer_flipped_goes(storage: str) -> None:
    update = rewire()
    weight = begun(update, storage, [3.0, -2.0, 0.0, 1.0])
    optimizer = SGD([weight.parameter], lr=0.0, momentum=0.9)
    weight.parameter.grad = torch.full_like(weight.parameter, 5.0)
    optimizer.step()
    weight.set_values_(torch.tensor([-0.5, -2.0, 1.0]))

    assert apply(update, [weight], optimizer) == [Change("w", 1, 1)]
    # The first absent place is that of the weight that went: it starts anew.
    assert dense_of(weight) == [[0.0, -2.0, 0.0, 1.0]]
    assert momentum_of(weight, optimizer).tolist() == [0.0, 5.0, 5.0]


@both
def test_nothing_is_recorded_where_no_weight_goes(storage: str) -> None:
    update = rewire(strength=0.1)
    weight = begun(update, storage, [1.0, -2.0, 0.0])

    assert apply(update, [weight]) == []
    assert weight.values().tolist() == pytest.approx([0.95, -1.95])


@both
def test_the_noise_has_the_variance_of_the_temperature(storage: str) -> None:
    update = rewire(temperature=0.25)
    weight = begun(update, storage, [100.0] * 4000)
    apply(update, [weight])
    moved = weight.values() - 100.0

    # two times 0.5 times 0.25, and the root of it
    assert float(moved.std()) == pytest.approx(0.5, rel=0.05)
    assert float(moved.mean()) == pytest.approx(0.0, abs=4 * 0.5 / math.sqrt(4000))


@both
def test_grown_weights_have_random_signs_and_the_others_keep_theirs(storage: str) -> None:
    update = rewire(grow=grow_at_random)
    weight = begun(update, storage, [1.0, -1.0] * 200 + [0.0] * 400)
    weight.set_values_(torch.cat([torch.full((200,), -0.5), torch.tensor([1.0, -1.0] * 100)]))
    apply(update, [weight])
    signs = update.state_dict()["w"]
    survivors = (weight.values() != 0).nonzero().flatten()

    assert signs.dtype == torch.int8
    assert set(signs.tolist()) == {-1, 1}
    assert torch.equal(signs[survivors].float(), weight.values()[survivors].sign())
    # a hundred positive ones went, and as many came with either sign
    grown = signs[weight.values() == 0]
    assert grown.numel() == 100
    assert 25 < int((grown == 1).sum()) < 75


@both
def test_the_whole_model_shares_what_grows(storage: str) -> None:
    small = view_of(torch.tensor([[1.0, 0.0]]), storage, name="small")[1]
    large = view_of(torch.tensor([[1.0] * 10 + [0.0] * 990]), storage, name="large")[1]
    update = rewire(grow=grow_at_random)
    update.begin([small, large])
    small.set_values_(torch.tensor([-1.0]))
    changes = apply(update, [small, large])

    assert changes == [Change("small", 1, 0), Change("large", 0, 1)]
    assert small.num_active == 0


@both
def test_signs_are_saved_and_copied(storage: str) -> None:
    update = rewire(strength=0.5)
    weight = begun(update, storage, [1.0, -2.0, 0.0])
    state = update.state_dict()
    other = rewire(strength=0.5)
    other.begin([view_of(torch.tensor([[1.0, 1.0, 0.0]]), storage)[1]])
    other.load_state_dict(state)
    weight.set_values_(torch.tensor([-1.0, -2.0]))
    apply(update, [weight])

    assert other.state_dict()["w"].tolist() == state["w"].tolist() == [1, -1]


@both
def test_a_nan_names_its_weight(storage: str) -> None:
    update = rewire()
    weight = begun(update, storage, [1.0, 2.0])
    weight.set_values_(torch.tensor([float("nan"), 1.0]))

    with pytest.raises(ValueError, match="1 values are NaN") as caught:
        apply(update, [weight])
    assert caught.value.__notes__ == ["while updating w after step 1"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@both
def test_other_types_keep_theirs(storage: str, dtype: torch.dtype) -> None:
    dense = torch.tensor([[1.0, -2.0, 0.0]], dtype=dtype)
    update = rewire(strength=0.5, temperature=0.01)
    weight = view_of(dense, storage)[1]
    update.begin([weight])
    apply(update, [weight])

    assert weight.values().dtype == dtype
    assert weight.num_active == 2


@pytest.mark.parametrize("changed", [{"strength": -1.0}, {"temperature": float("nan")}, {"stop_step": 0}])
def test_settings_out_of_range_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changed))} must be"):
        rewire(**changed)


def test_the_rate_is_that_of_the_group_that_holds_the_weight() -> None:
    still, moving = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    model = torch.nn.Sequential(still, moving)
    optimizer = SGD([{"params": still.parameters(), "lr": 0.0}, {"params": moving.parameters(), "lr": 1.0}], lr=9.0)
    before = still.weight.detach().clone(), moving.weight.detach().clone()
    sparsifier = recipes.deep_r(
        model, optimizer, strength=0.0, temperature=1e-6, stop_step=5, sparsity=0.0, generator=torch.Generator()
    )
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    sparsifier.step()

    assert torch.equal(still.weight, before[0])
    assert not torch.equal(moving.weight, before[1])
