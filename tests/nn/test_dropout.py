import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gossamer.kernels.activation import Activation, apply
from gossamer.nn import AllReLU, Dropout, ReLU


def _forms(dtype: torch.dtype) -> dict[str, Tensor]:
    numbers = torch.arange(1.0, 1.0 + 30 * 41).view(30, 41).to(dtype)
    return {
        "plain": numbers,
        "transposed": numbers.t(),
        "strided": numbers[:, ::2],
        "odd": numbers[0],
        "one": numbers[0, 0],
    }


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_asked_fraction_is_dropped_and_the_rest_scaled(p: float) -> None:
    torch.manual_seed(0)
    outputs = Dropout(p)(torch.ones(100_001))

    assert outputs.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)])
    assert float((outputs == 0).float().mean()) == pytest.approx(p, abs=4 * (p * (1 - p) / 1e5) ** 0.5)
    # Neighbours know nothing of each other.
    both = ((outputs[1:] == 0) & (outputs[:-1] == 0)).float().mean()
    assert float(both) == pytest.approx(p * p, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("form", ["plain", "transposed", "strided", "odd", "one"])
def test_each_output_is_its_input_or_zero_and_gradients_follow(dtype: torch.dtype, form: str) -> None:
    inputs = _forms(dtype)[form].clone(memory_format=torch.preserve_format).requires_grad_()
    layer = Dropout(0.5)

    outputs = layer(inputs)
    (grad,) = torch.autograd.grad(outputs, inputs, torch.ones_like(outputs))

    assert outputs.shape == inputs.shape
    assert outputs.dtype == dtype
    assert bool(((outputs == 0) | (outputs == 2 * inputs)).all())
    assert torch.equal(grad, (outputs != 0).to(dtype) * 2)


def test_a_gradient_in_another_order_meets_the_same_places() -> None:
    inputs = torch.rand(20, 30).t().requires_grad_()
    outputs = Dropout(0.3)(inputs)

    (grad,) = torch.autograd.grad(outputs, inputs, torch.ones(30, 20))

    assert torch.equal(grad != 0, outputs != 0)


def test_second_derivatives_are_right() -> None:
    inputs = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)

    def seeded(numbers: Tensor) -> Tensor:
        torch.manual_seed(3)
        dropped: Tensor = Dropout(0.4)(numbers)
        return dropped**2

    assert torch.autograd.gradcheck(seeded, inputs)
    assert torch.autograd.gradgradcheck(seeded, inputs)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
def test_nothing_stays_nothing(shape: tuple[int, ...]) -> None:
    assert Dropout(0.5)(torch.zeros(shape)).shape == shape


def test_in_evaluation_and_without_probability_the_input_passes() -> None:
    inputs = torch.randn(9)

    assert Dropout(0.5).eval()(inputs) is inputs
    assert Dropout(0.0)(inputs) is inputs


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_a_probability_out_of_range_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), got"):
        Dropout(p)


def test_the_global_seed_decides_and_each_call_draws_anew() -> None:
    layer, inputs = Dropout(0.5), torch.ones(200)
    torch.manual_seed(1)
    first, second = layer(inputs), layer(inputs)
    torch.manual_seed(1)

    assert torch.equal(layer(inputs), first)
    assert not torch.equal(first, second)


def test_any_number_of_threads_drops_the_same() -> None:
    inputs, threads = torch.randn(100_003), torch.get_num_threads()
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(apply(inputs, Activation(slope=1.0, probability=0.3, seed=11)))
    torch.set_num_threads(threads)

    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_a_copy_and_a_pickle_and_a_compiled_layer_drop_too() -> None:
    layer = Dropout(0.5)
    compiled = torch.compile(nn.Sequential(layer), backend="eager")

    for one in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), compiled):
        assert set(one(torch.ones(300)).tolist()) == {0.0, 2.0}


_FUSED: dict[str, tuple[Callable[[float], nn.Module], nn.Module]] = {
    "relu": (lambda p: ReLU(dropout=p), nn.ReLU()),
    "relu in place": (lambda p: ReLU(inplace=True, dropout=p), nn.ReLU()),
    "all-relu, first": (lambda p: AllReLU(alpha=0.6, layer=1, dropout=p), nn.LeakyReLU(-0.6)),
    "all-relu, second": (lambda p: AllReLU(alpha=0.6, layer=2, dropout=p), nn.LeakyReLU(0.6)),
    "all-relu, flat": (lambda p: AllReLU(alpha=0.0, layer=2, dropout=p), nn.ReLU()),
}


@pytest.mark.parametrize("name", _FUSED)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("form", ["plain", "transposed", "strided", "odd", "one"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_activation_and_dropout_at_once_are_one_after_the_other(
    dtype: torch.dtype, form: str, dropout: float, name: str
) -> None:
    make, alone = _FUSED[name]
    inputs = (_forms(dtype)[form] - 600).requires_grad_()
    grad = torch.randn(inputs.shape, dtype=dtype)  # contiguous, whatever the inputs are

    torch.manual_seed(3)
    found = make(dropout)(inputs * 1)
    torch.manual_seed(3)
    expected = Dropout(dropout)(alone(inputs * 1))

    assert torch.equal(found, expected)
    for result in torch.autograd.grad(found, inputs, grad):
        torch.testing.assert_close(result, torch.autograd.grad(expected, inputs, grad)[0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("make", [lambda: ReLU(dropout=0.3), lambda: AllReLU(alpha=0.5, layer=1, dropout=0.3)])
def test_what_is_no_number_stays_so_unless_it_is_dropped(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    outputs = make()(torch.full((1000,), torch.nan))

    assert 500 < int(outputs.isnan().sum()) < 900
    assert bool((outputs[~outputs.isnan()] == 0).all())


@pytest.mark.parametrize("make", [lambda: ReLU(dropout=0.3), lambda: AllReLU(alpha=0.5, layer=1, dropout=0.3)])
def test_an_activation_drops_nothing_in_eval(make: Callable[[], nn.Module]) -> None:
    layer = make().eval()
    inputs = torch.tensor([-2.0, 3.0])

    assert layer(inputs).tolist() in ([0.0, 3.0], [1.0, 3.0])
    assert torch.equal(layer(inputs), layer(inputs))


def test_second_derivatives_of_an_activation_with_dropout_are_right() -> None:
    inputs = torch.randn(5, 4, dtype=torch.float64).add_(0.01).requires_grad_()
    layer = AllReLU(alpha=0.6, layer=1, dropout=0.4)

    def seeded(inputs: Tensor) -> Tensor:
        torch.manual_seed(1)
        result: Tensor = layer(inputs)
        return result

    assert torch.autograd.gradcheck(seeded, inputs)
    assert torch.autograd.gradgradcheck(seeded, inputs)


@pytest.mark.parametrize("make", [lambda: ReLU(dropout=1.0), lambda: AllReLU(alpha=0.5, layer=1, dropout=-0.1)])
def test_a_dropout_outside_of_its_range_is_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\)"):
        make()
