import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossamer.penalties import group_hoyer_square, hoyer_square

# Half of a float32's exponents, so that scaling by 2**20 and back stays exact; zeros among them.
values = st.floats(-1e6, 1e6, width=32).map(lambda x: x if abs(x) > 1e-6 else 0.0)
vectors = st.lists(values, min_size=1, max_size=20).filter(any)


def test_equal_magnitudes_count_one_each_and_zeros_nothing() -> None:
    assert hoyer_square(torch.tensor([2.0, -2.0, 0.0, 2.0])).item() == 3.0
    assert hoyer_square(torch.tensor([0.0, -5.0])).item() == 1.0


def test_it_is_the_square_of_the_sum_over_the_sum_of_squares() -> None:
    weight = torch.tensor([3.0, -1.0, 2.0, 0.0], requires_grad=True)

    value = hoyer_square(weight)
    value.backward()

    # s = 6, q = 14: 36 / 14; derivative 2 sign(w) s (q - |w| s) / q^2.
    assert value.item() == pytest.approx(36 / 14, rel=1e-6)
    assert weight.grad is not None
    expected = torch.tensor([12 * (14 - 18), -12 * (14 - 6), 12 * (14 - 12), 0.0]) / 196
    torch.testing.assert_close(weight.grad, expected, rtol=1e-5, atol=1e-7)


@given(vectors)
def test_it_lies_between_one_and_the_number_of_weights_that_are_not_zero(weight: list[float]) -> None:
    value = hoyer_square(torch.tensor(weight, dtype=torch.float64)).item()

    assert 1 - 1e-14 <= value <= sum(x != 0 for x in weight) * (1 + 1e-14)


@given(vectors, st.sampled_from([2.0**-20, 0.5, -4.0, 2.0**20]))
def test_scaling_by_a_power_of_two_changes_no_bit(weight: list[float], factor: float) -> None:
    tensor = torch.tensor(weight)

    assert torch.equal(hoyer_square(tensor * factor), hoyer_square(tensor))


@given(vectors, st.floats(1e-3, 1e3))
def test_it_does_not_change_with_the_scale(weight: list[float], factor: float) -> None:
    tensor = torch.tensor(weight, dtype=torch.float64)

    assert hoyer_square(tensor * factor).item() == pytest.approx(hoyer_square(tensor).item(), rel=1e-13)


def test_the_gradient_is_at_right_angles_to_the_weight() -> None:
    weight = torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    (gradient,) = torch.autograd.grad(hoyer_square(weight), weight)

    # A function that does not change with the scale has no slope along the ray through the weight.
    assert (gradient * weight).sum().abs().item() < 1e-12
    assert gradient.norm() > 0.1


def test_the_groups_count_like_single_weights() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.0, 5.0], [0.0, 0.0]])
    groups = torch.tensor([0, 1, 2])[:, None].expand(3, 2)

    assert group_hoyer_square(weight, groups).item() == pytest.approx(2.0, rel=1e-6)
    assert group_hoyer_square(weight * 1e-3, groups).item() == pytest.approx(2.0, rel=1e-6)


def test_one_group_for_all_makes_one_and_a_group_for_each_entry_makes_hoyer_square() -> None:
    weight = torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(group_hoyer_square(weight, torch.arange(12)), hoyer_square(weight), rtol=1e-14, atol=0.0)
    assert group_hoyer_square(weight, torch.full((12,), 4)).item() == pytest.approx(1.0, rel=1e-15)
