"""Packed sequences: outputs, states and gradients are those of torch's dense layers, whatever the lengths."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

import gossamer as gs
from gossamer import recipes
from gossamer.kernels import unroll
from gossamer.nn import SparseGRU, SparseLinear

from .recurrent import KINDS, OPTIONS, normal, outcome, pair, states, weight_grads

LENGTHS = [[4, 1, 3, 4, 2], [5, 5, 5], [1], [1, 1], [6, 2], [3, 3, 1, 1]]


class Packing(nn.Module):
    """A layer between padded sequences and packed outputs."""

    def __init__(self, layer: nn.Module, lengths: list[int]) -> None:
        super().__init__()
        self.layer, self.lengths = layer, torch.tensor(lengths)

    def forward(self, padded: Tensor, states: Any = None) -> tuple[Tensor, Any]:
        ordered = bool((self.lengths.diff() <= 0).all())
        packed = pack_padded_sequence(padded, self.lengths, batch_first=True, enforce_sorted=ordered)
        outputs, last = self.layer(packed, states)
        for part, given in zip(outputs[1:], packed[1:], strict=True):
            assert part is given
        return outputs.data, last


def compare(kind: str, options: dict[str, Any], lengths: list[int], *, first: bool) -> None:
    dense, sparse, masks = pair(kind, options)
    inputs = normal(len(lengths), max(lengths), 5)
    given = states(dense, kind, len(lengths)) if first else None
    expected, found = (outcome(Packing(layer, lengths), inputs, given) for layer in (dense, sparse))

    for theirs, ours in zip((*expected[0], *expected[1]), (*found[0], *found[1]), strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    for grad, wanted in weight_grads(dense, sparse, masks):
        assert grad is not None
        torch.testing.assert_close(grad, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("road", ["kernel", "hooks", "steps"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_results_and_all_gradients_are_torchs(
    kind: str, options: dict[str, Any], road: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if road == "steps":
        monkeypatch.setattr(unroll, "is_plain", lambda *tensors: False)
    if road == "hooks":
        hook = nn.modules.module.register_module_forward_hook(lambda *args: None)
    compare(kind, options, [4, 1, 3, 4, 2], first=True)
    if road == "hooks":
        hook.remove()


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_set_of_lengths_equals_torchs(kind: str, lengths: list[int], first: bool) -> None:
    compare(kind, {"bidirectional": True}, lengths, first=first)


def test_rigl_grows_by_all_steps_of_all_sequences() -> None:
    layer = SparseGRU(5, 12, sparsity=0.7, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    sparsifier = recipes.rigl(layer, optimizer, update_every=2, stop_step=7, generator=torch.Generator())
    packed = pack_sequence([normal(length, 5, dtype=torch.float32) for length in (2, 6, 3)], enforce_sorted=False)
    assert isinstance(layer.hidden_0, SparseLinear)
    before = layer.hidden_0.topology.column_indices.clone()

    for _ in range(4):
        optimizer.zero_grad()
        layer(packed)[1].square().sum().backward()
        optimizer.step()
        sparsifier.step()
    assert not torch.equal(layer.hidden_0.topology.column_indices, before)


def test_what_does_not_fit_is_named() -> None:
    layer = pair("gru", {})[1]
    packed = pack_sequence([normal(3, 5), normal(2, 5)])

    with pytest.raises(ValueError, match=r"packed data has shape \(5, 4\).*input_size = 5"):
        layer(packed._replace(data=packed.data[:, :4]))
    with pytest.raises(ValueError, match=r"a first state has shape \(1, 3, 37\)"):
        layer(packed, normal(1, 3, 37))
    with pytest.raises(ValueError, match=r"float64"):
        layer(packed, normal(1, 2, 37, dtype=torch.float32))


@pytest.mark.parametrize(("rows", "sizes"), [(3, [2, 2]), (5, [2, 2]), (2, [3]), (6, [2, 3, 1]), (4, [4, 0]), (0, [])])
def test_sizes_that_no_packing_makes_are_refused(rows: int, sizes: list[int]) -> None:
    packed = PackedSequence(torch.ones(rows, 5, dtype=torch.float64), torch.tensor(sizes, dtype=torch.int64))

    with pytest.raises(ValueError, match=r"batch_sizes are \[.*they must descend"):
        pair("lstm", {})[1](packed)


def test_accelerate_takes_them() -> None:
    layer = SparseGRU(5, 12, sparsity=0.7, generator=torch.Generator().manual_seed(0)).eval()
    packed = pack_sequence([normal(3, 5, dtype=torch.float32), normal(2, 5, dtype=torch.float32)])

    fast, _ = gs.accelerate(layer, packed, seconds=0.05, cache=False)
    assert torch.allclose(fast(packed)[0].data, layer(packed)[0].data, atol=1e-5)


def test_autocast_and_evaluation_take_them_too() -> None:
    layer = SparseGRU(5, 12, sparsity=0.7, generator=torch.Generator().manual_seed(0)).eval()
    packed = pack_sequence([normal(3, 5, dtype=torch.bfloat16), normal(2, 5, dtype=torch.bfloat16)])

    with torch.no_grad(), torch.autocast("cpu"):
        outputs, hidden = layer(packed)
    assert isinstance(outputs, PackedSequence)
    assert (outputs.data.shape, hidden.shape) == ((5, 12), (1, 2, 12))
