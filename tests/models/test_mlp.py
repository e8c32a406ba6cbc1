import math

import pytest
import torch
from torch import nn

from gossamer import budgets
from gossamer.models import mlp
from gossamer.nn import AllReLU, SparseLinear, to_dense


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_sizes_give_the_layers_with_an_activation_between() -> None:
    model = mlp([5, 4, 3, 2], generator=seeded())

    assert [type(module) for module in model] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [tuple(parameter.shape) for parameter in model.parameters()][::2] == [(4, 5), (3, 4), (2, 3)]
    assert model(torch.ones(7, 5)).shape == (7, 2)


def test_two_sizes_give_one_layer_and_no_activation() -> None:
    assert [type(module) for module in mlp([5, 2], generator=seeded(), dropout=0.5, alpha=0.6)] == [nn.Linear]


def test_a_sparse_model_meets_the_budget_to_the_weight() -> None:
    model = mlp([784, 300, 100, 10], sparsity=0.95, generator=seeded())

    kept = budgets.er({"0": (300, 784), "1": (100, 300), "2": (10, 100)}, sparsity=0.95)
    assert [layer.num_active for layer in model if isinstance(layer, SparseLinear)] == list(kept.values())


def test_a_layer_that_the_budget_leaves_dense_is_an_ordinary_linear_layer() -> None:
    model = mlp([100, 50, 10], sparsity=0.5, budget=lambda shapes, *, sparsity: {"0": 7, "1": 500}, generator=seeded())

    assert isinstance(model[0], SparseLinear)
    assert model[0].num_active == 7
    assert type(model[2]) is nn.Linear


def test_the_budget_is_the_callers() -> None:
    model = mlp([40, 30, 20], sparsity=0.75, budget=budgets.uniform, generator=seeded())

    assert [layer.num_active for layer in model if isinstance(layer, SparseLinear)] == [300, 150]


@pytest.mark.parametrize("sparsity", [0.0, 0.9])
def test_values_start_within_the_bound_of_the_live_fan_in_and_biases_at_zero(sparsity: float) -> None:
    first = to_dense(mlp([500, 200, 3], sparsity=sparsity, budget=budgets.uniform, generator=seeded())[:1])
    dense, bias = (parameter.detach() for parameter in first.parameters())

    live = dense.ne(0)
    bound = (6.0 / live.sum(1).clamp(min=1)).sqrt()
    share = dense.abs() / bound[:, None]
    assert 0.99 < float(share.max()) <= 1.0 + 1e-6
    assert float(share[live].mean()) == pytest.approx(0.5, abs=0.01)
    assert not bias.any()


def test_the_signal_keeps_its_scale_through_a_deep_sparse_network() -> None:
    model = mlp([1000] * 5, sparsity=0.95, generator=seeded())
    signal = torch.randn(100, 1000, generator=seeded(1))

    with torch.no_grad():
        ratio = model[:-1](signal).pow(2).mean() / signal.pow(2).mean()
    assert 0.5 < float(ratio) < 2.0


@pytest.mark.parametrize("alpha", [None, 0.6])
def test_each_hidden_activation_drops(alpha: float | None) -> None:
    model = mlp([5, 4, 3, 2], dropout=0.25, alpha=alpha, generator=seeded())

    assert [getattr(module, "dropout", None) for module in model] == [None, 0.25, None, 0.25, None]


def test_alpha_gives_all_relu_that_alternates_from_layer_to_layer() -> None:
    model = mlp([5, 4, 3, 2], alpha=0.6, generator=seeded())

    activations = [module for module in model if isinstance(module, AllReLU)]
    assert [activation(torch.tensor(-1.0)).item() for activation in activations] == pytest.approx([0.6, -0.6])


def test_an_alpha_of_zero_is_not_taken_for_none() -> None:
    assert isinstance(mlp([2, 2, 2], alpha=0.0, generator=seeded())[1], AllReLU)


@pytest.mark.parametrize("sparsity", [0.0, 0.8])
def test_the_seed_decides_the_whole_model_and_nothing_else_does(sparsity: float) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, again, other = (mlp([20, 10, 5], sparsity=sparsity, generator=seeded(s)).state_dict() for s in (1, 1, 2))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), state)


def test_layers_of_one_neuron_train() -> None:
    model = mlp([3, 1, 1, 2], sparsity=0.4, generator=seeded())

    model(torch.ones(4, 3)).sum().backward()

    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("sizes", [[], [5], [5, 0], [0, 5], [5, -1, 2]], ids=str)
def test_sizes_that_make_no_network_are_refused(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="two or more sizes of at least 1"):
        mlp(sizes, generator=seeded())


@pytest.mark.parametrize("dropout", [-0.1, 1.0, math.nan])
def test_a_dropout_outside_its_range_is_refused(dropout: float) -> None:
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\)"):
        mlp([3, 2, 1], dropout=dropout, generator=seeded())


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 95, math.nan])
def test_a_sparsity_outside_its_range_is_refused(sparsity: float) -> None:
    with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\)"):
        mlp([3, 2, 1], sparsity=sparsity, generator=seeded())


@pytest.mark.parametrize("alpha", [math.inf, math.nan])
def test_an_alpha_that_is_no_number_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must be a finite number"):
        mlp([3, 2, 1], alpha=alpha, generator=seeded())
