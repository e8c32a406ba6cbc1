import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from gossamer.kernels import dropout
from gossamer.nn import Dropout


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
        results.append(dropout.drop(inputs, 0.3, 11))
    torch.set_num_threads(threads)

    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_a_copy_and_a_pickle_and_a_compiled_layer_drop_too() -> None:
    layer = Dropout(0.5)
    compiled = torch.compile(nn.Sequential(layer), backend="eager")

    for one in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), compiled):
        assert set(one(torch.ones(300)).tolist()) == {0.0, 2.0}
