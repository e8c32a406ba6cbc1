from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import Sparsifier, budgets, recipes
from gossamer.models import mlp
from gossamer.nn import SparseLinear
from gossamer.weights import MaskedWeight

from .network import seeded

RECIPES: dict[str, Callable[[nn.Module, SGD, float | None], Sparsifier]] = {
    "static": lambda model, held, sparsity: recipes.static(model, held, generator=seeded(), sparsity=sparsity),
    "set_": lambda model, held, sparsity: recipes.set_(
        model, held, update_every=2, stop_step=20, generator=seeded(), sparsity=sparsity
    ),
    "rigl": lambda model, held, sparsity: recipes.rigl(
        model, held, update_every=2, stop_step=20, generator=seeded(), sparsity=sparsity
    ),
    "gmp": lambda model, held, sparsity: recipes.gmp(
        model, held, sparsity=sparsity or 0.8, update_every=2, stop_step=6
    ),
}
every_recipe = pytest.mark.parametrize("name", RECIPES)


def run(name: str, model: nn.Module, inputs: Tensor, *, sparsity: float | None, steps: int = 7) -> Sparsifier:
    """Train a model for some steps by a recipe and check at each that its count is held."""
    optimizer = SGD(model.parameters(), lr=0.01, momentum=0.9)
    sparsifier = RECIPES[name](model, optimizer, sparsity)
    before = sparsifier.num_active()
    for _ in range(steps):
        optimizer.zero_grad()
        model(inputs).pow(2).mean().backward()
        optimizer.step()
        sparsifier.step()

        assert name == "gmp" or sparsifier.num_active() == before
        for weight in sparsifier.weights:
            if isinstance(weight, MaskedWeight):
                assert not weight.parameter.detach()[~weight.mask].any()
    return sparsifier


class Scrambled(nn.Module):
    """Layers that are used in another order than they are listed in, one twice, one beside the others."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(8, 3)
        self.middle = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.entrance = nn.Linear(5, 8)
        self.shortcut = nn.Linear(5, 8, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu(self.entrance(inputs))
        hidden = self.middle[0](self.middle[1](self.middle[0](hidden)))
        result: Tensor = self.output(hidden + self.shortcut(inputs))
        return result


@every_recipe
def test_a_users_own_module_with_layers_in_any_order_works(name: str) -> None:
    sparsifier = run(name, Scrambled(), torch.randn(4, 5, generator=seeded(1)), sparsity=0.5)

    names = ["output", "middle.0", "middle.1", "entrance", "shortcut"]
    assert [weight.name for weight in sparsifier.weights] == [f"{layer}.weight" for layer in names]


@every_recipe
def test_convolutions_are_made_sparse(name: str) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Conv2d(6, 8, 2, groups=2), nn.Flatten(),
        nn.Linear(8, 4),
    )  # fmt: skip

    sparsifier = run(name, model, torch.randn(4, 3, 4, 4, generator=seeded(1)), sparsity=0.8)

    shapes = {weight.name: weight.shape for weight in sparsifier.weights}
    budget = budgets.uniform if name == "gmp" else budgets.er if name == "set_" else budgets.erk
    assert {weight.name: weight.num_active for weight in sparsifier.weights} == budget(shapes, sparsity=0.8)


@every_recipe
def test_a_truly_sparse_model_with_a_dense_output_layer_needs_no_sparsity(name: str) -> None:
    model = mlp([100, 80, 2], sparsity=0.9, generator=seeded())
    assert [type(layer) for layer in (model[0], model[2])] == [SparseLinear, nn.Linear]

    sparsifier = run(name, model, torch.randn(4, 100, generator=seeded(1)), sparsity=None)

    if name != "gmp":
        assert sparsifier.weights[1].num_active == 160


def test_the_readme_example_starts() -> None:
    model = mlp([784, 1000, 1000, 1000, 10], sparsity=0.95, generator=seeded())
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
    sparsifier = recipes.rigl(model, optimizer, stop_step=20_000, generator=seeded())

    # a twentieth of 784,000 and twice 1,000,000 and 10,000
    assert sparsifier.num_active() == 139_700


@every_recipe
@pytest.mark.parametrize("sizes", [[3, 1, 1, 2], [1, 1], [1, 5, 1]], ids=str)
def test_layers_of_one_neuron_train(name: str, sizes: list[int]) -> None:
    for sparsity in (0.3, 0.9):
        run(name, mlp(sizes, generator=seeded()), torch.ones(4, sizes[0]), sparsity=sparsity)


@every_recipe
def test_a_layer_without_active_weights_and_a_full_one_train(name: str) -> None:
    def budget(shapes: dict[str, tuple[int, ...]], *, sparsity: float) -> dict[str, int]:
        return {"0": 0, "1": 20, "2": 6}

    model = mlp([6, 4, 5, 3], sparsity=0.5, budget=budget, generator=seeded())
    assert isinstance(model[2], nn.Linear)
    model[2] = SparseLinear.from_dense(model[2])
    sparsifier = run(name, model, torch.randn(4, 6, generator=seeded(1)), sparsity=None)

    if name != "gmp":
        assert [weight.num_active for weight in sparsifier.weights] == [0, 20, 6]
    assert sparsifier.weights[0].num_active == 0


def test_masks_are_drawn_to_the_budget_and_values_scaled_to_the_live_fan_in() -> None:
    model = mlp([40, 30, 20], generator=seeded())
    before = [parameter.detach().clone() for parameter in model.parameters() if parameter.dim() == 2]
    sparsifier = recipes.static(model, SGD(model.parameters(), lr=0.1), generator=seeded(), sparsity=0.9)

    shapes = {weight.name: weight.shape for weight in sparsifier.weights}
    assert {weight.name: weight.num_active for weight in sparsifier.weights} == budgets.erk(shapes, sparsity=0.9)
    for weight, old in zip(sparsifier.weights, before, strict=True):
        assert isinstance(weight, MaskedWeight)
        live = weight.mask.sum(1, keepdim=True)
        expected = old * (old.shape[1] / live.clamp(min=1)).sqrt() * weight.mask
        torch.testing.assert_close(weight.parameter.detach(), expected)


def test_a_sparsity_of_zero_keeps_every_value() -> None:
    model = mlp([6, 5, 4], generator=seeded())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sparsifier = recipes.static(model, SGD(model.parameters(), lr=0.1), generator=seeded(), sparsity=0.0)

    assert sparsifier.num_active() == 50
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_sparsity_beside_truly_sparse_layers_is_that_of_the_dense_ones() -> None:
    model = nn.Sequential(SparseLinear(10, 10, sparsity=0.5, generator=seeded()), nn.ReLU(), nn.Linear(10, 10))
    sparsifier = recipes.static(model, SGD(model.parameters(), lr=0.1), generator=seeded(), sparsity=0.8)

    assert [weight.num_active for weight in sparsifier.weights] == [50, 20]
