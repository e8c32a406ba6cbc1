"""What the methods share that hide weights and let them come back."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from gossamer import Sparsifier, budgets, recipes, to_sparse
from gossamer.models import mlp
from gossamer.weights import MaskedWeight

from .network import seeded

PHASES: dict[str, Any] = {"start_step": 2, "stop_step": 8, "num_sparse_steps": 2, "num_dense_steps": 2}
RECIPES: dict[str, Callable[..., Sparsifier]] = {
    "dsd": lambda model, held: recipes.dsd(model, held, sparsity=0.5, start_step=2, stop_step=12),
    "iht": lambda model, held: recipes.iht(model, held, sparsity=0.5, **PHASES),
    "iht from zero": lambda model, held: recipes.iht(model, held, sparsity=0.5, restore_values=False, **PHASES),
    "ac_dc": lambda model, held: recipes.ac_dc(model, held, sparsity=0.5, **PHASES),
    "dns": lambda model, held: recipes.dns(model, held, deviations=0.0, stop_step=8, update_every=2),
    "dnw": lambda model, held: recipes.dnw(model, held, sparsity=0.5),
    "swat": lambda model, held: recipes.swat(model, held, sparsity=0.5, update_every=2),
    "dpf": lambda model, held: recipes.dpf(model, held, sparsity=0.5, full_step=4, stop_step=8, update_every=2),
}
every_recipe = pytest.mark.parametrize("name", RECIPES)


def train(model: nn.Module, optimizer: Any, sparsifier: Sparsifier, inputs: Tensor, steps: int = 10) -> None:
    """Train and check that after each step what is absent is zero."""
    for _ in range(steps):
        optimizer.zero_grad()
        model(inputs).pow(2).mean().backward()
        optimizer.step()
        sparsifier.step()
        for weight in sparsifier.weights:
            assert isinstance(weight, MaskedWeight)
            assert not weight.parameter.detach()[~weight.mask].any()


def run(name: str, model: nn.Module, inputs: Tensor, **settings: Any) -> Sparsifier:
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9, weight_decay=0.01)
    sparsifier = RECIPES[name](model, optimizer)
    train(model, optimizer, sparsifier, inputs, **settings)
    return sparsifier


@every_recipe
def test_a_truly_sparse_layer_is_refused_before_anything_changes(name: str) -> None:
    model = mlp([10, 8, 4], sparsity=0.5, budget=budgets.uniform, generator=seeded())

    with pytest.raises(ValueError, match=r"0.values is truly sparse, but this method .* gs.to_dense"):
        RECIPES[name](model, SGD(model.parameters(), lr=0.1))


@every_recipe
def test_convolutions_in_float64_and_frozen_layers(name: str) -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 2, groups=2), nn.Flatten(), nn.Linear(6, 3)
    ).double()  # fmt: skip
    model[5].requires_grad_(False)
    before = model.get_parameter("5.weight").detach().clone()

    sparsifier = run(name, model, torch.randn(4, 2, 4, 4, generator=seeded(), dtype=torch.float64))

    assert [weight.name for weight in sparsifier.weights] == ["0.weight", "3.weight"]
    assert 0 < sparsifier.num_active() < 72 + 48
    assert torch.equal(model.get_parameter("5.weight"), before)
    assert model.get_parameter("0.weight").dtype == torch.float64


@every_recipe
def test_a_tied_weight_has_one_mask(name: str) -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    model[2].weight = model.get_parameter("0.weight")

    sparsifier = run(name, model, torch.randn(8, 6, generator=seeded()))

    assert [weight.name for weight in sparsifier.weights] == ["0.weight"]
    assert model.get_parameter("2.weight") is model.get_parameter("0.weight")
    assert int((model.get_parameter("2.weight") != 0).sum()) == sparsifier.num_active() < 36


@every_recipe
def test_after_finalize_zeros_are_exact_and_the_model_is_the_users_again(name: str) -> None:
    model = mlp([10, 8, 4], generator=seeded())
    inputs = torch.randn(8, 10, generator=seeded())
    sparsifier = run(name, model, inputs)
    active = sparsifier.num_active()
    sparsifier.finalize()

    assert sum(int((weight.parameter != 0).sum()) for weight in sparsifier.weights) == active < 112
    assert to_sparse(model).get_parameter("0.values").numel() < 80
    optimizer = SGD(model.parameters(), lr=0.1)
    model(inputs).pow(2).mean().backward()
    optimizer.step()
    assert sum(int((weight.parameter != 0).sum()) for weight in sparsifier.weights) > active


@pytest.mark.parametrize("name", ["iht", "dns", "dpf"])
def test_a_state_with_latent_values_fits_no_sparsifier_without(name: str) -> None:
    saved = run(name, mlp([6, 5, 4], generator=seeded()), torch.ones(2, 6)).state_dict()
    model = mlp([6, 5, 4], generator=seeded())
    other = RECIPES["iht from zero"](model, SGD(model.parameters(), lr=0.1))

    with pytest.raises(ValueError, match=r"0.weight keeps latent values on one side alone"):
        other.load_state_dict(saved)


def test_dsd_ends_dense_and_between_its_steps_it_is_sparse() -> None:
    model = mlp([10, 8, 4], generator=seeded())
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
    sparsifier = recipes.dsd(model, optimizer, sparsity=0.5, start_step=2, stop_step=5)
    inputs = torch.randn(8, 10, generator=seeded())
    counts = []
    for _ in range(7):
        train(model, optimizer, sparsifier, inputs, steps=1)
        counts.append(sparsifier.num_active())
    sparsifier.finalize()

    assert counts == [112, 56, 56, 56, 112, 112, 112]
    assert model.get_parameter("0.weight").all()


def test_ac_dc_competes_over_the_whole_model() -> None:
    model = mlp([10, 8, 4], generator=seeded())
    model.get_parameter("2.weight").data.fill_(100.0)
    optimizer = SGD(model.parameters(), lr=1e-9)
    sparsifier = RECIPES["ac_dc"](model, optimizer)
    train(model, optimizer, sparsifier, torch.randn(8, 10, generator=seeded()), steps=2)

    assert [weight.num_active for weight in sparsifier.weights] == [24, 32]


def test_iht_restores_what_was_dropped_and_what_survived_has_learned() -> None:
    model = nn.Linear(8, 4, bias=False)
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = recipes.iht(model, optimizer, sparsity=0.5, **PHASES)
    inputs = torch.randn(8, 8, generator=seeded())
    train(model, optimizer, sparsifier, inputs, steps=1)
    model(inputs).pow(2).mean().backward(inputs=[model.weight])
    optimizer.step()
    dense = model.weight.detach().clone()
    sparsifier.step()
    weight = sparsifier.weights[0]
    assert isinstance(weight, MaskedWeight)
    mask = weight.mask.clone()
    train(model, optimizer, sparsifier, inputs, steps=2)

    assert sparsifier.num_active() == 32
    assert torch.equal(model.weight[~mask], dense[~mask])
    assert not torch.equal(model.weight[mask], dense[mask])


def test_dpf_equals_a_plain_dense_copy_with_the_gradient_of_the_masked_one() -> None:
    inputs = torch.randn(8, 6, generator=seeded(), dtype=torch.float64)
    targets = torch.randn(8, 4, generator=seeded(1), dtype=torch.float64)
    model = nn.Linear(6, 4, bias=False, dtype=torch.float64)
    dense, mask, momentum = model.weight.detach().clone(), torch.ones(4, 6, dtype=torch.float64), None
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.05)
    sparsifier = recipes.dpf(
        model, optimizer, sparsity=0.5, full_step=6, stop_step=20, update_every=3, budget=budgets.uniform
    )
    for step in range(1, 25):
        optimizer.zero_grad()
        (model(inputs) - targets).pow(2).mean().backward()
        optimizer.step()
        sparsifier.step()

        pruned = (dense * mask).requires_grad_()
        (inputs @ pruned.t() - targets).pow(2).mean().backward()
        assert pruned.grad is not None
        gradient = pruned.grad + 0.05 * dense
        momentum = gradient if momentum is None else 0.9 * momentum + gradient
        dense = dense - 0.1 * momentum
        if (step <= 20 and step % 3 == 0) or step == 20:
            kept = {3: 14, 6: 12}.get(step, 12)  # round(24 (1 - 0.5 (1 - (1 - 1/2)^3))) = round(13.5)
            mask = torch.zeros(24, dtype=torch.float64)
            mask[dense.abs().flatten().argsort(descending=True)[:kept]] = 1.0
            mask = mask.view(4, 6)
        torch.testing.assert_close(model.weight.detach(), dense * mask)
    weight = sparsifier.weights[0]
    assert isinstance(weight, MaskedWeight)
    torch.testing.assert_close(weight.dense_values(), dense)


@pytest.mark.parametrize("name", ["dns", "dpf"])
def test_hidden_weights_learn_on(name: str) -> None:
    model = mlp([10, 8, 4], generator=seeded())
    optimizer = AdamW(model.parameters(), lr=0.01)
    sparsifier = RECIPES[name](model, optimizer)
    inputs = torch.randn(8, 10, generator=seeded())
    train(model, optimizer, sparsifier, inputs, steps=4)
    weight = sparsifier.weights[0]
    assert isinstance(weight, MaskedWeight)
    assert weight.latent is not None
    before = weight.latent.clone()
    train(model, optimizer, sparsifier, inputs, steps=1)

    assert weight.latent[~weight.mask].all()
    assert (weight.latent != before)[~weight.mask].all()


@pytest.mark.parametrize("name", ["dns", "dpf"])
def test_a_closure_is_refused(name: str) -> None:
    model = mlp([10, 8, 4], generator=seeded())
    optimizer = SGD(model.parameters(), lr=0.1)
    RECIPES[name](model, optimizer)

    with pytest.raises(RuntimeError, match=r"optimizer.step was given a closure, which would see 0.weight without"):
        optimizer.step(lambda: 0.0)
    with pytest.raises(RuntimeError, match=r"closure"):
        optimizer.step(closure=lambda: 0.0)
    optimizer.step()


def test_dpf_may_not_stop_before_it_is_sparse() -> None:
    model = mlp([10, 8, 4], generator=seeded())

    with pytest.raises(ValueError, match=r"stop_step must be 9 \(full_step\) or more, got 8"):
        recipes.dpf(model, SGD(model.parameters(), lr=0.1), sparsity=0.5, full_step=9, stop_step=8)
