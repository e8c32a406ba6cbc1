"""What cannot be done is refused at the earliest point with one error that helps, and nothing is half changed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from gossamer import Sparsifier, criteria, growth, prunable, recipes, schedules, updates
from gossamer.nn import SparseLinear
from gossamer.testing.run import first_difference
from gossamer.weights import MaskedWeight, SparseWeight, Weight

from .network import SPARSITY, STORAGES, backward, network, rigl_of, seeded

both = pytest.mark.parametrize("storage", STORAGES)


def copied(value: Any) -> Any:
    """Return a copy of a state: tensors are cloned."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def all_of(*parts: Any) -> list[Any]:
    return [copied(part.state_dict()) for part in parts]


def trained(storage: str, *, steps: int = 2) -> tuple[nn.Sequential, Optimizer, Sparsifier]:
    model = network(storage)
    optimizer = AdamW(model.parameters(), lr=0.01)
    sparsifier = rigl_of(model, optimizer, storage, update_every=2)
    for step in range(steps):
        train(model, optimizer, sparsifier, step)
    return model, optimizer, sparsifier


def train(model: nn.Module, optimizer: Optimizer, sparsifier: Sparsifier, step: int = 9) -> None:
    optimizer.zero_grad()
    backward(model, seed=step)
    optimizer.step()
    sparsifier.step()


def grow_at_random(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return growth.random(kept, weight.closed_rows, weight.closed_columns, count=count, generator=generator)


def exchange(**other: Any) -> updates.Exchange:
    given: dict[str, Any] = {"drop": criteria.magnitude, "grow": grow_at_random, "update_every": 1, "stop_step": 9}
    return updates.Exchange(**given | {"drop_fraction": schedules.constant(0.3)} | other)


@both
def test_a_drop_fraction_that_would_empty_a_layer_is_refused_before_training(storage: str) -> None:
    model = network(storage)
    optimizer = SGD(model.parameters(), lr=0.1)
    before = all_of(model, optimizer)
    with pytest.raises(
        ValueError, match=r"drop_fraction=1\.0 would drop every weight .*; it must lie below 1, or give"
    ):
        recipes.rigl(model, optimizer, stop_step=9, drop_fraction=1.0, generator=seeded(), sparsity=SPARSITY[storage])

    assert first_difference(all_of(model, optimizer), before) is None


@both
def test_a_drop_fraction_that_rises_to_one_is_refused_with_nothing_changed(storage: str) -> None:
    model = network(storage)
    optimizer = AdamW(model.parameters(), lr=0.01)
    recipes.static(model, optimizer, generator=seeded(), sparsity=SPARSITY[storage]).finalize()
    views = prunable(model)
    for view in views:
        if isinstance(view, MaskedWeight):
            view.set_mask_(view.parameter != 0)
    rising = exchange(drop_fraction=lambda step: min(1.0, step / 2))
    sparsifier = Sparsifier(views, optimizer, updates=[rising], generator=seeded())
    train(model, optimizer, sparsifier)
    optimizer.zero_grad()
    backward(model)
    optimizer.step()
    before = all_of(model, optimizer, sparsifier)
    with pytest.raises(ValueError, match=r"drop_fraction=1\.0 would drop every weight of a layer") as caught:
        sparsifier.step()

    assert caught.value.__notes__ == [f"while updating {views[0].name} after step 2"]
    assert first_difference(all_of(model, optimizer, sparsifier), before) is None
    assert sparsifier.num_steps == 1


def _too_many(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return grow_at_random(weight, kept, 10_000, generator)


def _twice(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return grow_at_random(weight, kept, 1, generator).repeat(count)


def _there_already(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return kept[:count]


def _outside(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return torch.arange(-count, 0)


@both
@pytest.mark.parametrize(
    ("grow", "text"),
    [
        (_too_many, r"10,?000"),
        (_twice, r"cannot keep \d+ of \d+ entries and add \d+: both must .* must not be there already"),
        (_there_already, r"cannot keep \d+ of \d+ entries and add \d+: both must .* must not be there already"),
        (_outside, r"cannot keep \d+ of \d+ entries and add \d+: both must .* must not be there already"),
    ],
)
def test_growth_where_nothing_is_absent_is_refused_with_nothing_changed(
    storage: str, grow: Callable[..., Tensor], text: str
) -> None:
    model = network(storage)
    optimizer = AdamW(model.parameters(), lr=0.01)
    first = recipes.static(model, optimizer, generator=seeded(), sparsity=SPARSITY[storage])
    first.finalize()
    sparsifier = Sparsifier(first.weights, optimizer, updates=[exchange(grow=grow)], generator=seeded())
    backward(model)
    optimizer.step()
    before = all_of(model, optimizer, sparsifier)
    for _ in range(2):
        with pytest.raises(ValueError, match=text) as caught:
            sparsifier.step()

        assert caught.value.__notes__ == [f"while updating {first.weights[0].name} after step 1"]
        assert first_difference(all_of(model, optimizer, sparsifier), before) is None


def resize_data(layer: Any) -> None:
    parameter = layer.weight if isinstance(layer, nn.Linear) else layer.values
    parameter.data = parameter.data[:-1].clone()


def replace_parameter(layer: Any) -> None:
    if isinstance(layer, nn.Linear):
        layer.weight = nn.Parameter(layer.weight.detach().clone())
    else:
        layer.values = nn.Parameter(layer.values.detach().clone())


def assign_state(layer: nn.Module) -> None:
    layer.load_state_dict(copied(layer.state_dict()), assign=True)


INTRUSIONS: dict[Callable[[Any], None], dict[str, str]] = {
    resize_data: {
        "masked": r"0\.weight has shape \(7, 6\) now, its mask \(8, 6\); call finalize\(\) before a weight is resized",
        "truly sparse": r"0\.values has shape \(23,\) for 24 places; change both at once with replace_\(\)",
    },
    replace_parameter: dict.fromkeys(STORAGES, r"0\.\w+ is another parameter than the one that optimizer and"),
    assign_state: dict.fromkeys(STORAGES, r"0\.\w+ is another parameter .* load_state_dict without assign=True"),
}


@both
@pytest.mark.parametrize("intrude", INTRUSIONS)
@pytest.mark.parametrize("by", ["optimizer.step", "sparsifier.step"])
def test_a_weight_that_was_replaced_or_resized_is_found_before_anything_moves(
    storage: str, intrude: Callable[[Any], None], by: str
) -> None:
    model, optimizer, sparsifier = trained(storage, steps=3)
    optimizer.zero_grad()
    backward(model)
    if by == "sparsifier.step":
        optimizer.step()
    intrude(model[0])
    before = all_of(model, optimizer), sparsifier.num_steps, copied(sparsifier._generator.get_state())
    with pytest.raises(RuntimeError, match=INTRUSIONS[intrude][storage]):
        optimizer.step() if by == "optimizer.step" else sparsifier.step()

    after = all_of(model, optimizer), sparsifier.num_steps, sparsifier._generator.get_state()
    assert first_difference(after, before) is None


def test_a_masked_weight_that_was_resized_is_found_in_the_backward_pass_already() -> None:
    model, optimizer, _ = trained("masked")
    for parameter in model[2].parameters():
        parameter.data = parameter.data[:-1].clone()
    optimizer.zero_grad()

    with pytest.raises(RuntimeError, match=r"2\.weight has shape \(3, 8\) now, its mask \(4, 8\)"):
        backward(model)


def test_a_loaded_model_of_another_count_needs_the_state_of_its_optimizer() -> None:
    model, optimizer, sparsifier = trained("truly sparse")
    other = nn.Sequential(*(SparseLinear(*sizes, sparsity=0.7, generator=seeded()) for sizes in ((6, 8), (8, 4))))
    held = AdamW(other.parameters(), lr=0.01)
    keys = [key for key in model.state_dict() if key.startswith("2.")]
    state = dict(zip(keys, list(other.double().state_dict().values())[-len(keys) :], strict=True))
    model.load_state_dict(model.state_dict() | state)
    optimizer.zero_grad()
    backward(model)
    before = all_of(model, optimizer, sparsifier)
    with pytest.raises(RuntimeError, match=r"2\.values has \d+ active weights where the optimizer's state is of 16"):
        optimizer.step()

    assert first_difference(all_of(model, optimizer, sparsifier), before) is None
    assert not held.state
    # With its state gone, or loaded, it goes on.
    optimizer.state[sparsifier.weights[1].parameter].clear()
    optimizer.step()
    assert len(sparsifier.step()) == 0


@both
def test_what_stays_in_place_may_be_changed_by_anybody(storage: str) -> None:
    model, optimizer, sparsifier = trained(storage)
    for weight in sparsifier.weights:
        weight.parameter.data.mul_(0.5)
    model.load_state_dict(copied(model.state_dict()))
    train(model, optimizer, sparsifier)
    model.float()
    assert [type(weight) for weight in sparsifier.weights] == 2 * [
        MaskedWeight if storage == "masked" else SparseWeight
    ]
    assert sparsifier.num_steps == 3
