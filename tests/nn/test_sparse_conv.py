import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer import topology
from gossamer.kernels import conv_on_cpu, conv_plan
from gossamer.nn import SparseConv1d, SparseConv2d

from .build import inputs, same, tensors

Layer = SparseConv1d | SparseConv2d
# A warning of torch's about its own dense layer.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
_SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "padding": {"padding": 1},
    "stride": {"stride": 2, "padding": 1},
    "same": {"padding": "same", "dilation": 2},
    "same, even kernel": {"kernel_size": 4, "padding": "same"},
    "valid": {"padding": "valid", "kernel_size": 1},
    "groups": {"groups": 2, "bias": False},
}
_PAIRS: dict[str, dict[str, Any]] = {
    "pairs": {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 2), "dilation": (1, 3)},
}


@pytest.fixture(autouse=True)
def _few_tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One size of tile, so that little is compiled."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(conv_plan, "_HEIGHTS", (2,))
    monkeypatch.setattr(conv_plan, "_WIDTHS", (1,))
    conv_on_cpu.forget_plans()
    yield
    conv_on_cpu.forget_plans()
    torch.set_num_threads(before)


def _sparse(
    dimensions: int = 2, *, sparsity: float = 0.5, seed: int = 0, kernel_size: Any = 3, **settings: Any
) -> Layer:
    """A layer of 4 to 6 channels with a bias that is not zero, so that forgetting it shows."""
    generator = torch.Generator().manual_seed(seed)
    kind = SparseConv2d if dimensions == 2 else SparseConv1d
    layer = kind(4, 6, kernel_size, sparsity=sparsity, generator=generator, **settings)
    if layer.bias is not None:
        layer.bias.data.normal_(generator=generator)
    return layer


def _images(dimensions: int = 2, *, dtype: torch.dtype = torch.float32) -> Tensor:
    return inputs(3, 4, *(11, 9)[-dimensions:], dtype=dtype)


def _gradients(layer: Any, x: Tensor) -> tuple[Tensor, ...]:
    x = x.clone().requires_grad_()
    output = layer(x)
    parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
    return (output, *torch.autograd.grad((output * weights).sum(), [x, *parameters]))


_CASES = [(dimensions, name) for dimensions in (1, 2) for name in _SETTINGS] + [(2, "pairs")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("dimensions", "name"), _CASES)
def test_output_and_gradients_equal_those_of_the_dense_layer(dimensions: int, name: str, dtype: torch.dtype) -> None:
    layer = _sparse(dimensions, dtype=dtype, **(_SETTINGS | _PAIRS)[name])
    x = _images(dimensions, dtype=dtype)
    dense = layer.to_dense()

    found, expected = _gradients(layer, x), list(_gradients(dense, x))
    expected[2] = expected[2].flatten()[topology.linear_indices(layer.topology)]

    assert layer.num_active == round(dense.weight.numel() / 2) == int((dense.weight != 0).sum())
    torch.testing.assert_close(list(found), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dimensions", "name"), _CASES)
def test_the_dense_layer_has_the_settings_and_turns_back(dimensions: int, name: str) -> None:
    layer = _sparse(dimensions, **(_SETTINGS | _PAIRS)[name])
    dense = layer.to_dense()
    again = type(layer).from_dense(dense)  # type: ignore[arg-type]

    for attribute in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        assert getattr(dense, attribute) == getattr(layer, attribute) == getattr(again, attribute)
    assert layer.padding_mode == dense.padding_mode == "zeros"
    assert same(tensors(again), tensors(layer))


def test_a_mask_keeps_zeros_and_what_was_frozen() -> None:
    conv = nn.Conv2d(4, 6, 3).eval()
    conv.weight.data[0] = 0
    conv.weight.requires_grad_(False)
    mask = torch.zeros(6, 4, 3, 3).bool()
    mask[0, 1, 2, 0] = mask[5, 3, 1, 1] = True

    layer = SparseConv2d.from_dense(conv, mask=mask)

    assert layer.topology.column_indices.tolist() == [15, 31]
    assert layer.values.tolist() == [0.0, float(conv.weight[5, 3, 1, 1])]
    assert (layer.values.requires_grad, layer.training) == (False, False)
    assert layer.bias is not None
    assert layer.bias.requires_grad
    with pytest.raises(ValueError, match=r"mask has shape \(6, 4, 3\), the weight \(6, 4, 3, 3\)"):
        SparseConv2d.from_dense(conv, mask=mask[..., 0])


@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_batch_may_be_missing_or_empty(dimensions: int) -> None:
    layer, x = _sparse(dimensions, padding=1), _images(dimensions)

    torch.testing.assert_close(layer(x[0]), layer(x)[0])
    assert layer(x[:0]).shape == layer(x)[:0].shape
    layer(x[:0]).sum().backward()
    assert layer.values.grad is not None
    assert int(layer.values.grad.count_nonzero()) == 0


def test_the_result_lies_as_that_of_torch() -> None:
    assert _sparse()(_images()).is_contiguous()
    assert _sparse()(_images().contiguous(memory_format=torch.channels_last)).is_contiguous()


@pytest.mark.parametrize("wanted", range(8))
def test_whatever_is_frozen_the_other_gradients_stay_the_same(wanted: int) -> None:
    layer, x = _sparse(), _images()
    full = _gradients(layer, x)[1:]
    assert layer.bias is not None
    parts = [x.requires_grad_(bool(wanted & 1)), layer.values.requires_grad_(bool(wanted & 2))]
    parts.append(layer.bias.requires_grad_(bool(wanted & 4)))

    output = layer(x)
    if wanted:
        (output * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum().backward()

    assert output.requires_grad == bool(wanted)
    for place, part in enumerate(parts):
        expected = full[place] if wanted >> place & 1 else None
        assert part.grad is None if expected is None else torch.allclose(part.grad, expected, atol=1e-5)  # type: ignore[arg-type]


def test_neither_eval_nor_no_grad_changes_the_output() -> None:
    layer, x = _sparse(), _images()
    expected = layer(x)

    with torch.no_grad():
        assert torch.equal(layer.eval()(x), expected)


def test_under_autocast_the_product_is_that_of_the_values() -> None:
    layer, x = _sparse(), _images()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(x.bfloat16())

    assert output.dtype == torch.float32
    assert torch.equal(output, layer(x.bfloat16().float()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_narrow_layer_has_narrow_gradients(dtype: torch.dtype) -> None:
    layer = _sparse(padding=1).to(dtype)
    found = _gradients(layer, _images(dtype=dtype))
    expected = _gradients(layer.float(), _images(dtype=dtype).float())

    assert {part.dtype for part in found} == {dtype}
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.float(), other, rtol=0.03, atol=0.3)


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("sparsity", [0.5, 0.0, 0.95])
def test_a_state_loads_into_a_layer_of_another_topology(sparsity: float, assign: bool, dimensions: int) -> None:
    saved, layer = _sparse(dimensions, sparsity=sparsity, seed=5, stride=2), _sparse(dimensions, stride=2)
    layer(_images(dimensions)).sum().backward()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)

    result = layer.load_state_dict(saved.state_dict(), assign=assign)

    assert not result.missing_keys
    assert not result.unexpected_keys
    assert same(tensors(layer), tensors(saved))
    assert all(map(torch.equal, _gradients(layer, _images(dimensions)), _gradients(saved, _images(dimensions))))
    if not assign:
        assert optimizer.param_groups[0]["params"][0] is layer.values


def test_the_state_holds_values_bias_and_topology_alone() -> None:
    assert list(_sparse().state_dict()) == ["values", "bias", "row_pointers", "column_indices", "weight_shape"]


_STATE = {name: part.clone() for name, part in _sparse(sparsity=0.25, seed=5).state_dict().items()}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"column_indices": _STATE["column_indices"] + 1}, "of 36 columns"),
        ({"column_indices": _STATE["column_indices"].flip(0)}, "must ascend within each row"),
        ({"row_pointers": _STATE["row_pointers"][:-1]}, "6 rows need"),
        ({"values": _STATE["values"][:-1]}, "162 active weights"),
        ({"weight_shape": torch.tensor([6, 9, 2, 2])}, r"of a weight of shape \(6, 9, 2, 2\), this layer's is \(6, 4"),
        ({"bias": torch.zeros(9)}, r"the bias beside them has shape \(9,\)"),
        ({"row_pointers": None}, "must come together"),
        ({"values": None}, "must come together"),
        ({"weight_shape": None}, "must come together"),
    ],
)
def test_a_corrupt_state_is_refused_and_the_layer_left_as_it_was(changes: dict[str, Any], text: str) -> None:
    layer = _sparse()
    before = tensors(layer)
    state = {name: part for name, part in (_STATE | changes).items() if part is not None}

    with pytest.raises(RuntimeError, match=text):
        layer.load_state_dict(state)

    assert same(tensors(layer), before)


def test_copies_and_pickles_are_the_same_and_apart() -> None:
    layer, x = _sparse(padding="same"), _images()
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for twin in (
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(file, weights_only=False),
    ):
        assert same(tensors(twin), tensors(layer))
        assert torch.equal(twin(x), layer(x))
        twin.values.data.zero_()
        assert int(layer.values.count_nonzero()) == layer.num_active


def test_replaced_weights_take_effect_and_the_parameter_stays() -> None:
    layer, other = _sparse(stride=2), _sparse(stride=2, sparsity=0.9, seed=3)
    held = layer.values
    layer(_images()).sum().backward()

    layer.replace_(other.topology, other.values)
    layer.bias = other.bias

    assert layer.values is held
    assert held.grad is None
    assert all(map(torch.equal, _gradients(layer, _images()), _gradients(other, _images())))
    with pytest.raises(ValueError, match="2 values for 22 active weights"):
        layer.replace_(other.topology, other.values[:2])
    with pytest.raises(ValueError, match=r"the topology is \(6, 16\), the layer needs \(6, 36\)"):
        layer.replace_(_sparse(kernel_size=2).topology, _sparse(kernel_size=2).values)


def test_a_layer_learns_what_another_computes() -> None:
    teacher, layer, x = _sparse(), _sparse(), _images()
    layer.values.data.zero_()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        (layer(x) - teacher(x).detach()).square().mean().backward()
        optimizer.step()

    torch.testing.assert_close(layer.values, teacher.values, rtol=0, atol=0.02)


def test_a_compiled_layer_computes_the_same() -> None:
    layer, x = _sparse(padding=1), _images()
    compiled = torch.compile(layer, backend="eager", fullgraph=True)

    assert all(map(torch.equal, _gradients(compiled, x), _gradients(layer, x)))


def test_first_values_follow_the_active_inputs() -> None:
    layer = SparseConv2d(64, 64, 3, sparsity=0.9, generator=torch.Generator().manual_seed(0))
    bound = (6 / layer.row_pointers.diff().double()).sqrt().repeat_interleave(layer.row_pointers.diff())

    assert layer.num_active == round(64 * 64 * 9 * 0.1)
    assert bool((layer.values.abs() <= bound).all())
    assert layer.values.std().item() == pytest.approx((2 / (0.1 * 576)) ** 0.5, rel=0.05)


def test_the_representation_shows_what_is_not_the_default() -> None:
    assert repr(_sparse(padding=1, groups=2)) == (
        "SparseConv2d(4, 6, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), groups=2, bias=True, num_active=54, "
        "sparsity=0.5)"
    )
    assert repr(_sparse(1, dilation=2, bias=False)) == (
        "SparseConv1d(4, 6, kernel_size=(3,), stride=(1,), dilation=(2,), bias=False, num_active=36, sparsity=0.5)"
    )


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"padding_mode": "reflect"}, "padding_mode is 'reflect'; sparse convolutions pad with 'zeros' alone"),
        ({"groups": 3}, "in_channels is 4, out_channels 6, groups 3"),
        ({"kernel_size": 0}, "kernel_size is 0; it must be an integer >= 1"),
        ({"stride": (1, 0)}, r"stride is \(1, 0\)"),
        ({"stride": (1, 1, 1)}, r"stride is \(1, 1, 1\); it must be an integer >= 1, or 2 of them"),
        ({"padding": -1}, "padding is -1; it must be an integer >= 0"),
        ({"padding": "full"}, "padding is 'full'"),
        ({"padding": "same", "stride": 2}, "padding is 'same' with a stride"),
        ({"sparsity": 1.0}, "sparsity must lie in"),
    ],
)
def test_settings_out_of_range_are_refused_by_value(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _sparse(**settings)


def test_a_dense_layer_that_pads_otherwise_is_refused() -> None:
    with pytest.raises(ValueError, match="padding_mode is 'circular'"):
        SparseConv2d.from_dense(nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"))


@pytest.mark.parametrize(
    ("dimensions", "shape", "text"),
    [
        (2, (3, 5, 9, 9), r"input has shape \(3, 5, 9, 9\); it must be \[batch, 4, height, width\]"),
        (2, (4, 9), r"input has shape \(4, 9\)"),
        (1, (3, 5, 9), r"input has shape \(3, 5, 9\); it must be \[batch, 4, length\]"),
        (1, (9,), r"input has shape \(9,\)"),
        (1, (3, 4, 2), "an image of 1 x 2 is smaller than the kernel, 1 x 3"),
    ],
)
def test_an_input_of_another_size_is_refused_by_value(dimensions: int, shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _sparse(dimensions)(torch.zeros(shape))


def test_an_input_of_another_dtype_is_refused_by_value() -> None:
    with pytest.raises(ValueError, match=r"input is torch.float64 but the weight is torch.float32"):
        _sparse()(_images(dtype=torch.float64))
