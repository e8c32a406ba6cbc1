import math

import pytest
import torch

from gossamer.reparametrizations import HardConcrete

from .cases import generator, normal


def test_gates_in_eval_mode_are_those_worked_out_by_hand() -> None:
    part = HardConcrete((4,), log_alpha=0.0, generator=torch.Generator()).eval()
    # sigmoid: 1/4, 1/2, 0.04, 0.96; times 1.2, less 0.1, within [0, 1]
    part.log_alpha.data = torch.logit(torch.tensor([0.25, 0.5, 0.04, 0.96]))
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0])

    torch.testing.assert_close(part(weight), torch.tensor([0.2, 1.0, 0.0, 4.0]), rtol=1e-6, atol=0)
    assert part.mask(weight).tolist() == [True, True, False, True]


@pytest.mark.parametrize("log_alpha", [-4.0, -1.6, 0.0, 1.0, 3.0])
@pytest.mark.parametrize(("temperature", "lower", "upper"), [(2 / 3, -0.1, 1.1), (0.4, -0.3, 1.05)])
def test_gates_are_open_and_fully_open_as_often_as_their_probabilities_say(
    log_alpha: float, temperature: float, lower: float, upper: float
) -> None:
    count = 200_000
    part = HardConcrete(
        (count,), log_alpha=log_alpha, generator=generator(0), temperature=temperature, lower=lower, upper=upper
    )
    gates = part(torch.ones(count))

    # gate = 1 mirrors gate = 0: log_alpha and the ends change sign about 1/2.
    is_open = part.penalty(torch.ones(count)).item() / count
    is_full = 1 / (1 + math.exp(-log_alpha + temperature * math.log((1 - lower) / (upper - 1))))
    for share, expected in (((gates > 0).double().mean(), is_open), ((gates == 1).double().mean(), is_full)):
        error = math.sqrt(expected * (1 - expected) / count)
        assert abs(share.item() - expected) < 4 * error


def test_the_penalty_is_the_probability_worked_out_by_hand() -> None:
    part = HardConcrete((1,), log_alpha=0.0, generator=torch.Generator())

    # sigmoid(-2/3 log(0.1 / 1.1)) = 11^(2/3) / (1 + 11^(2/3))
    assert part.penalty(torch.ones(1)).item() == pytest.approx(11 ** (2 / 3) / (1 + 11 ** (2 / 3)), rel=1e-6)


def test_a_gate_for_a_row_counts_all_its_weights() -> None:
    whole = HardConcrete((3, 4), log_alpha=0.7, generator=torch.Generator())
    rows = HardConcrete((3, 1), log_alpha=0.7, generator=torch.Generator())
    one = HardConcrete((), log_alpha=0.7, generator=torch.Generator())
    weight = torch.ones(3, 4)

    torch.testing.assert_close(rows.penalty(weight), whole.penalty(weight))
    torch.testing.assert_close(one.penalty(weight), whole.penalty(weight))


def test_the_weights_of_a_row_share_their_gate() -> None:
    part = HardConcrete((50, 1), log_alpha=0.0, generator=generator(0))

    drawn = part(torch.ones(50, 4))

    assert (drawn == drawn[:, :1]).all()
    assert 10 < drawn[:, 0].unique().numel() <= 50


def test_the_expected_count_has_the_gradient_of_finite_differences() -> None:
    part = HardConcrete((6,), log_alpha=0.0, generator=torch.Generator()).double()
    part.log_alpha.data = torch.tensor([-50.0, -3.0, -0.5, 0.5, 3.0, 50.0], dtype=torch.float64)
    weight = normal((2, 6), 0).double()

    assert torch.autograd.gradcheck(lambda _: part.penalty(weight), (part.log_alpha,))


@pytest.mark.parametrize("log_alpha", [-1e4, 0.0, 1e4])
def test_extreme_gates_have_finite_gradients(log_alpha: float) -> None:
    part = HardConcrete((1000,), log_alpha=log_alpha, generator=generator(0))
    weight = torch.ones(1000)

    loss = part(weight).sum() + part.penalty(weight)
    loss.backward()

    assert loss.isfinite()
    assert part.log_alpha.grad is not None
    assert part.log_alpha.grad.isfinite().all()


def test_a_draw_that_is_open_but_not_full_has_the_gradient_of_finite_differences() -> None:
    part = HardConcrete((20,), log_alpha=0.3, generator=generator(0)).double()
    weight = normal((20,), 0).double().requires_grad_()
    state = part.get_extra_state()

    def drawn(weight: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        part.set_extra_state(state)
        result: torch.Tensor = part(weight)
        return result

    assert torch.autograd.gradcheck(drawn, (weight, part.log_alpha))


@pytest.mark.parametrize(("name", "value"), [("temperature", 0.0), ("lower", 0.0), ("upper", 1.0)])
def test_ends_that_make_no_exact_zeros_and_ones_are_refused(name: str, value: float) -> None:
    settings = {"temperature": 2 / 3, "lower": -0.1, "upper": 1.1} | {name: value}

    with pytest.raises(ValueError, match="temperature must be above 0, lower below 0 and upper above 1"):
        HardConcrete((1,), log_alpha=0.0, generator=torch.Generator(), **settings)
