"""Conversion of convolutions, embeddings and recurrent layers; that of linear ones is in test_convert."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer import budgets
from gossamer import nn as gnn
from gossamer.nn import sparsify, to_dense, to_sparse
from gossamer.weights import num_open, prunable

PAIRS = {
    nn.Linear: gnn.SparseLinear,
    nn.Conv2d: gnn.SparseConv2d,
    nn.Conv1d: gnn.SparseConv1d,
    nn.Embedding: gnn.SparseEmbedding,
    nn.RNN: gnn.SparseRNN,
    nn.LSTM: gnn.SparseLSTM,
    nn.GRU: gnn.SparseGRU,
    nn.RNNCell: gnn.SparseRNNCell,
    nn.LSTMCell: gnn.SparseLSTMCell,
    nn.GRUCell: gnn.SparseGRUCell,
}
MAKERS: list[Any] = [
    lambda: (nn.Conv2d(4, 6, 3, padding=1, stride=2), torch.randn(2, 4, 7, 6)),
    lambda: (nn.Conv2d(4, 6, (1, 3), groups=2, bias=False), torch.randn(2, 4, 5, 6)),
    lambda: (nn.Conv2d(4, 8, 3, groups=4, padding="same", dilation=2), torch.randn(2, 4, 7, 6)),
    lambda: (nn.Conv1d(4, 6, 3, padding=1), torch.randn(2, 4, 9)),
    lambda: (nn.Embedding(9, 5, padding_idx=2), torch.tensor([[1, 2], [8, 0]])),
    lambda: (nn.RNN(5, 4, nonlinearity="relu"), torch.randn(3, 2, 5)),
    lambda: (nn.LSTM(5, 4, num_layers=2, bidirectional=True), torch.randn(3, 2, 5)),
    lambda: (nn.GRU(5, 4, batch_first=True, bias=False), torch.randn(3, 2, 5)),
    lambda: (nn.RNNCell(5, 4), torch.randn(3, 5)),
    lambda: (nn.LSTMCell(5, 4), torch.randn(3, 5)),
    lambda: (nn.GRUCell(5, 4, bias=False), torch.randn(3, 5)),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pruned(make: Any) -> tuple[nn.Module, Tensor]:
    """Return a layer half of whose weights are zero, and an input."""
    torch.manual_seed(0)
    layer, inputs = make()
    for name, parameter in layer.named_parameters():
        if "weight" in name:
            parameter.data.mul_(torch.rand(parameter.shape, generator=seeded()) < 0.5)
    return layer, inputs


def first(outputs: Any) -> Tensor:
    result: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return result


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(2), nn.Conv1d(8, 4, 3),
        nn.GRU(34, 6),
    )  # fmt: skip


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: str(make()[0]))
def test_a_layer_with_zeros_becomes_truly_sparse_and_comes_back_with_the_same_bits(make: Any) -> None:
    layer, inputs = pruned(make)
    model = nn.Sequential(layer)

    sparse = to_sparse(model)
    back = to_dense(sparse)

    assert type(sparse.get_submodule("0")) is PAIRS[type(layer)]
    torch.testing.assert_close(first(sparse(inputs)), first(model(inputs)))
    assert type(back.get_submodule("0")) is type(layer)
    assert list(back.state_dict()) == list(model.state_dict())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in back.state_dict().items())
    active = sum(int(value.count_nonzero()) for name, value in model.named_parameters() if "weight" in name)
    assert sum(weight.num_active for weight in prunable(sparse)) == active


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: str(make()[0]))
def test_what_is_frozen_and_what_evaluates_stays_so(make: Any) -> None:
    layer, _ = pruned(make)
    layer.eval().requires_grad_(False)

    for twin in (to_sparse(layer), to_dense(to_sparse(layer))):
        assert not any(parameter.requires_grad for parameter in twin.parameters())
        assert not any(module.training for module in twin.modules())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3, padding_mode="circular"),
        nn.ConvTranspose2d(2, 2, 3),
        nn.Conv3d(2, 2, 3),
        nn.Embedding(4, 3, max_norm=1.0),
        nn.Embedding(4, 3, scale_grad_by_freq=True),
        nn.Embedding(4, 3, sparse=True),
        nn.LSTM(3, 4, proj_size=2),
    ],
    ids=str,
)
def test_a_layer_that_has_no_truly_sparse_one_stays(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        parameter.data.zero_()
    linear = nn.Linear(2, 2)
    linear.weight.data[0] = 0
    model = nn.Sequential(layer, linear)

    assert [type(module) for module in to_sparse(model).children()] == [type(layer), gnn.SparseLinear]
    kinds = [type(module) for module in sparsify(model, sparsity=0.5, generator=seeded()).children()]
    assert kinds == [type(layer), gnn.SparseLinear]


def test_the_row_of_padding_alone_makes_no_table_sparse() -> None:
    table = nn.Embedding(4, 3, padding_idx=1)

    with pytest.raises(ValueError, match="no layer of Embedding holds a zero weight"):
        to_sparse(table)
    table.weight.data[3, 2] = 0
    assert isinstance(to_sparse(table), gnn.SparseEmbedding)


@pytest.mark.parametrize("budget", [budgets.er, budgets.erk, budgets.uniform])
def test_sparsify_meets_the_budget_over_layers_of_all_kinds(budget: budgets.Budget) -> None:
    sparse = sparsify(network(), sparsity=0.6, budget=budget, generator=seeded())

    shapes = {
        "0": (8, 3, 3, 3),
        "2": (8, 1, 3, 3),
        "4": (4, 8, 3),
        "5.weight_ih_l0": (18, 34),
        "5.weight_hh_l0": (18, 6),
    }
    found = [weight.num_active for weight in prunable(sparse)]
    assert found == list(budget(shapes, sparsity=0.6).values())
    assert sparse(torch.randn(2, 3, 10, 10))[0].isfinite().all()


def test_sparsify_scales_what_stays_by_the_live_fan_in() -> None:
    model = network()
    kept, scaled = (
        dict(to_dense(sparsify(model, sparsity=0.6, generator=seeded(), rescale=flag)).named_parameters())
        for flag in (False, True)
    )

    for name, weight in model.named_parameters():
        if "weight" in name:
            mask = kept[name].detach() != 0
            live = mask.flatten(1).sum(1).clamp(min=1).view(-1, *[1] * (mask.dim() - 1))
            assert torch.equal(kept[name].detach(), weight.detach() * mask)
            factor = (mask[0].numel() / live).sqrt()
            torch.testing.assert_close(scaled[name].detach(), weight.detach() * mask * factor)


def test_sparsify_leaves_embeddings_dense_as_prunable_does() -> None:
    model = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 8))

    sparse = sparsify(model, sparsity=0.5, generator=seeded())

    assert [type(module) for module in sparse.children()] == [nn.Embedding, gnn.SparseLinear]
    with pytest.raises(ValueError, match="Embedding has no layer to make sparse, of Linear"):
        sparsify(nn.Embedding(20, 8), sparsity=0.5, generator=seeded())


def test_excluded_layers_of_every_kind_stay_dense() -> None:
    sparse = sparsify(network(), sparsity=0.5, generator=seeded(), exclude=["0", "5"])

    kinds = [type(module) for module in sparse.children() if not isinstance(module, (nn.ReLU, nn.Flatten))]
    assert kinds == [nn.Conv2d, gnn.SparseConv2d, gnn.SparseConv1d, nn.GRU]


def test_shared_parameters_are_refused_by_name() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    model[1].weight = model[0].weight
    tied = nn.ModuleDict({"a": nn.GRU(2, 2), "b": nn.GRU(2, 2)})
    tied["b"].weight_hh_l0 = tied["a"].weight_hh_l0

    with pytest.raises(ValueError, match="the weight of 0 is shared by 0, 1"):
        sparsify(model, sparsity=0.5, generator=seeded())
    with pytest.raises(ValueError, match="the weight_hh_l0 of a is shared by a, b"):
        sparsify(tied, sparsity=0.5, generator=seeded())


def test_a_recurrent_layer_goes_back_as_a_whole_and_a_linear_layer_beside_it_too() -> None:
    model = sparsify(nn.ModuleList([nn.LSTM(4, 3), nn.Linear(3, 2)]), sparsity=0.4, generator=seeded())

    back = to_dense(model)

    assert [type(module) for module in back.modules()][1:] == [nn.LSTM, nn.Linear]


def test_the_values_of_a_converted_convolution_train() -> None:
    sparse = sparsify(nn.Conv2d(2, 3, 3), sparsity=0.5, generator=seeded())
    sparse(torch.randn(2, 2, 5, 5)).square().mean().backward()

    gradient = sparse.get_parameter("values").grad
    assert gradient is not None
    assert gradient.count_nonzero() == gradient.numel() == 27
    assert num_open(prunable(sparse)[0]) == 54
