from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer import statistics, to_sparse
from gossamer.nn import SparseLinear
from gossamer.statistics.inputs import unfolded

from .conftest import Mixed

Data = list[tuple[Tensor, Tensor]]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 5, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (4, 3, 9, 8)),
        (nn.Conv2d(3, 5, 3, padding="same", padding_mode="circular"), (4, 3, 9, 8)),
        (nn.Conv2d(3, 5, 3, padding="same"), (3, 9, 8)),
        (nn.Conv1d(3, 5, 4, stride=2, padding=2), (4, 3, 11)),
        (nn.Linear(6, 5), (2, 3, 6)),
    ],
)
def test_a_layer_is_its_weight_times_unfolded_inputs(layer: Any, shape: tuple[int, ...]) -> None:
    layer = layer.double()
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = unfolded(layer, inputs)

    product = rows @ layer.weight.flatten(1).T + layer.bias
    outputs = layer(inputs)
    axis = outputs.dim() - 1 if isinstance(layer, nn.Linear) else outputs.dim() - len(layer.kernel_size) - 1

    assert torch.allclose(product, outputs.movedim(axis, -1).reshape(-1, 5), rtol=1e-12, atol=1e-12)


def test_moments_are_sums_over_samples_and_positions(model: Mixed, data: Data) -> None:
    found = statistics.input_moments(model, {"hidden": model.hidden, "conv": model.conv}, data, gram=True)
    model.eval()
    inputs = torch.cat([inputs for inputs, _ in data])
    rows = model.act(model.norm(model.conv(inputs))).flatten(1).detach()

    assert found["hidden"].num_rows == 11
    assert found["conv"].num_rows == 11 * 9
    assert found["hidden"].gram is not None
    assert torch.allclose(found["hidden"].gram, rows.T @ rows, rtol=1e-12)
    assert torch.allclose(found["hidden"].square, rows.square().sum(0), rtol=1e-12)


def test_a_module_that_is_called_twice_sees_both_inputs() -> None:
    shared = nn.Linear(2, 2, bias=False)
    shared.weight.data.copy_(2 * torch.eye(2))

    found = statistics.input_moments(
        nn.Sequential(shared, shared), {"0": shared}, [torch.tensor([[1.0, 3.0]])], gram=False
    )

    assert found["0"].square.tolist() == [1.0 + 4.0, 9.0 + 36.0]
    assert found["0"].num_rows == 2


def test_half_precision_inputs_do_not_overflow() -> None:
    layer = nn.Linear(1, 1).bfloat16()

    found = statistics.input_moments(layer, {"": layer}, [torch.full((4, 1), 1e30).bfloat16()], gram=False)

    assert float(found[""].square) == pytest.approx(4e60, rel=0.01)


def test_a_truly_sparse_layer_is_measured_as_a_dense_one() -> None:
    layer = SparseLinear(4, 3, sparsity=0.5, generator=torch.Generator().manual_seed(0))

    found = statistics.input_moments(layer, {"": layer}, [torch.ones(5, 4)], gram=True)

    assert found[""].square.tolist() == [5.0] * 4


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 4, (3, 2), padding=(2, 1), stride=(1, 2), dilation=(2, 1)), (2, 3, 7, 6)),
        (nn.Conv2d(3, 4, 3, padding="same"), (3, 7, 6)),
        (nn.Conv1d(3, 4, 3, padding=1, stride=2), (2, 3, 9)),
    ],
    ids=str,
)
def test_a_truly_sparse_convolution_is_measured_as_a_dense_one(layer: nn.Module, shape: tuple[int, ...]) -> None:
    layer.get_parameter("weight").data.view(-1)[::2] = 0
    sparse, batch = to_sparse(layer), torch.randn(shape, generator=torch.Generator().manual_seed(0))

    expected = statistics.input_moments(layer, {"": layer}, [batch], gram=True)[""]
    found = statistics.input_moments(sparse, {"": sparse}, [batch], gram=True)[""]

    assert found.num_rows == expected.num_rows
    torch.testing.assert_close(found.gram, expected.gram)


@pytest.mark.parametrize(
    ("layer", "inputs", "message"),
    [
        (nn.Conv2d(4, 4, 1, groups=2), torch.ones(1, 4, 1, 1), "a convolution of 2 groups, cannot be measured"),
        (nn.LSTM(2, 2), torch.ones(1, 1, 2), "of LSTM, cannot be measured"),
        (nn.Linear(2, 2), torch.full((1, 2), float("nan")), "hold NaN or infinity"),
    ],
)
def test_what_cannot_be_measured_is_named_and_no_hook_stays(layer: nn.Module, inputs: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        statistics.input_moments(layer, {"layer.weight": layer}, [inputs], gram=False)

    assert not layer._forward_pre_hooks


def test_a_layer_that_is_never_called_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    spare = nn.Linear(2, 2)

    with pytest.raises(ValueError, match=r"does not call the layer of spare\.weight"):
        statistics.input_moments(model, {"spare.weight": spare}, [torch.ones(1, 2)], gram=False)
