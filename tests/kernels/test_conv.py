from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gossamer import topology
from gossamer.kernels import conv, conv_backward, conv_eager, conv_on_cpu, conv_ops, conv_plan
from gossamer.kernels.conv_fallback import Window
from gossamer.kernels.operands import Index

OPS = ["sparse_conv2d", "sparse_conv2d_backward", "sparse_conv2d_grad_input", "sparse_conv2d_grad_values"]
# In the order of the fields of a window: kernel, stride, padding, dilation and groups.
WINDOWS = {
    "as usual": Window(3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    "no padding": Window(3, 3, 1, 1, 0, 0, 0, 0, 1, 1, 1),
    "a point": Window(1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1),
    "a point with a stride": Window(1, 1, 2, 3, 0, 0, 0, 0, 1, 1, 2),
    "a point with padding": Window(1, 1, 1, 1, 2, 1, 0, 1, 1, 1, 1),
    "stride": Window(3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1),
    "uneven stride": Window(3, 2, 3, 1, 2, 0, 0, 1, 1, 1, 1),
    "stride beyond the kernel": Window(2, 2, 3, 4, 0, 0, 0, 0, 1, 1, 1),
    "dilation": Window(3, 3, 1, 1, 2, 2, 3, 3, 2, 3, 1),
    "dilation and stride": Window(3, 3, 2, 3, 1, 2, 0, 3, 3, 2, 1),
    "even kernel": Window(2, 4, 1, 1, 0, 1, 1, 2, 1, 1, 1),
    "groups": Window(3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 2),
    "each channel alone": Window(3, 3, 2, 1, 1, 1, 1, 1, 1, 1, 4),
    "much padding": Window(2, 3, 2, 1, 5, 5, 4, 4, 1, 1, 1),
    "a large kernel": Window(5, 7, 1, 2, 2, 2, 3, 3, 1, 1, 2),
}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


@pytest.fixture(autouse=True)
def _few_tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One size of tile, so that little is compiled and every image is ragged; one thread, as calls are tiny."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(conv_plan, "_HEIGHTS", (2,))
    monkeypatch.setattr(conv_plan, "_WIDTHS", (1,))
    conv_on_cpu.forget_plans()
    yield
    conv_on_cpu.forget_plans()
    torch.set_num_threads(before)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Operands of all four operators; `mask` tells which weights exist."""

    mask: Tensor
    x: Tensor
    values: Tensor
    bias: Tensor | None
    grad: Tensor
    index: Index
    window: Window

    def arguments(self, op: str) -> tuple[object, ...]:
        """What the operator takes."""
        first: dict[str, tuple[object, ...]] = {
            "sparse_conv2d": (self.x, self.values, self.bias),
            "sparse_conv2d_backward": (self.grad, self.x, self.values),
            "sparse_conv2d_grad_input": (self.grad, self.values, *self.x.shape[2:]),
            "sparse_conv2d_grad_values": (self.grad, self.x),
        }
        return *first[op], *self.index, self.window

    def run(self, op: str) -> tuple[Tensor, ...]:
        """Call the registered operator."""
        result = getattr(torch.ops.gossamer, op)(*self.arguments(op))
        return result if isinstance(result, tuple) else (result,)

    def all(self) -> list[Tensor]:
        """The results of all four."""
        return [part for op in OPS for part in self.run(op)]

    def oracle(self) -> list[Tensor]:
        """What all four should return, by torch's dense convolution in float64."""
        window = self.window
        weight = torch.zeros(self.mask.shape, dtype=torch.float64)
        weight[self.mask] = self.values.double()
        weight.requires_grad_()
        x = self.x.double().requires_grad_()
        padded = functional.pad(x, (window.left, window.right, window.top, window.bottom))
        bias = None if self.bias is None else self.bias.double()
        y = functional.conv2d(padded, weight, bias, window[2:4], 0, window[8:10], window.groups)
        grad_x, grad_weight = torch.autograd.grad(y, (x, weight), self.grad.double())
        grad_values = grad_weight[self.mask]
        return [y.detach(), grad_x, grad_values, grad_x, grad_values]

    def check(self, results: list[Tensor]) -> None:
        """Compare the results of all four with the oracle."""
        for found, expected in zip(results, self.oracle(), strict=True):
            assert (found.dtype, found.shape) == (self.x.dtype, expected.shape)
            scale = expected.abs().max() if expected.numel() else 1.0
            assert bool(((found.double() - expected).abs() <= 10 * TOLERANCE[self.x.dtype] * scale).all())


def make(
    window: Window = WINDOWS["as usual"],
    *,
    batch: int = 2,
    channels: int = 4,
    outputs: int = 8,
    image: tuple[int, int] = (9, 11),
    dtype: torch.dtype = torch.float64,
    density: float = 0.4,
    bias: bool = True,
    index_dtype: torch.dtype = torch.int32,
) -> Problem:
    """Draw normal operands for a random mask with an output that has no weights."""
    generator = torch.Generator().manual_seed(batch)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    mask = torch.rand(outputs, channels // window.groups, *window[:2], generator=generator) < density
    mask[outputs // 2 : outputs // 2 + 1] = False
    narrow = topology.from_mask(mask.flatten(1))
    places = topology.Topology(narrow.shape, *(part.to(index_dtype) for part in narrow[1:]))
    return Problem(
        mask=mask,
        x=normal(batch, channels, *image),
        values=normal(places.num_active),
        bias=normal(outputs) if bias else None,
        grad=normal(batch, outputs, *window.result(*image)),
        index=(places.row_pointers, places.column_indices, *conv_on_cpu.by_channel(places, window)),
        window=window,
    )


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_products_are_those_of_the_dense_convolution(dtype: torch.dtype, window: Window) -> None:
    for batch, image in ((0, (9, 11)), (1, (9, 30)), (2, (17, 8)), (7, (7, 7)), (3, (8, 5))):
        problem = make(window, batch=batch, image=image, dtype=dtype, bias=batch != 2)

        problem.check(problem.all())


@pytest.mark.parametrize("image", [(1, 1), (1, 40), (40, 1), (2, 16), (3, 17), (64, 33)])
def test_every_size_of_image_is_right(image: tuple[int, int]) -> None:
    for batch in (1, 5):
        problem = make(batch=batch, image=image)

        problem.check(problem.all())


@pytest.mark.parametrize(("channels", "outputs"), [(1, 1), (1, 8), (5, 1), (0, 3), (3, 0), (40, 3)])
@pytest.mark.parametrize("density", [0.0, 0.02, 1.0])
def test_every_number_of_channels_and_weights_is_right(density: float, channels: int, outputs: int) -> None:
    problem = make(channels=channels, outputs=outputs, density=density)
    if channels and outputs:
        problem.check(problem.all())
    else:
        assert [part.shape for part in problem.all()][:2] == [problem.grad.shape, problem.x.shape]
        assert bool(
            (problem.run("sparse_conv2d")[0] == (problem.bias[:, None, None] if problem.bias is not None else 0)).all()
        )


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS.keys())
def test_the_scratch_may_hold_as_little_as_one_channel_and_one_tile(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make(window, batch=3, image=(13, 19), channels=8)
    expected = problem.all()
    monkeypatch.setattr(conv_plan, "_SCRATCH_BYTES", 1)
    monkeypatch.setattr(conv_plan, "_TILE_BYTES", 1)
    conv_on_cpu.forget_plans()

    found = problem.all()

    problem.check(found)
    assert torch.equal(found[0], expected[0])


def test_wide_tiles_and_those_that_images_get_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    conv_on_cpu.forget_plans()
    problem = make(batch=3, image=(14, 14), dtype=torch.float32)

    problem.check(problem.all())


@pytest.mark.parametrize("window", ["as usual", "stride", "groups"])
def test_the_bits_do_not_depend_on_the_number_of_threads(window: str) -> None:
    for batch in (1, 3, 20):
        problem = make(WINDOWS[window], batch=batch, image=(12, 13))
        expected = problem.all()
        for count in (2, 5):
            torch.set_num_threads(count)
            found = problem.all()
            torch.set_num_threads(1)

            assert all(map(torch.equal, found, expected))


def test_indices_of_64_bits_give_the_same_bits() -> None:
    narrow, wide = make(), make(index_dtype=torch.int64)

    assert wide.index[3].dtype == torch.int64
    assert all(map(torch.equal, narrow.all(), wide.all()))


def test_the_number_of_an_image_that_is_none_stays_in_its_sample() -> None:
    # Narrow images stand side by side in the scratch.
    problem = make(batch=4, image=(6, 3))
    problem.x[1] = torch.nan
    result = problem.run("sparse_conv2d")[0]

    assert bool(result[[0, 2, 3]].isfinite().all())
    assert bool(result[1].isnan().any())


@pytest.mark.parametrize("window", ["as usual", "stride", "groups"])
def test_nothing_is_written_beside_a_result(window: str) -> None:
    problem = make(WINDOWS[window], image=(9, 13), batch=1)
    pointers, columns, channels, codes, slots = problem.index
    assert problem.bias is not None
    geometry = conv_on_cpu._geometry(1, 4, 8, (9, 13), problem.window)
    y, grad_x, again = (
        torch.full((part.numel() + 200,), 7.0).double() for part in (problem.grad, problem.x, problem.x)
    )
    grad_values = torch.full((problem.values.numel() + 200,), 7.0).double()

    conv.multiply(
        conv_plan.forward(geometry, 8), pointers, columns, None, problem.values, problem.bias, problem.x, y[100:-100]
    )
    zeros = torch.zeros(channels.numel() - 1).double()
    plain, both = (conv_plan.backward(geometry, 8, fused=fused) for fused in (False, True))
    conv.multiply(plain, channels, codes, slots, problem.values, zeros, problem.grad, again[100:-100])
    conv_backward.backward(
        both, channels, codes, slots, problem.values, problem.grad, problem.x, grad_x[100:-100], grad_values[100:-100]
    )

    for part in (y, grad_x, again, grad_values):
        assert bool((torch.cat([part[:100], part[-100:]]) == 7).all())
        assert bool((part[100:-100] != 7).all())


@pytest.mark.parametrize("layout", ["channels last", "every second", "expanded", "flipped"])
def test_operands_need_not_be_contiguous(layout: str) -> None:
    problem = make(image=(8, 8))
    wide = torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x = {
        "channels last": problem.x.contiguous(memory_format=torch.channels_last),
        "every second": wide[::2, ::2, ::2, ::2],
        "expanded": wide[:1, :1, :8, :8].expand(2, 4, 8, 8),
        "flipped": problem.x.flip(-1),
    }[layout]
    arguments = (problem.values, problem.bias, problem.index, problem.window)

    assert torch.equal(conv_eager.conv2d(x, *arguments), conv_eager.conv2d(x.contiguous(), *arguments))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_numbers_are_computed_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    problem = make(dtype=dtype)
    wide = Problem(
        mask=problem.mask,
        x=problem.x.float(),
        values=problem.values.float(),
        bias=None if problem.bias is None else problem.bias.float(),
        grad=problem.grad.float(),
        index=problem.index,
        window=problem.window,
    )

    assert all(torch.equal(*pair) for pair in zip(problem.all(), (part.to(dtype) for part in wide.all()), strict=True))


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS.keys())
def test_the_fallback_agrees_with_the_kernel(window: Window) -> None:
    functions: list[Callable[..., Tensor | tuple[Tensor, Tensor]]]
    functions = [conv_ops.plain, conv_ops._backward_any, conv_ops._grad_input_any, conv_ops._grad_values_any]
    problem = make(window)

    results = [function(*problem.arguments(op)) for function, op in zip(functions, OPS, strict=True)]

    problem.check([part for result in results for part in (result if isinstance(result, tuple) else (result,))])


def _floats(problem: Problem, op: str) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """The operator as a function of its floats alone."""
    arguments = problem.arguments(op)
    count = sum(isinstance(part, Tensor) and part.is_floating_point() for part in arguments)
    floats = [part.clone().requires_grad_() for part in arguments[:count] if isinstance(part, Tensor)]
    return lambda *parts: getattr(torch.ops.gossamer, op)(*parts, *arguments[count:]), floats


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("window", ["as usual", "dilation and stride", "groups", "a point"])
def test_the_gradients_of_every_operator_are_right_to_second_order(window: str, op: str) -> None:
    function, floats = _floats(make(WINDOWS[window], image=(5, 5), batch=2, density=0.2), op)

    assert torch.autograd.gradcheck(function, floats, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, floats, fast_mode=True)


@pytest.mark.parametrize("op", OPS)
def test_torch_finds_no_fault_in_the_registration(op: str) -> None:
    arguments = tuple(
        part.clone().requires_grad_() if isinstance(part, Tensor) and part.is_floating_point() else part
        for part in make(image=(5, 6)).arguments(op)
    )

    torch.library.opcheck(getattr(torch.ops.gossamer, op).default, arguments)


@pytest.mark.parametrize("needed", range(1, 8))
def test_the_short_way_makes_the_gradients_that_are_needed_with_the_same_bits(needed: int) -> None:
    problem = make()
    assert problem.bias is not None
    leaves = [part.clone() for part in (problem.x, problem.values, problem.bias)]
    twins = [part.clone() for part in leaves]
    for place in range(3):
        leaves[place].requires_grad_(bool(needed >> place & 1))
        twins[place].requires_grad_(bool(needed >> place & 1))

    x, values, bias = leaves
    conv_eager.conv2d(x, values, bias, problem.index, problem.window).backward(problem.grad)
    torch.ops.gossamer.sparse_conv2d(*twins, *problem.index, problem.window).backward(problem.grad)

    for place, (leaf, twin) in enumerate(zip(leaves, twins, strict=True)):
        assert (leaf.grad is not None) == bool(needed >> place & 1)
        assert leaf.grad is None or torch.equal(leaf.grad, twin.grad)  # type: ignore[arg-type]


def test_transforms_of_functions_work() -> None:
    problem = make()

    def loss(x: Tensor, values: Tensor) -> Tensor:
        return conv_eager.conv2d(x, values, None, problem.index, problem.window).square().sum()

    x, values = problem.x.clone().requires_grad_(), problem.values.clone().requires_grad_()
    expected = torch.autograd.grad(loss(x, values), (x, values))
    found = torch.func.grad(loss, argnums=(0, 1))(problem.x, problem.values)
    each = torch.func.vmap(loss, in_dims=(None, 0))(problem.x, torch.stack([problem.values, -problem.values]))

    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other)
    torch.testing.assert_close(each, loss(problem.x, problem.values).expand(2))


def test_entries_stand_by_channel_and_phase() -> None:
    # One output, one channel, a row of 3 with stride 2: the places 0 and 2 write to the even columns, 1 to the odd.
    places = topology.from_mask(torch.tensor([[True, True, True]]))
    pointers, indices, permutation = conv_on_cpu.by_channel(places, Window(1, 3, 1, 2, 0, 0, 0, 0, 1, 1, 1))

    assert (pointers.tolist(), indices.tolist(), permutation.tolist()) == ([0, 2, 3], [0, 2, 1], [0, 2, 1])


def test_narrow_images_stand_side_by_side() -> None:
    assert conv_plan._side(8, 7, 2, 16) == 2
    assert conv_plan._side(1, 7, 2, 16) == 1
    assert conv_plan._side(8, 14, 2, 16) == 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x": torch.zeros(2, 5, 9, 9).double()}, r"input has shape \(2, 5, 9, 9\), the weight takes \[batch, 4"),
        ({"x": torch.zeros(4, 9, 9).double()}, r"input has shape \(4, 9, 9\)"),
        ({"x": torch.zeros(2, 4, 9, 9)}, "input is torch.float32 but the weight is torch.float64"),
        ({"x": torch.zeros(2, 4, 0, 9).double()}, "an image of 0 x 9 is smaller than the kernel, 3 x 3"),
        ({"values": torch.zeros(3).double()}, r"3 values for a topology of \d+ active weights"),
        ({"bias": torch.zeros(3).double()}, r"bias is torch.float64 of shape \(3,\)"),
    ],
)
def test_operands_that_do_not_fit_are_refused_by_value(change: dict[str, Tensor], text: str) -> None:
    problem = make()
    x, values, bias = (change.get(name, getattr(problem, name)) for name in ("x", "values", "bias"))

    with pytest.raises(ValueError, match=text):
        conv_eager.conv2d(x, values, bias, problem.index, problem.window)


def test_values_exchanged_before_the_backward_pass_are_noticed() -> None:
    problem = make()
    values = problem.values.clone().requires_grad_()
    result = conv_eager.conv2d(problem.x.clone().requires_grad_(), values, None, problem.index, problem.window)
    values.data = values.data[:2].clone()

    with pytest.raises(ValueError, match=r"2 values for a topology of \d+ active weights"):
        result.sum().backward()
