import pytest
import torch
from torch import Tensor, nn

from gossamer.nn import SparseLinear
from gossamer.topology import Topology

from .build import inputs, same, sparse, tensors


@pytest.mark.parametrize("bias", [True, False])
def test_a_dense_layer_comes_back_bit_for_bit(bias: bool) -> None:
    dense = nn.Linear(6, 4, bias=bias).eval().requires_grad_(False)
    dense.weight[dense.weight.abs() < 0.2] = 0.0
    before = tensors(dense)
    layer = SparseLinear.from_dense(dense)

    assert same(tensors(layer.to_dense()), before)
    assert same(tensors(dense), before)
    assert layer.num_active == int((dense.weight != 0).sum())
    assert not layer.training
    assert not layer.to_dense().training
    assert not any(parameter.requires_grad for parameter in (*layer.parameters(), *layer.to_dense().parameters()))
    torch.testing.assert_close(layer(inputs(5, 6)), dense(inputs(5, 6)))


def test_a_sparse_layer_comes_back_bit_for_bit() -> None:
    layer = sparse(dtype=torch.float64)

    assert same(tensors(SparseLinear.from_dense(layer.to_dense())), tensors(layer))


def test_a_mask_keeps_zeros_and_leaves_out_the_rest() -> None:
    dense = nn.Linear(3, 2)
    dense.weight.data = torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]])
    layer = SparseLinear.from_dense(dense, mask=torch.tensor([[True, True, False], [False, True, False]]))

    assert layer.values.tolist() == [0.0, 1.0, 0.0]
    assert layer.column_indices.tolist() == [0, 1, 1]
    assert layer.to_dense().weight.tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_conversions_share_no_memory() -> None:
    dense = nn.Linear(6, 4)
    layer = SparseLinear.from_dense(dense)
    back = layer.to_dense()
    pointers = [parameter.data_ptr() for module in (dense, layer, back) for parameter in module.parameters()]

    assert len(set(pointers)) == len(pointers)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")  # nn.Linear says so of itself
@pytest.mark.parametrize(("columns", "rows"), [(0, 3), (3, 0), (0, 0)])
def test_a_layer_without_weights_converts_both_ways(columns: int, rows: int) -> None:
    layer = sparse(columns, rows)

    assert layer.to_dense().weight.shape == (rows, columns)
    assert SparseLinear.from_dense(layer.to_dense()).num_active == 0
    assert layer.sparsity == 0.0


def test_a_mask_of_another_shape_is_refused_by_value() -> None:
    with pytest.raises(ValueError, match=r"mask has shape \(6, 4\), the weight \(4, 6\)"):
        SparseLinear.from_dense(nn.Linear(6, 4), mask=torch.ones(6, 4).bool())


@pytest.mark.parametrize(
    ("values", "bias", "text"),
    [
        (torch.zeros(11), None, r"values have shape \(11,\), the topology needs \(12,\)"),
        (torch.zeros(12, 1), None, r"values have shape \(12, 1\)"),
        (torch.zeros(12), torch.zeros(6), r"bias has shape \(6,\), the layer needs \(4,\)"),
    ],
)
def test_parts_that_do_not_fit_a_topology_are_refused(values: Tensor, bias: Tensor | None, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        SparseLinear.from_topology(sparse().topology, values, bias)


def test_a_corrupt_topology_is_refused() -> None:
    places = sparse().topology
    with pytest.raises(ValueError, match="column_indices run from 1 to 6 of 6 columns"):
        SparseLinear.from_topology(places._replace(column_indices=places.column_indices + 1), torch.zeros(12))


def test_indices_of_64_bits_and_with_gaps_give_the_same() -> None:
    layer = sparse()
    wide = [part.long().repeat_interleave(2)[::2] for part in layer.topology[1:]]
    again = SparseLinear.from_topology(Topology((4, 6), *wide), layer.values, layer.bias)

    (found, expected) = (one(inputs(5, 6)) for one in (again, layer))
    gradients = [torch.autograd.grad(output.sum(), one.values) for output, one in ((found, again), (expected, layer))]

    assert again.permutation.dtype == torch.int64
    assert torch.equal(found, expected)
    assert torch.equal(gradients[0][0], gradients[1][0])


def test_other_weights_take_the_place_of_the_old_in_the_same_parameter() -> None:
    layer, other, x = sparse(), sparse(sparsity=0.25, seed=3, bias=False), inputs(5, 6)
    parameter, bias = layer.values, layer.bias
    assert bias is not None
    layer(x).sum().backward()

    layer.replace_(other.topology, other.values.detach())
    (gradient,) = torch.autograd.grad(layer(x).sum(), parameter)

    assert layer.values is parameter
    assert layer.bias is bias
    assert layer.num_active == gradient.numel() == 18
    assert parameter.grad is None  # one of the old length would break the optimizer's next step
    torch.testing.assert_close(layer(x), other(x) + bias)
