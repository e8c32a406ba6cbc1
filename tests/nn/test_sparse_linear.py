import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer import topology
from gossamer.nn import SparseLinear

from .build import inputs, live, masked, same, sparse, tensors

_SHAPES = [(6,), (5, 6), (2, 3, 6), (2, 3, 2, 6), (0, 6), (1, 6), (2, 0, 6), (200, 6)]


def _gradients(layer: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    x = x.clone().requires_grad_()
    output = layer(x)
    parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
    return (output, *torch.autograd.grad((output * weights).sum(), [x, *parameters]))


@pytest.mark.parametrize("shape", _SHAPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_output_and_gradients_equal_those_of_the_dense_layer(
    dtype: torch.dtype, bias: bool, shape: tuple[int, ...]
) -> None:
    layer = sparse(bias=bias, dtype=dtype)
    x = inputs(*shape, dtype=dtype)

    found, expected = _gradients(layer, x), list(_gradients(layer.to_dense(), x))
    expected[2] = live(layer, expected[2])

    torch.testing.assert_close(list(found), expected)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 20), st.floats(0, 0.99), st.integers(0, 2**31))
def test_every_small_layer_equals_its_mask(rows: int, columns: int, batch: int, sparsity: float, seed: int) -> None:
    layer = sparse(columns, rows, sparsity=sparsity, seed=seed, dtype=torch.float64)
    weight = torch.zeros(rows, columns, dtype=torch.float64)
    weight[topology.to_mask(layer.topology)] = layer.values.detach()
    x = inputs(batch, columns, seed=seed, dtype=torch.float64)

    assert layer.num_active == min(rows * columns, max(1, round(rows * columns * (1 - sparsity))))
    torch.testing.assert_close(layer(x), nn.functional.linear(x, weight, layer.bias))


@pytest.mark.parametrize("wanted", range(8))
def test_whatever_is_frozen_the_other_gradients_stay_the_same(wanted: int) -> None:
    layer, x = sparse(), inputs(5, 6)
    full = _gradients(layer, x)[1:]
    assert layer.bias is not None
    parts = [x.requires_grad_(bool(wanted & 1)), layer.values.requires_grad_(bool(wanted & 2))]
    parts.append(layer.bias.requires_grad_(bool(wanted & 4)))

    output = layer(x)
    if wanted:
        (output * torch.linspace(-1, 1, 20).view(5, 4)).sum().backward()

    assert output.requires_grad == bool(wanted)
    for place, part in enumerate(parts):
        expected = full[place] if wanted >> place & 1 else None
        assert part.grad is None if expected is None else torch.allclose(part.grad, expected)  # type: ignore[arg-type]


def _views() -> list[Tensor]:
    x = inputs(10, 12)
    return [x.t()[:6].t(), x[::2, ::2], x[:1, :6].expand(7, 6), x[:, 3:9], x.view(2, 5, 12).transpose(0, 1)[..., 6:]]


@pytest.mark.parametrize("x", _views())
def test_an_input_need_not_be_contiguous(x: Tensor) -> None:
    layer = sparse()

    assert not x.is_contiguous()
    torch.testing.assert_close(_gradients(layer, x)[:2], _gradients(layer.to_dense(), x)[:2])


def test_the_next_layer_finds_its_input_in_place() -> None:
    output = sparse(6, 8)(inputs(5, 6))

    assert output.t().is_contiguous()
    assert nn.functional.relu(output).t().is_contiguous()


def test_eval_mode_changes_nothing() -> None:
    layer, x = sparse(), inputs(5, 6)

    assert torch.equal(layer(x), layer.eval()(x))


@pytest.mark.parametrize("shape", [(), (5,), (6, 5), (2, 6, 7)])
def test_an_input_of_another_size_is_refused_by_value(shape: tuple[int, ...]) -> None:
    text = rf"input has shape \({', '.join(map(str, shape))},?\); its last axis must be in_features = 6"
    with pytest.raises(ValueError, match=text):
        sparse()(torch.zeros(shape))


def test_an_input_of_another_dtype_is_refused_by_value() -> None:
    with pytest.raises(ValueError, match=r"input is torch.float64 but the weight is torch.float32"):
        sparse()(inputs(5, 6).double())


@pytest.mark.parametrize("sparsity", [1.0, -0.1, math.nan])
def test_a_sparsity_out_of_range_is_refused(sparsity: float) -> None:
    with pytest.raises(ValueError, match="sparsity must lie in"):
        sparse(sparsity=sparsity)


@pytest.mark.parametrize(("columns", "rows"), [(-1, 4), (4, -1), (-2, -3)])
def test_a_negative_size_is_refused_by_value(columns: int, rows: int) -> None:
    with pytest.raises(ValueError, match=rf"cannot have shape \({rows}, {columns}\)"):
        sparse(columns, rows)


def test_first_values_fill_the_bound_of_their_live_fan_in() -> None:
    layer = SparseLinear(400, 300, sparsity=0.9, generator=torch.Generator().manual_seed(0))
    fan_in = layer.row_pointers.diff().double()
    unit = layer.values.detach() / (6 / fan_in).sqrt().repeat_interleave(fan_in.long())

    # Uniform in [-1, 1]: mean 0, variance 1/3, fourth moment 1/5, each within five standard errors of 12,000 draws.
    assert unit.numel() == 12_000
    assert 0.999 < float(unit.abs().max()) <= 1.0 + 1e-6
    assert abs(float(unit.mean())) < 5 * (1 / 3 / 12_000) ** 0.5
    assert abs(float(unit.square().mean()) - 1 / 3) < 5 * ((1 / 5 - 1 / 9) / 12_000) ** 0.5
    assert layer.bias is not None
    assert not layer.bias.any()


def test_the_seed_decides_the_layer_and_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    one, again, other = (tensors(sparse(40, 30, seed=seed)) for seed in (0, 0, 1))

    assert same(one, again)
    assert not torch.equal(one["column_indices"], other["column_indices"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_the_dtype_is_the_one_asked_for_or_the_default_of_torch(dtype: torch.dtype) -> None:
    assert {parameter.dtype for parameter in sparse(dtype=dtype).parameters()} == {dtype}
    assert {parameter.dtype for parameter in sparse().parameters()} == {torch.float32}


def test_input_gradients_pass_gradcheck_to_second_order() -> None:
    layer = sparse(dtype=torch.float64)
    x = inputs(2, 3, 6, dtype=torch.float64).requires_grad_()

    assert torch.autograd.gradcheck(layer, (x,))
    assert torch.autograd.gradgradcheck(layer, (x,), fast_mode=True)


def test_a_layer_used_twice_gathers_both_gradients() -> None:
    layer = sparse(6, 6, dtype=torch.float64)
    dense, x = masked(layer), inputs(5, 6, dtype=torch.float64)

    layer(torch.tanh(layer(x))).square().sum().backward()
    dense(torch.tanh(dense(x))).square().sum().backward()

    assert layer.values.grad is not None
    assert dense.weight.grad is not None
    torch.testing.assert_close(layer.values.grad, live(layer, dense.weight.grad))


def test_two_layers_may_hold_one_parameter() -> None:
    layer, x = sparse(6, 6, bias=False, dtype=torch.float64), inputs(5, 6, dtype=torch.float64)
    twin = SparseLinear.from_topology(layer.topology, layer.values)
    twin.values = layer.values
    model = nn.Sequential(layer, nn.Tanh(), twin)

    tied = torch.autograd.grad(model(x).square().sum(), layer.values)
    twice = torch.autograd.grad(layer(torch.tanh(layer(x))).square().sum(), layer.values)

    assert len(list(model.parameters())) == 1
    torch.testing.assert_close(tied, twice)


def test_the_text_of_a_layer_tells_its_sizes() -> None:
    text = repr(sparse())

    assert text == "SparseLinear(in_features=6, out_features=4, bias=True, num_active=12, sparsity=0.5)"
