import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from gossamer import recipes
from gossamer.models import mlp
from gossamer.nn import SparseLinear

from .network import seeded


def pruned() -> nn.Sequential:
    model = mlp([6, 5, 4], generator=seeded())
    model.get_parameter("0.weight").data[model.get_parameter("0.weight").abs() < 0.4] = 0.0
    return model


@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_zeros_stay_zero_and_all_else_is_trained(optimizer: type[SGD] | type[AdamW]) -> None:
    model = pruned()
    zeros, before = model.get_parameter("0.weight") == 0, model.get_parameter("2.weight").detach().clone()
    held = optimizer(model.parameters(), lr=0.01, weight_decay=0.1)
    sparsifier = recipes.hold(model, held)
    for step in range(3):
        held.zero_grad()
        model(torch.randn(8, 6, generator=seeded(step))).pow(2).mean().backward()
        held.step()
        assert sparsifier.step() == []

    assert 0 < int(zeros.sum()) < 30
    assert torch.equal(model.get_parameter("0.weight") == 0, zeros)
    assert (model.get_parameter("2.weight") != before).all()
    assert sparsifier.num_active() == 50 - int(zeros.sum())


def test_a_truly_sparse_layer_keeps_its_topology() -> None:
    model = nn.Sequential(SparseLinear(6, 5, sparsity=0.5, generator=seeded()), nn.ReLU(), nn.Linear(5, 4))
    sparsifier = recipes.hold(model, SGD(model.parameters(), lr=0.1))

    assert [weight.num_active for weight in sparsifier.weights] == [15, 20]


def test_a_model_without_a_zero_is_refused() -> None:
    model = mlp([6, 5, 4], generator=seeded())

    with pytest.raises(ValueError, match=r"no weight of Sequential is zero, so there is nothing to hold"):
        recipes.hold(model, SGD(model.parameters(), lr=0.1))
    recipes.hold(pruned_after(model), SGD(model.parameters(), lr=0.1))


def pruned_after(model: nn.Sequential) -> nn.Sequential:
    model.get_parameter("2.weight").data[0, 0] = 0.0
    return model


def reader(*, sparse: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(5, 4, padding_idx=0, sparse=sparse), nn.Linear(4, 2))


def test_pruned_tables_are_held_and_padding_is_not_a_pruned_weight() -> None:
    model = reader()
    with pytest.raises(ValueError, match="no weight of Sequential is zero, so there is nothing to hold"):
        recipes.hold(model, SGD(model.parameters(), lr=0.1))
    model.get_parameter("0.weight").data[2:, 1] = 0.0
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = recipes.hold(model, optimizer)
    before = model.get_parameter("0.weight").detach().clone()
    model(torch.arange(5)).pow(2).mean().backward()
    optimizer.step()
    sparsifier.step()
    after = model.get_parameter("0.weight").detach()

    assert [weight.name for weight in sparsifier.weights] == ["1.weight", "0.weight"]
    assert torch.equal(after == 0, before == 0)
    assert not (after == before)[before != 0].any()


def test_a_pruned_table_with_sparse_gradients_is_refused() -> None:
    model = reader(sparse=True)
    model.get_parameter("0.weight").data[2:, 1] = 0.0

    with pytest.raises(ValueError, match="0 has sparse gradients, which cannot be masked; make it with sparse=False"):
        recipes.hold(model, SGD(model.parameters(), lr=0.1))
