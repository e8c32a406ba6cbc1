import torch

from gossamer.reparametrizations import SoftThreshold

from .cases import normal


def test_weights_are_shortened_by_the_sigmoid_of_what_is_learned() -> None:
    part = SoftThreshold(raw_threshold=0.0)
    weight = torch.tensor([2.0, -1.0, 0.5, -0.25, 0.0])

    assert part(weight).tolist() == [1.5, -0.5, 0.0, 0.0, 0.0]
    assert part.mask(weight).tolist() == [True, True, False, False, False]


def test_rows_can_have_thresholds_of_their_own() -> None:
    part = SoftThreshold(raw_threshold=0.0, shape=(2, 1))
    part.raw_threshold.data = torch.logit(torch.tensor([[0.25], [0.75]]))
    weight = torch.tensor([[1.0, 0.5], [1.0, 0.5]])

    torch.testing.assert_close(part(weight), torch.tensor([[0.75, 0.25], [0.25, 0.0]]), rtol=1e-6, atol=0)


def test_the_gradient_is_that_of_finite_differences() -> None:
    part = SoftThreshold(raw_threshold=-0.5, shape=(4, 1)).double()
    part.raw_threshold.data += 0.3 * normal((4, 1), 0).double()
    weight = normal((4, 6), 1).double().requires_grad_()

    # No magnitude lies near its threshold, where the function has a corner.
    assert (weight.abs() - part.raw_threshold.sigmoid()).abs().min() > 1e-3
    assert 0 < part.mask(weight).sum() < 24
    assert torch.autograd.gradcheck(lambda weight, _: part(weight), (weight, part.raw_threshold))


def test_weight_decay_alone_raises_a_low_threshold() -> None:
    part = SoftThreshold(raw_threshold=-8.0)
    optimizer = torch.optim.SGD(part.parameters(), lr=0.1, weight_decay=1.0)
    weight = torch.tensor([0.3, 1.0])

    assert part.mask(weight).tolist() == [True, True]
    for _ in range(20):
        optimizer.zero_grad()
        (0.0 * part(weight).sum()).backward()
        optimizer.step()

    # -8 * 0.9^20 = -0.973, whose sigmoid is 0.274; ten steps more and 0.3 is gone.
    assert part.mask(weight).tolist() == [True, True]
    for _ in range(10):
        optimizer.zero_grad()
        (0.0 * part(weight).sum()).backward()
        optimizer.step()
    assert part.mask(weight).tolist() == [False, True]


def test_a_half_precision_weight_meets_its_threshold_in_float32() -> None:
    part = SoftThreshold(raw_threshold=-1.0)
    weight = normal((100,), 0).bfloat16()

    assert torch.equal(part(weight), part(weight.float()).bfloat16())
    assert torch.equal(part.mask(weight), part.mask(weight.float()))
