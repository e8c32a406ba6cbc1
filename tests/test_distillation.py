import math

import pytest
import torch
from torch.nn import functional as F

from gossamer.distillation import distillation


def test_two_classes_by_hand() -> None:
    outputs = torch.zeros(1, 2, dtype=torch.float64)
    teacher = torch.tensor([[2 * math.log(3.0), 0.0]], dtype=torch.float64)

    loss = distillation(outputs, teacher, temperature=2.0)

    # At T = 2 the teacher says 3/4 and 1/4, the network 1/2 and 1/2.
    assert float(loss) == pytest.approx(4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)), rel=1e-12)


def test_the_gradient_is_that_of_the_difference_of_probabilities_and_none_goes_to_the_teacher() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)

    distillation(outputs, teacher, temperature=3.0).backward()

    difference = F.softmax(outputs.detach() / 3, 1) - F.softmax(teacher.detach() / 3, 1)
    assert outputs.grad is not None
    assert torch.allclose(outputs.grad, 3.0 * difference / 5, rtol=1e-10, atol=1e-14)
    assert teacher.grad is None


def test_half_precision_is_computed_in_float32() -> None:
    loss = distillation(torch.randn(3, 4).bfloat16(), torch.randn(3, 4).bfloat16(), temperature=1.0)

    assert loss.dtype == torch.float32
    assert loss >= 0


@pytest.mark.parametrize(
    ("shape", "temperature", "message"),
    [((2, 3), 0.0, "temperature must be above 0, got 0.0"), ((2, 4), 1.0, "have shape"), ((3,), 1.0, "have shape")],
)
def test_what_does_not_fit_is_named(shape: tuple[int, ...], temperature: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distillation(torch.zeros(2, 3), torch.zeros(shape), temperature=temperature)
