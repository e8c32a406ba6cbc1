"""Rewinding of truly sparse convolutions, embeddings and recurrent layers."""

import pytest
import torch
from torch import nn

from gossamer import prune, to_dense, to_sparse
from gossamer.nn import SparseConv2d, SparseEmbedding
from gossamer.rewinding import reinitialize_, rewind_, shuffle_masks_, snapshot


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(9, 6, padding_idx=0), nn.Conv2d(1, 4, 3), nn.Flatten(2), nn.Conv1d(4, 4, 2))


def trained(model: nn.Module) -> nn.Module:
    """Return a pruned copy with other values."""
    small = prune(model, sparsity=0.5)
    for parameter in small.parameters():
        parameter.data.mul_(3.0)
    return small


@pytest.mark.parametrize("then", ["dense", "truly sparse"])
def test_truly_sparse_layers_go_back_to_the_values_of_a_snapshot(then: str) -> None:
    first = network()
    kept = to_sparse(prune(first, sparsity=0.2)) if then == "truly sparse" else first
    earlier = snapshot(kept)
    sparse = to_sparse(trained(first))

    rewind_(sparse, earlier)

    state, early = to_dense(sparse).state_dict(), to_dense(kept).state_dict()
    masks = {name: value != 0 for name, value in trained(first).state_dict().items()}
    assert all(torch.equal(state[name], early[name] * masks[name]) for name in state if "weight" in name)
    assert all(torch.equal(state[name], early[name]) for name in state if "bias" in name)


def test_a_dense_model_takes_a_truly_sparse_snapshot() -> None:
    model = network()
    earlier = snapshot(to_sparse(prune(model, sparsity=0.5)))
    changed = trained(model)

    rewind_(changed, earlier)

    expected = prune(model, sparsity=0.5).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in changed.state_dict().items())


def test_a_snapshot_of_other_sizes_is_refused() -> None:
    earlier = snapshot(to_sparse(prune(nn.Sequential(nn.Conv2d(1, 4, 3)), sparsity=0.5)))
    other = to_sparse(prune(nn.Sequential(nn.Conv2d(1, 4, (9, 1))), sparsity=0.5))

    with pytest.raises(ValueError, match=r"has shape \(4, 1, 3, 3\) in the snapshot, \(4, 1, 9, 1\) in the model"):
        rewind_(other, earlier)


def test_controls_draw_new_values_and_places_but_for_embeddings() -> None:
    sparse = to_sparse(trained(network()))
    table, conv = sparse.get_submodule("0"), sparse.get_submodule("1")
    assert isinstance(table, SparseEmbedding)
    assert isinstance(conv, SparseConv2d)
    before = {name: value.clone() for name, value in sparse.state_dict().items()}
    count = conv.num_active

    shuffle_masks_(sparse, generator=seeded(3))
    assert conv.num_active == count
    assert not torch.equal(conv.column_indices, before["1.column_indices"])
    assert torch.equal(table.column_indices, before["0.column_indices"])
    reinitialize_(sparse, generator=seeded(4))
    assert not torch.equal(conv.values, before["1.values"])
    assert conv.bias is not None
    assert not conv.bias.any()
    assert torch.equal(table.values, before["0.values"])
