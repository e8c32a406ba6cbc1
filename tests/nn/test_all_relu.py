import math

import pytest
import torch
from torch import Tensor

from gossamer.nn import AllReLU

_X = [-2.0, -0.5, 0.0, 0.5, 3.0]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (1, [1.2, 0.3, 0.0, 0.5, 3.0]),
        (2, [-1.2, -0.3, 0.0, 0.5, 3.0]),
        (3, [1.2, 0.3, 0.0, 0.5, 3.0]),
        (4, [-1.2, -0.3, 0.0, 0.5, 3.0]),
    ],
)
def test_the_slope_of_what_is_negative_alternates(layer: int, expected: list[float]) -> None:
    torch.testing.assert_close(AllReLU(alpha=0.6, layer=layer)(torch.tensor(_X)), torch.tensor(expected))


@pytest.mark.parametrize(("layer", "slope"), [(1, -0.6), (2, 0.6), (3, -0.6)])
def test_the_gradient_is_the_slope(layer: int, slope: float) -> None:
    x = torch.tensor([-2.0, 3.0], requires_grad=True)

    AllReLU(alpha=0.6, layer=layer)(x).sum().backward()

    torch.testing.assert_close(x.grad, torch.tensor([slope, 1.0]))


@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0, -0.3])
def test_gradients_pass_gradcheck(alpha: float, layer: int) -> None:
    x = torch.tensor([[-2.0, -0.5], [0.5, 3.0]], dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(AllReLU(alpha=alpha, layer=layer), (x,))
    assert torch.autograd.gradgradcheck(AllReLU(alpha=alpha, layer=layer), (x,))


@pytest.mark.parametrize("x", [torch.ones(4, 6), torch.ones(6, 4).t(), torch.ones(2, 3, 5).permute(2, 0, 1)])
@pytest.mark.parametrize("layer", [1, 2])
def test_strides_are_kept_forward_and_backward(layer: int, x: Tensor) -> None:
    x = -x.requires_grad_()
    output = AllReLU(alpha=0.6, layer=layer)(x)
    (gradient,) = torch.autograd.grad(output, x, torch.ones_like(output))

    assert output.stride() == gradient.stride() == x.stride()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4, 5)])
def test_shape_and_dtype_are_kept_and_the_input_is_left_alone(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.full(shape, -2.0, dtype=dtype)
    output = AllReLU(alpha=0.5, layer=1)(x)

    assert (output.shape, output.dtype) == (x.shape, dtype)
    assert bool((output == 1.0).all())
    assert bool((x == -2.0).all())


def test_what_is_no_number_stays_no_number() -> None:
    x = torch.tensor([math.nan, math.inf, -math.inf])

    assert AllReLU(alpha=0.5, layer=1)(x).isnan().tolist() == [True, False, False]
    assert AllReLU(alpha=0.5, layer=1)(x)[1:].tolist() == [math.inf, math.inf]


@pytest.mark.parametrize("alpha", [math.nan, math.inf, -math.inf])
def test_a_slope_that_is_not_finite_is_refused_by_value(alpha: float) -> None:
    with pytest.raises(ValueError, match=f"^alpha must be a finite number, got {alpha}$"):
        AllReLU(alpha=alpha, layer=1)


@pytest.mark.parametrize("layer", [0, -1])
def test_a_layer_below_one_is_refused_by_value(layer: int) -> None:
    with pytest.raises(ValueError, match=f"^layer must be 1 or more, got {layer}$"):
        AllReLU(alpha=0.6, layer=layer)


def test_it_holds_no_state_and_shows_its_settings() -> None:
    activation = AllReLU(alpha=0.6, layer=2)

    assert not activation.state_dict()
    assert repr(activation) == "AllReLU(alpha=0.6, layer=2)"
