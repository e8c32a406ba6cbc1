from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import Sparsifier, budgets, counts, recipes, to_sparse
from gossamer.models import mlp
from gossamer.recipes.seeded_values import SeededValues
from gossamer.reparametrizations import finish_
from gossamer.weights import MaskedWeight

from .network import SIZES, seeded


def part_of(layer: nn.Module) -> SeededValues:
    part = layer.get_submodule("parametrizations.weight.0")
    assert isinstance(part, SeededValues)
    return part


def begin(model: nn.Module, *, momentum: float = 0.0, **settings: Any) -> tuple[SGD, Sparsifier]:
    optimizer = SGD(model.parameters(), lr=1.0, momentum=momentum)
    settings = {"sparsity": 0.5, **settings}
    return optimizer, recipes.dropback(model, optimizer, generator=seeded(), **settings)


def step(model: nn.Module, optimizer: SGD, sparsifier: Sparsifier, inputs: Tensor) -> None:
    optimizer.zero_grad()
    model(inputs).sum().backward()
    optimizer.step()
    sparsifier.step()


def test_the_farthest_are_tracked_and_the_others_go_back_to_their_first_value() -> None:
    layer = nn.Linear(4, 1, bias=False)
    optimizer, sparsifier = begin(layer)
    (weight,) = sparsifier.weights
    first = part_of(layer).first(torch.zeros(1, 4))[0]

    # The gradient of weight j is input j, and a step goes that far.
    step(layer, optimizer, sparsifier, torch.tensor([[1.0, -5.0, 4.0, 2.0]]))
    assert weight.indices().tolist() == [1, 2]
    torch.testing.assert_close(layer.weight[0], first + torch.tensor([0.0, 5.0, -4.0, 0.0]))

    # 4 - 3 is nearer to the start than a single step of 2; the step of weight 0 before this was forgotten.
    step(layer, optimizer, sparsifier, torch.tensor([[1.5, 0.0, -3.0, 2.0]]))
    assert weight.indices().tolist() == [1, 3]
    torch.testing.assert_close(layer.weight[0], first + torch.tensor([0.0, 5.0, 0.0, -2.0]))


def test_it_is_a_dense_run_whose_other_weights_are_reset_by_hand() -> None:
    model = mlp(SIZES, generator=seeded()).double()
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = recipes.dropback(model, optimizer, sparsity=0.9, generator=seeded())
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    twin = mlp(SIZES, generator=seeded()).double()
    twins = [layer for layer in twin if isinstance(layer, nn.Linear)]
    first = [layer.weight.detach().clone() for layer in layers]
    for mine, theirs in zip(twins, first, strict=True):
        mine.weight.data = theirs.clone()
    plain = SGD(twin.parameters(), lr=0.1)
    num_tracked = counts.num_active(10 * 16 + 16 * 12 + 12 * 4, 0.9)
    for number in range(8):
        for network, held in ((model, optimizer), (twin, plain)):
            held.zero_grad()
            network(torch.randn(8, SIZES[0], generator=seeded(number)).double()).pow(2).mean().backward()
            held.step()
        sparsifier.step()
        moved = torch.cat([(layer.weight - was).abs().flatten() for layer, was in zip(twins, first, strict=True)])
        least = moved.topk(num_tracked).values.min()
        for layer, was in zip(twins, first, strict=True):
            layer.weight.data = torch.where((layer.weight - was).abs() >= least, layer.weight, was)

        assert sparsifier.num_active() == num_tracked
        for one, other in zip(layers, twins, strict=True):
            torch.testing.assert_close(one.weight, other.weight)
            torch.testing.assert_close(one.bias, other.bias)


def test_what_is_stored_is_the_tracked_values_and_a_seed() -> None:
    model = mlp(SIZES, generator=seeded())
    optimizer, sparsifier = begin(model, sparsity=0.9)
    for number in range(3):
        step(model, optimizer, sparsifier, torch.randn(4, SIZES[0], generator=seeded(number)))
    inputs = torch.randn(4, SIZES[0], generator=seeded(9))
    saved = model.state_dict()
    stored = [value for key, value in saved.items() if key.endswith("original")]
    assert sum(int(value.count_nonzero()) for value in stored) <= sparsifier.num_active()
    restored = mlp(SIZES, generator=seeded(5))
    recipes.dropback(restored, SGD(restored.parameters(), lr=0.1), sparsity=0.5, generator=seeded(6))
    restored.load_state_dict(saved)

    assert torch.equal(restored(inputs), model(inputs))


def test_first_values_have_the_size_that_the_weights_had_and_differ_between_layers() -> None:
    layers = [nn.Linear(300, 200), nn.Linear(300, 250)]
    sizes = [float(layer.weight.detach().square().mean().sqrt()) for layer in layers]
    begin(nn.ModuleList(layers))
    found = [layer.weight.detach() for layer in layers]

    for size, values in zip(sizes, found, strict=True):
        assert float(values.square().mean().sqrt()) == pytest.approx(size, rel=0.02)
    assert not torch.allclose(found[0][0], found[1][0])


def test_first_values_that_decay_to_zero_leave_a_sparse_network() -> None:
    model = mlp(SIZES, generator=seeded())
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    optimizer, sparsifier = begin(model, sparsity=0.8, init_decay=0.5, zero_step=4, budget=budgets.uniform)
    first = part_of(layers[0]).first(layers[0].weight.detach())
    for number in range(5):
        step(model, optimizer, sparsifier, 0.1 * torch.randn(4, SIZES[0], generator=seeded(number)))
        (weight, *_) = sparsifier.weights
        assert isinstance(weight, MaskedWeight)
        expected = first * (0.5 ** (number + 1) if number < 3 else 0.0)
        torch.testing.assert_close(layers[0].weight[~weight.mask], expected[~weight.mask])
    sparsifier.finalize()
    inputs = torch.randn(4, SIZES[0], generator=seeded(9))
    before = model(inputs)
    held = [weight.parameter for weight in sparsifier.weights]
    for layer in layers:
        finish_(layer)

    assert all(layer.weight is parameter for layer, parameter in zip(layers, held, strict=True))
    torch.testing.assert_close(model(inputs), before)
    torch.testing.assert_close(to_sparse(model)(inputs), before)
    assert [int(parameter.count_nonzero()) for parameter in held] == [32, 38, 10]


def test_frozen_weights_stay_tracked() -> None:
    layer = nn.Linear(4, 1, bias=False)
    optimizer, sparsifier = begin(layer, freeze_step=1)
    step(layer, optimizer, sparsifier, torch.tensor([[1.0, -5.0, 4.0, 2.0]]))
    before = layer.weight.detach().clone()

    step(layer, optimizer, sparsifier, torch.tensor([[9.0, 0.0, -4.0, 9.0]]))

    assert sparsifier.weights[0].indices().tolist() == [1, 2]
    torch.testing.assert_close(layer.weight, before + torch.tensor([[0.0, 0.0, 4.0, 0.0]]))


def test_the_optimizer_forgets_what_is_not_tracked_and_keeps_the_rest() -> None:
    layer = nn.Linear(4, 1, bias=False)
    optimizer, sparsifier = begin(layer, momentum=0.9)

    step(layer, optimizer, sparsifier, torch.tensor([[1.0, -5.0, 4.0, 2.0]]))

    (state,) = optimizer.state.values()
    assert state["momentum_buffer"].tolist() == [[0.0, -5.0, 4.0, 0.0]]


def test_tied_layers_have_the_same_first_values() -> None:
    model = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    model[2].weight = model[0].weight
    optimizer, sparsifier = begin(model)
    for number in range(3):
        step(model, optimizer, sparsifier, torch.randn(4, 5, generator=seeded(number)))

    assert torch.equal(model[0].weight, model[2].weight)  # type: ignore[arg-type]
    assert sparsifier.num_active() == 12


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"sparsity": 1.0}, r"sparsity must lie in \[0, 1\)"),
        ({"init_decay": 1.5}, r"init_decay must lie in \[0, 1\], got 1.5"),
        ({"freeze_step": 0}, "freeze_step must be 1 or more, got 0"),
        ({"zero_step": 0}, "zero_step must be 1 or more, got 0"),
    ],
)
def test_settings_out_of_range_change_nothing(settings: dict[str, Any], text: str) -> None:
    model = mlp(SIZES, generator=seeded())
    before = {name: value.clone() for name, value in model.state_dict().items()}

    with pytest.raises(ValueError, match=text):
        begin(model, **settings)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_layers_are_refused_before_anything_changes() -> None:
    model = nn.GRU(4, 4)
    before = [parameter.clone() for parameter in model.parameters()]

    with pytest.raises(ValueError, match="weight_ih_l0 is of GRU, which cannot be parametrized here"):
        begin(model)
    assert all(torch.equal(now, was) for now, was in zip(model.parameters(), before, strict=True))


def test_a_compiled_model_follows_the_first_values_as_they_decay() -> None:
    runs = []
    for compiled in (False, True):
        model = mlp([8, 6, 3], generator=seeded()).double()
        optimizer, sparsifier = begin(model, init_decay=0.5, zero_step=3)
        torch.compiler.reset()
        forward = torch.compile(model, backend="aot_eager") if compiled else model
        for number in range(5):
            optimizer.zero_grad()
            forward(0.1 * torch.randn(4, 8, generator=seeded(number)).double()).pow(2).sum().backward()
            optimizer.step()
            sparsifier.step()
        runs.append([parameter.detach() for parameter in model.parameters()])

    torch.testing.assert_close(runs[0], runs[1])
