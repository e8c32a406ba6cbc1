"""What each storage is like inside, on paper."""

import pytest
import torch
from torch import nn

from gossamer import formats
from gossamer.formats.block import SHAPES, BlockLinear, pack
from gossamer.formats.constant_fan_in import FanInLinear
from gossamer.kernels import block
from gossamer.nn import SparseLinear

from .cases import blocks, held, layer_of, neurons


def test_a_block_holds_its_values_column_by_column() -> None:
    weight = torch.tensor([[0.0, 0, 1, 2], [0, 0, 3, 0]])
    layer = SparseLinear.from_dense(_linear(weight))

    packed = pack(layer.topology, layer.values.detach(), (2, 2))

    assert packed.values.tolist() == [1, 3, 2, 0]
    assert packed.columns.tolist() == [2]
    assert packed.pointers.tolist() == [0, 1]


def test_the_last_block_of_a_row_starts_where_it_ends_within_the_inputs() -> None:
    weight = torch.tensor([[0.0, 1, 2], [0, 0, 3]])
    layer = SparseLinear.from_dense(_linear(weight))

    packed = pack(layer.topology, layer.values.detach(), (2, 2))

    assert packed.columns.tolist() == [0, 1]
    assert packed.values.tolist() == [0, 0, 1, 0, 0, 0, 2, 3]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_fill_chooses_the_block(shape: tuple[int, int]) -> None:
    module = held("block", layer_of(blocks(64, 64, shape)))

    assert isinstance(module, BlockLinear)
    expected = shape if shape[0] <= block.most_rows() else module.shape
    assert module.shape[0] == expected[0]
    assert int(module.values.count_nonzero()) == module.values.numel()


def test_constant_fan_in_stores_groups_of_sixteen_outputs() -> None:
    weight = torch.zeros(16, 40)
    weight[:, 3], weight[:, 30], weight[5, 30], weight[5, 31] = 1, 2, 0, 4

    module = formats.LINEAR["constant_fan_in"](SparseLinear.from_dense(_linear(weight)))

    assert isinstance(module, FanInLinear)
    assert module.values.shape == (1, 2, 16)
    assert module.values[0, :, 5].tolist() == [1, 4]
    assert module.indices[0, :, 5].tolist() == [3, 31]
    assert module.indices.dtype == torch.int16


def test_compact_keeps_the_outputs_and_inputs_that_have_a_weight() -> None:
    weight = torch.tensor([[0.0, 0, 0, 0], [0, 1, 0, 2], [0, 0, 0, 3], [0, 0, 0, 0]])

    module = formats.LINEAR["compact"](SparseLinear.from_dense(nn.Linear(4, 4, bias=False), mask=weight != 0))

    # 4 of 16 numbers and 4 places of 8 bytes are 64 bytes, as many as dense.
    assert module is None
    module = formats.LINEAR["compact"](SparseLinear.from_dense(_linear(torch.block_diag(weight, torch.zeros(6, 6)))))
    assert isinstance(module, formats.CompactLinear)
    assert module.weight.tolist() == [[1, 2], [0, 3]]
    assert [part.tolist() for part in (module.rows, module.columns) if part is not None] == [[1, 2], [1, 3]]


@pytest.mark.parametrize(("inputs", "dtype"), [(32_768, torch.int16), (32_769, torch.int32)])
def test_indices_are_as_narrow_as_the_inputs_allow(inputs: int, dtype: torch.dtype) -> None:
    layer = SparseLinear(inputs, 16, sparsity=0.999, generator=torch.Generator())
    module = held("constant_fan_in", layer)

    batch = torch.randn(2, inputs)
    with torch.no_grad():
        assert torch.allclose(module(batch), layer(batch), atol=1e-4)
        assert torch.allclose(module(batch[:1]), layer(batch[:1]), atol=1e-4)
    assert module.indices.dtype == dtype


def test_bytes_count_zeros_inside_blocks_and_what_is_shared_once() -> None:
    module = held("block", layer_of(blocks(64, 64, (8, 8))))
    expected = sum(part.numel() * part.element_size() for part in module.state_dict().values())

    assert formats.held_bytes(module) == expected
    assert formats.held_bytes(nn.Sequential(module, module)) == expected


def test_a_portable_model_trains_and_computes_the_same() -> None:
    layer = layer_of(blocks(64, 64, (8, 8)))
    smaller = held("compact", layer_of(neurons(64, 64)))
    model = nn.Sequential(held("block", layer), nn.ReLU(), held("constant_fan_in", layer), nn.ReLU(), smaller)

    portable = formats.portable(model)
    inputs = torch.randn(3, 64)

    assert torch.allclose(portable(inputs), model(inputs), atol=1e-4)
    portable(inputs).sum().backward()
    assert all(part.grad is not None for part in portable.parameters())
    assert isinstance(model[0], BlockLinear)


def test_a_model_without_such_layers_is_handed_back() -> None:
    model = nn.Sequential(nn.Linear(3, 3))

    assert formats.portable(model) is model


def _linear(weight: torch.Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight.data = weight
    return linear
