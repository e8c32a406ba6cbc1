from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW, Optimizer

from gossamer import budgets, criteria
from gossamer.updates import Alternate, Change
from gossamer.updates.alternate import forget_, phases
from gossamer.weights import MaskedWeight

from .storage import View, dense_of, momentum_of, view_of

VALUES = [[4.0, -1.0], [-3.0, 2.0]]


def alternate(**changed: Any) -> Alternate:
    settings: dict[str, Any] = {
        "sparsity": 0.5,
        "budget": budgets.uniform,
        "compress_steps": (1, 3),
        "open_steps": (2,),
    }
    return Alternate(drop=criteria.magnitude, **(settings | changed))


def masked(values: list[list[float]], name: str = "w") -> MaskedWeight:
    weight = view_of(torch.tensor(values), "masked", mask=torch.ones_like(torch.tensor(values)) > 0, name=name)[1]
    assert isinstance(weight, MaskedWeight)
    return weight


def apply(update: Alternate, weights: list[Any], step: int, optimizer: Optimizer | None = None) -> list[Change]:
    optimizer = optimizer or SGD([weight.parameter for weight in weights], lr=0.1)
    rest: dict[str, Any] = {"optimizer": optimizer, "generator": torch.Generator()}
    return [update.apply(weight, list(weights), step, **rest) for weight in weights]


def with_momentum(weight: View, value: float) -> SGD:
    optimizer = SGD([weight.parameter], lr=0.0, momentum=0.9)
    weight.parameter.grad = torch.full_like(weight.parameter, value)
    optimizer.step()
    return optimizer


def test_the_largest_stay_with_their_momentum_and_all_come_back_at_zero_without() -> None:
    weight = masked(VALUES)
    optimizer = with_momentum(weight, 5.0)

    assert apply(alternate(), [weight], 1, optimizer) == [Change("w", 2, 0)]
    assert dense_of(weight) == [[4.0, 0.0], [-3.0, 0.0]]
    assert apply(alternate(), [weight], 2, optimizer) == [Change("w", 0, 2)]
    assert weight.num_active == 4
    assert dense_of(weight) == [[4.0, 0.0], [-3.0, 0.0]]
    assert momentum_of(weight, optimizer).tolist() == [5.0, 0.0, 5.0, 0.0]


def test_latent_values_come_back_as_they_were_dropped() -> None:
    weight = masked(VALUES)
    weight.keep_latent_(trained=False)
    apply(alternate(), [weight], 1)
    weight.parameter.data[0, 0] = 9.0
    apply(alternate(), [weight], 2)

    assert dense_of(weight) == [[9.0, -1.0], [-3.0, 2.0]]


def test_without_a_budget_all_weights_compete() -> None:
    large, small = masked([[4.0, 5.0], [6.0, 1.0]], "large"), masked([[0.5, 3.0], [-0.25, 0.75]], "small")

    changes = apply(alternate(budget=None), [large, small], 1)

    assert changes == [Change("large", 1, 0), Change("small", 3, 0)]
    assert dense_of(large) == [[4.0, 5.0], [6.0, 0.0]]
    assert dense_of(small) == [[0.0, 3.0], [0.0, 0.0]]


def test_equal_values_over_all_weights_are_kept_in_exact_number() -> None:
    weights = [masked([[1.0] * 3], name) for name in "abc"]
    apply(alternate(budget=None, sparsity=0.45), weights, 1)

    # round(9 * 0.55) = 5: the first ones
    assert [weight.num_active for weight in weights] == [3, 2, 0]


def test_the_sparsity_is_of_the_dense_weights_though_some_are_absent_already() -> None:
    weight = view_of(torch.tensor([[4.0, 0.0], [-3.0, 0.0]]), "masked")[1]

    assert apply(alternate(budget=None), [weight], 1) == [Change("w", 0, 0)]
    assert apply(alternate(budget=None, sparsity=0.75), [weight], 1) == [Change("w", 1, 0)]


def test_a_sparsity_of_zero_compresses_nothing() -> None:
    weight = masked(VALUES)

    assert apply(alternate(sparsity=0.0), [weight], 1) == [Change("w", 0, 0)]


def test_what_is_closed_stays_closed_in_the_dense_phase() -> None:
    weight = masked(VALUES)
    apply(alternate(), [weight], 1)
    weight.closed_rows = torch.tensor([True, False])
    apply(alternate(), [weight], 2)

    assert weight.indices().tolist() == [0, 2, 3]


def test_the_optimizer_starts_anew_only_where_that_is_asked() -> None:
    weight = masked(VALUES)
    optimizer = with_momentum(weight, 5.0)
    apply(alternate(reset_state=True), [weight], 1, optimizer)
    assert momentum_of(weight, optimizer).tolist() == [5.0, 5.0]
    apply(alternate(reset_state=True), [weight], 2, optimizer)

    assert momentum_of(weight, optimizer).tolist() == [0.0] * 4


def test_adam_that_forgot_steps_as_a_new_one() -> None:
    used, new = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    old, fresh = AdamW([used], lr=0.1), AdamW([new], lr=0.1)
    for _ in range(5):
        used.grad = torch.tensor([1.0, -2.0, 3.0])
        old.step()
    forget_(old)
    used.data.fill_(1.0)
    for parameter, optimizer in ((used, old), (new, fresh)):
        parameter.grad = torch.tensor([0.5, 0.25, -1.0])
        optimizer.step()

    assert torch.equal(used, new)


def test_a_truly_sparse_weight_is_refused() -> None:
    weight = view_of(torch.tensor(VALUES), "truly sparse")[1]

    with pytest.raises(ValueError, match=r"w is truly sparse, and a phase in which all weights exist is not"):
        apply(alternate(), [weight], 1)


def test_it_is_due_where_a_phase_begins() -> None:
    assert [step for step in range(9) if alternate(compress_steps=(1, 5), open_steps=(3, 7)).due(step)] == [1, 3, 5, 7]


@pytest.mark.parametrize(
    "changed",
    [
        {"compress_steps": ()},
        {"compress_steps": (0, 3)},
        {"compress_steps": (3,), "open_steps": (2,)},
        {"compress_steps": (1, 2), "open_steps": (3,)},
        {"compress_steps": (1, 3, 5), "open_steps": (2,)},
        {"compress_steps": (1,), "open_steps": (1,)},
        {"compress_steps": (1,), "open_steps": (2, 3)},
    ],
    ids=str,
)
def test_phases_that_do_not_take_turns_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must take turns"):
        alternate(**changed)


def test_a_sparsity_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\), got 1.0"):
        alternate(sparsity=1.0)


@pytest.mark.parametrize(
    ("stop_step", "expected"),
    [
        (3, ((1, 3), (2,))),
        (2, ((1,), ())),
        (4, ((1, 4), (2,))),
        (5, ((1, 4), (2,))),
        (6, ((1, 4, 6), (2, 5))),
    ],
)
def test_the_last_phase_is_sparse(stop_step: int, expected: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    assert phases(start_step=1, stop_step=stop_step, num_sparse_steps=1, num_dense_steps=2) == expected


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"num_sparse_steps": 0}, "num_sparse_steps must be 1 or more, got 0"),
        ({"num_dense_steps": 0}, "num_dense_steps must be 1 or more, got 0"),
        ({"start_step": 0}, "1 <= start_step < stop_step, got 0 and 9"),
        ({"stop_step": 1}, "1 <= start_step < stop_step, got 1 and 1"),
    ],
    ids=str,
)
def test_phases_out_of_range_are_refused(changed: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        phases(**({"start_step": 1, "stop_step": 9, "num_sparse_steps": 1, "num_dense_steps": 1} | changed))
