from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD

from gossamer import Sparsifier, prunable, recipes

from .network import SPARSITY, STORAGES, network, rigl_of, seeded, static_of, topology_of

both = pytest.mark.parametrize("storage", STORAGES)

RECIPES: dict[str, Callable[..., Sparsifier]] = {
    "static": recipes.static,
    "set_": lambda *given, **rest: recipes.set_(*given, update_every=1, stop_step=5, **rest),
    "rigl": lambda *given, **rest: recipes.rigl(*given, stop_step=5, **rest),
    "truly_sparse": lambda *given, **rest: recipes.truly_sparse(
        *given, update_every=1, stop_step=5, prune_start_step=1, **rest
    ),
}


def hooks_of(model: nn.Module, *optimizers: torch.optim.Optimizer) -> int:
    """Count the hooks that a sparsifier could have left."""
    found = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
    found += sum(len(parameter._backward_hooks or {}) for parameter in model.parameters())
    return found + sum(
        len(optimizer._optimizer_step_post_hooks) + len(optimizer._optimizer_step_pre_hooks) for optimizer in optimizers
    )


@both
@pytest.mark.parametrize("name", RECIPES)
def test_an_unfit_optimizer_is_refused_with_nothing_changed(storage: str, name: str) -> None:
    model = network(storage)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    partial = SGD(model[2].parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"the optimizer does not hold 0\.(weight|values); make the optimizer"):
        RECIPES[name](model, partial, generator=seeded(), sparsity=SPARSITY[storage])
    with pytest.raises(ValueError, match="LBFGS keeps its state in one flat vector"):
        RECIPES[name](model, LBFGS(model.parameters()), generator=seeded(), sparsity=SPARSITY[storage])

    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert hooks_of(model, partial) == 0


@both
@pytest.mark.parametrize("same_optimizer", [True, False])
def test_two_sparsifiers_on_one_weight_are_refused_with_nothing_changed(storage: str, same_optimizer: bool) -> None:
    model = network(storage)
    optimizer = SGD(model.parameters(), lr=0.1)
    first = Sparsifier(prunable(model)[1:], optimizer, updates=[], generator=seeded())
    other = optimizer if same_optimizer else SGD(model.parameters(), lr=0.1)
    before = {key: value.clone() for key, value in model.state_dict().items()}, hooks_of(model, optimizer)
    with pytest.raises(ValueError, match=r"another sparsifier holds 2\.(weight|values); call its finalize\(\) first"):
        rigl_of(model, other, storage)

    assert all(torch.equal(value, before[0][key]) for key, value in model.state_dict().items())
    assert hooks_of(model, optimizer) == before[1]
    first.finalize()
    assert hooks_of(model, optimizer, other) == 0
    rigl_of(model, other, storage)


@both
def test_a_finalized_sparsifier_does_no_more(storage: str) -> None:
    model = network(storage)
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = rigl_of(model, optimizer, storage)
    state = sparsifier.state_dict()
    sparsifier.finalize()
    sparsifier.finalize()

    for call in (sparsifier.step, lambda: sparsifier.load_state_dict(state)):
        with pytest.raises(RuntimeError, match="this sparsifier is finalized; make a new one"):
            call()
    assert hooks_of(model, optimizer) == 0


@both
def test_a_missing_gradient_names_the_weight(storage: str) -> None:
    model = network(storage)
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = rigl_of(model, optimizer, storage)
    # Only the first layer takes part.
    model[0](torch.ones(2, 6, dtype=torch.float64)).sum().backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"no gradient of 2\.\w+ was seen") as caught:
        sparsifier.step()

    assert caught.value.__notes__ == [f"while updating {sparsifier.weights[1].name} after step 1"]


@both
def test_a_nan_in_the_gradient_names_the_weight(storage: str) -> None:
    model = network(storage)
    optimizer = SGD(model.parameters(), lr=0.0)
    sparsifier = rigl_of(model, optimizer, storage)
    before = topology_of(sparsifier)
    model(torch.full((2, 6), float("nan"), dtype=torch.float64)).sum().backward()
    # The weights themselves stay numbers: only growth meets the NaN.
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    with pytest.raises(ValueError, match="the gradient holds NaN") as caught:
        sparsifier.step()

    assert caught.value.__notes__ == [f"while updating {sparsifier.weights[0].name} after step 1"]
    assert topology_of(sparsifier) == before


@both
def test_a_nan_among_the_weights_names_the_weight(storage: str) -> None:
    model = network(storage)
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = rigl_of(model, optimizer, storage)
    model(torch.full((2, 6), float("nan"), dtype=torch.float64)).sum().backward()
    optimizer.step()
    with pytest.raises(ValueError, match="scores are NaN") as caught:
        sparsifier.step()

    assert caught.value.__notes__ == [f"while updating {sparsifier.weights[0].name} after step 1"]


@pytest.mark.parametrize("make", [static_of, rigl_of])
def test_a_dense_model_needs_a_sparsity_and_a_truly_sparse_one_none(make: Callable[..., Sparsifier]) -> None:
    for storage, wrong, text in (
        ("masked", "truly sparse", r"0\.weight is dense; say how sparse to make it"),
        ("truly sparse", "masked", r"sparsity=0\.5 has no effect: every weight is truly sparse already"),
    ):
        model = network(storage)
        optimizer = SGD(model.parameters(), lr=0.1)

        with pytest.raises(ValueError, match=text):
            make(model, optimizer, wrong)
        assert hooks_of(model, optimizer) == 0


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"drop_fraction": 1.5}, "drop_fraction must lie in"),
        ({"update_every": 0}, "update_every must be 1 or more"),
        ({"sparsity": 1.0}, "sparsity must lie in"),
        ({"stop_step": 0}, "schedule needs 0 <= start_step < stop_step"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused_with_the_model_unchanged(settings: dict[str, Any], text: str) -> None:
    model = network("masked")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = SGD(model.parameters(), lr=0.1)
    given: dict[str, Any] = {"stop_step": 9, "sparsity": 0.5, "generator": seeded()} | settings
    with pytest.raises(ValueError, match=text):
        recipes.rigl(model, optimizer, **given)

    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert hooks_of(model, optimizer) == 0
