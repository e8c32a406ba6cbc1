"""Truly sparse convolutions and embeddings as weights: what holds for linear layers holds for them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import growth, recipes, sparsify, to_sparse
from gossamer import nn as gnn
from gossamer.weights import SparseWeight, num_open, prunable
from gossamer.weights.tiles import TILE_BYTES

from .storage import dense_gradient

# Of torch's own, where more zeros are on one side than on the other.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
MAKERS: list[Any] = [
    lambda: (nn.Conv2d(4, 6, 3, padding=1, stride=2), torch.randn(2, 4, 7, 6)),
    lambda: (nn.Conv2d(4, 6, (1, 3), dilation=(1, 2)), torch.randn(4, 5, 6)),
    lambda: (nn.Conv2d(6, 9, 2, groups=3, padding="same"), torch.randn(2, 6, 4, 5)),
    lambda: (nn.Conv2d(4, 8, 3, groups=4), torch.randn(2, 4, 7, 6)),
    lambda: (nn.Conv1d(4, 6, 3, padding=1, groups=2), torch.randn(2, 4, 9)),
    lambda: (nn.Conv1d(4, 6, 2), torch.randn(4, 9)),
    lambda: (nn.Embedding(9, 5, padding_idx=2), torch.tensor([[1, 2], [8, 1]])),
    lambda: (nn.Embedding(9, 5), torch.tensor([3, 3, 0])),
]
every = pytest.mark.parametrize("make", MAKERS, ids=lambda make: str(make()[0]))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pair(make: Any) -> tuple[Any, Any, Tensor]:
    """Return a dense layer half of whose weights are zero, the truly sparse one, and an input, in float64."""
    torch.manual_seed(0)
    dense, inputs = make()
    dense.double().weight.data.mul_(torch.rand(dense.weight.shape, generator=seeded()) < 0.5)
    return dense, to_sparse(dense), inputs.double() if inputs.is_floating_point() else inputs


def watched(layer: nn.Module) -> SparseWeight:
    weight = prunable(layer)[0]
    assert isinstance(weight, SparseWeight)
    weight.attach()
    weight.watch()
    return weight


@every
@pytest.mark.parametrize("tile_bytes", [1, 5 * 8, 40 * 8, 1 << 21])
def test_the_dense_gradient_is_that_of_the_dense_layer_however_it_is_cut(
    make: Any, tile_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.weights.tiles.TILE_BYTES", tile_bytes)
    dense, sparse, inputs = pair(make)
    weight = watched(sparse)
    for layer in (sparse, dense):
        # Used twice, and what comes behind works in place.
        (nn.functional.relu(layer(inputs), inplace=True).sum() + layer(inputs.clone()).pow(2).sum()).backward()

    assert weight.shape == tuple(dense.get_parameter("weight").shape)
    assert max(tile.nbytes for _, tile in weight.gradient_tiles()) <= max(8, tile_bytes)
    torch.testing.assert_close(dense_gradient(weight).view(weight.shape), dense.weight.grad)


@every
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_gradient_at_some_entries_is_that_of_the_dense_layer(make: Any, share: float) -> None:
    dense, sparse, inputs = pair(make)
    weight = watched(sparse)
    for layer in (sparse, dense):
        (layer(inputs).sum() + layer(inputs.clone()).pow(2).sum()).backward()
    entries = (torch.rand(dense.weight.numel(), generator=seeded()) < share).nonzero().flatten()

    torch.testing.assert_close(weight.gradient_at(entries), dense.weight.grad.flatten()[entries])


@every
def test_half_precision_is_recorded_too(make: Any) -> None:
    dense, sparse, inputs = pair(make)
    weight = watched(sparse.bfloat16())
    inputs = inputs.bfloat16() if inputs.is_floating_point() else inputs
    sparse(inputs).sum().backward()
    dense(inputs.double() if inputs.is_floating_point() else inputs).sum().backward()

    found = dense_gradient(weight).double().view(weight.shape)
    torch.testing.assert_close(found, dense.weight.grad, rtol=0.03, atol=0.03)
    some = torch.arange(0, found.numel(), 3)
    torch.testing.assert_close(weight.gradient_at(some).double(), found.flatten()[some], rtol=0.03, atol=0.03)


@every
def test_indices_values_and_changes_are_those_of_the_flattened_weight(make: Any) -> None:
    dense, sparse, _ = pair(make)
    weight = prunable(sparse)[0]
    flat = dense.weight.detach().flatten()
    assert weight.indices().tolist() == flat.nonzero().flatten().tolist()
    assert torch.equal(weight.values(), flat[flat != 0])
    kept, grown = torch.arange(0, weight.num_active, 2), (flat == 0).nonzero().flatten()[-3:]

    expected = torch.zeros_like(flat)
    expected[weight.indices()[kept]] = weight.values()[kept]
    expected[grown] = 7.0
    weight.change_(kept, grown, torch.full((3,), 7.0), None)
    assert torch.equal(sparse.to_dense().weight.detach().flatten(), expected)


@every
@pytest.mark.parametrize("name", ["set", "rigl"])
def test_topologies_of_single_layers_move_and_keep_their_counts(make: Any, name: str) -> None:
    _, sparse, inputs = pair(make)
    optimizer = SGD(sparse.parameters(), lr=0.1, momentum=0.9)
    generator = seeded()
    if name == "set":
        sparsifier = recipes.set_(sparse, optimizer, update_every=1, stop_step=9, generator=generator)
    else:
        sparsifier = recipes.rigl(sparse, optimizer, update_every=1, stop_step=9, generator=generator)
    weight = sparsifier.weights[0]
    before, count = weight.indices().tolist(), weight.num_active
    for _ in range(4):
        optimizer.zero_grad()
        sparse(inputs).pow(2).sum().backward()
        optimizer.step()
        sparsifier.step()

    assert weight.num_active == count
    assert weight.indices().tolist() != before
    momentum = optimizer.state[weight.parameter]["momentum_buffer"]
    assert momentum.shape == (count,)


def test_the_row_of_padding_stays_zero_whatever_grows() -> None:
    table = gnn.SparseEmbedding(4, 6, sparsity=0.5, padding_idx=1, generator=seeded())
    optimizer = SGD(table.parameters(), lr=0.1)
    sparsifier = recipes.set_(table, optimizer, update_every=1, stop_step=20, generator=seeded(), drop_fraction=0.5)
    for _ in range(12):
        optimizer.zero_grad()
        table(torch.tensor([0, 1, 2, 3])).pow(2).sum().backward()
        optimizer.step()
        sparsifier.step()

        assert table.num_active == 12
        assert not table(torch.tensor([1])).any()


def test_a_full_table_with_a_row_of_padding_stays_as_it_is() -> None:
    table = gnn.SparseEmbedding(4, 3, sparsity=0.0, padding_idx=1, generator=seeded())
    optimizer = SGD(table.parameters(), lr=0.1)
    sparsifier = recipes.set_(table, optimizer, update_every=1, stop_step=9, generator=seeded())
    table(torch.tensor([0, 1])).sum().backward()
    optimizer.step()

    assert sparsifier.step() == [("values", 0, 0)]
    assert num_open(sparsifier.weights[0]) == 9


def test_random_growth_passes_over_active_entries_of_closed_rows() -> None:
    closed, none = torch.tensor([False, True, False]), torch.zeros(2, dtype=torch.bool)

    grown = growth.random(torch.tensor([0, 2, 3, 4]), closed, none, count=2, generator=seeded())

    assert grown.tolist() == [1, 5]


def test_prunable_lists_truly_sparse_layers_of_all_kinds() -> None:
    model = nn.ModuleDict({"conv": nn.Conv2d(2, 3, 3), "rnn": nn.LSTM(3, 4), "table": nn.Embedding(5, 4)})
    sparse = sparsify(model, sparsity=0.5, generator=seeded())
    sparse["table"] = gnn.SparseEmbedding(5, 4, sparsity=0.5, generator=seeded())  # type: ignore[operator]

    found = prunable(sparse)

    names = ["conv.values", "rnn.input_0.values", "rnn.hidden_0.values", "table.values"]
    assert [weight.name for weight in found] == names
    assert [weight.shape for weight in found] == [(3, 2, 3, 3), (16, 3), (16, 4), (5, 4)]


def test_the_gradient_of_a_wide_convolution_comes_in_tiles_of_bounded_size() -> None:
    # 4.7 million entries, where the layer holds one in a thousand.
    layer = gnn.SparseConv2d(512, 1024, 3, sparsity=0.999, generator=seeded())
    weight = watched(layer)
    layer(torch.randn(1, 512, 3, 3)).sum().backward()

    sizes = [tile.nbytes for _, tile in weight.gradient_tiles()]
    assert max(sizes) <= TILE_BYTES
    assert sum(sizes) == 4 * 512 * 1024 * 9
