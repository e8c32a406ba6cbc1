"""What the SynFlow paper promises, on the authors' six-layer network: 119,400 weights, at most 10^4.30 to one."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer import budgets, criteria


def six_layers() -> nn.Sequential:
    sizes = [784, 100, 100, 100, 100, 100, 10]
    model = gs.models.mlp(sizes, generator=torch.Generator().manual_seed(0))
    for layer in model:
        if isinstance(layer, nn.Linear):
            # Biases as torch draws them: what the authors' code cannot cope with.
            layer.bias.data.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(1))
    return model


def synflow(model: nn.Module, power: float, *, rounds: int, shape: tuple[int, ...] = (784,)) -> Any:
    return gs.prune(
        model,
        sparsity=1 - 10**-power,
        criterion=criteria.synflow,
        budget=budgets.global_,
        rounds=rounds,
        data=[torch.zeros(1, *shape)],
    )


def kept(model: nn.Module) -> list[int]:
    return [int(weight.count_nonzero()) for weight in model.parameters() if weight.dim() > 1]


@pytest.mark.parametrize(("power", "total"), [(1, 11_940), (3, 119), (4, 12), (4.29, 6)])
def test_a_hundred_rounds_empty_no_layer_up_to_the_largest_possible_sparsity(power: float, total: int) -> None:
    small = synflow(six_layers(), power, rounds=100)

    assert sum(kept(small)) == total
    assert min(kept(small)) >= 1


@pytest.mark.parametrize("power", [1, 3])
def test_one_round_empties_layers(power: float) -> None:
    assert 0 in kept(synflow(six_layers(), power, rounds=1))


def test_a_linear_schedule_empties_layers_where_the_exponential_one_does_not() -> None:
    small: Any = six_layers()
    final = 1 - 1e-3
    for done in range(1, 101):
        small = gs.prune(
            small,
            sparsity=final * done / 100,
            criterion=criteria.synflow,
            budget=budgets.global_,
            data=[torch.zeros(1, 784)],
        )

    assert 0 in kept(small)


def test_every_weight_that_stays_lies_on_a_path_near_the_largest_possible_sparsity() -> None:
    small = synflow(six_layers(), 4, rounds=100)
    flow, gradients = gs.statistics.Flow(small, weights_of(small), example=torch.zeros(1, 784)).measure()

    assert flow > 0
    assert all(bool((gradients[name][weight != 0] > 0).all()) for name, weight in weights_of(small).items())


def test_layer_totals_agree_after_many_rounds_too() -> None:
    small = synflow(six_layers(), 2, rounds=30)
    weights = weights_of(small)
    flow, gradients = gs.statistics.Flow(small, weights, example=torch.zeros(1, 784)).measure()

    for name, weight in weights.items():
        assert math.isclose(float((gradients[name] * weight.detach().double().abs()).sum()), flow, rel_tol=1e-12)


def test_with_shortcuts_a_path_stays_though_layers_may_be_empty() -> None:
    model = gs.models.resnet(8, num_classes=10, width=4, generator=torch.Generator().manual_seed(0))

    small = synflow(model, 3, rounds=100, shape=(3, 32, 32))

    assert gs.statistics.Flow(small, weights_of(small), example=torch.zeros(1, 3, 32, 32)).measure()[0] > 0


def test_a_flow_of_zero_stops_with_an_error_instead_of_removing_everything() -> None:
    model = six_layers()

    with pytest.raises(ValueError, match="no path from input to output is left"):
        synflow(model, 3, rounds=3)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight for name, weight in model.named_parameters() if weight.dim() > 1}
