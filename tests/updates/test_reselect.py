from typing import Any

import pytest
import torch
from torch.optim import SGD

from gossamer import budgets, criteria, schedules
from gossamer.updates import Change, Reselect, Surgery, Update
from gossamer.weights import MaskedWeight

from .storage import View, dense_of, momentum_of, view_of

VALUES = [[4.0, -1.0], [-3.0, 2.0]]
STEPS: dict[str, Any] = {"start_step": 0, "stop_step": 4, "update_every": 1}


def reselect(sparsity: float = 0.5, **changed: Any) -> Reselect:
    settings: dict[str, Any] = {"budget": budgets.uniform, "sparsity": schedules.constant(sparsity), **STEPS}
    return Reselect(drop=criteria.magnitude, **(settings | changed))


def surgery(deviations: float = 0.0, margin: float = 0.1, **changed: Any) -> Surgery:
    return Surgery(deviations=deviations, margin=margin, **(STEPS | changed))


def masked(values: list[list[float]], name: str = "w") -> MaskedWeight:
    weight = view_of(torch.tensor(values), "masked", mask=torch.ones_like(torch.tensor(values)) > 0, name=name)[1]
    assert isinstance(weight, MaskedWeight)
    weight.keep_latent_(trained=True)
    return weight


def apply(update: Update, weights: list[Any], optimizer: SGD | None = None) -> list[Change]:
    optimizer = optimizer or SGD([weight.parameter for weight in weights], lr=0.1)
    rest: dict[str, Any] = {"optimizer": optimizer, "generator": torch.Generator()}
    return [update.apply(weight, list(weights), 1, **rest) for weight in weights]


def latent_of(weight: MaskedWeight) -> list[list[float]]:
    assert weight.latent is not None
    rows: list[list[float]] = weight.latent.tolist()
    return rows


def test_the_smallest_go_out_of_sight_and_come_back_when_they_have_grown() -> None:
    weight = masked(VALUES)

    assert apply(reselect(), [weight]) == [Change("w", 2, 0)]
    assert dense_of(weight) == [[4.0, 0.0], [-3.0, 0.0]]
    assert latent_of(weight) == [[0.0, -1.0], [0.0, 2.0]]
    assert weight.latent is not None
    weight.latent[1, 1] = 3.5
    assert apply(reselect(), [weight]) == [Change("w", 1, 1)]
    assert dense_of(weight) == [[4.0, 0.0], [0.0, 3.5]]
    assert latent_of(weight) == [[0.0, -1.0], [-3.0, 0.0]]


def test_the_optimizer_keeps_what_it_knows_of_all_values() -> None:
    weight = masked(VALUES)
    optimizer = SGD([weight.parameter], lr=0.0, momentum=0.9)
    weight.parameter.grad = torch.arange(4.0).view(2, 2)
    optimizer.step()
    apply(reselect(), [weight], optimizer)
    apply(reselect(0.0), [weight], optimizer)

    assert momentum_of(weight, optimizer).tolist() == [0.0, 1.0, 2.0, 3.0]


def test_without_a_budget_latent_values_of_all_weights_compete() -> None:
    one, other = masked([[4.0, 1.0]], "one"), masked([[2.0, 3.0]], "other")
    apply(reselect(0.5, budget=None), [one, other])
    assert [one.indices().tolist(), other.indices().tolist()] == [[0], [1]]
    assert other.latent is not None
    other.latent[0, 0] = 9.0

    assert apply(reselect(0.5, budget=None), [one, other]) == [Change("one", 0, 0), Change("other", 1, 1)]
    assert [one.indices().tolist(), other.indices().tolist()] == [[0], [0]]


def test_what_is_closed_is_never_chosen() -> None:
    weight = masked(VALUES)
    weight.closed_columns = torch.tensor([True, False])
    apply(reselect(), [weight])

    assert weight.indices().tolist() == [1, 3]


def test_surgery_drops_below_its_lower_threshold_and_splices_above_the_higher() -> None:
    # mean 2.5, so 2.25 and 2.75
    weight = masked([[5.0, 2.3], [-2.2, 0.5]])

    assert apply(surgery(), [weight]) == [Change("w", 2, 0)]
    assert dense_of(weight) == [[5.0, 2.299999952316284], [0.0, 0.0]]
    # mean 2.5 again; of two values between the thresholds the active one stays active, the latent one latent
    assert weight.latent is not None
    weight.latent[1] = torch.tensor([-2.6, 0.1])
    assert apply(surgery(), [weight]) == [Change("w", 0, 0)]
    weight.latent[1] = torch.tensor([-2.9, 0.1])
    assert apply(surgery(), [weight]) == [Change("w", 1, 1)]
    assert weight.indices().tolist() == [0, 2]


def test_surgery_measures_in_deviations() -> None:
    # mean 3, deviation 1: at one deviation the threshold is 4
    weight = masked([[2.0, -4.0], [4.0, -2.0]])
    apply(surgery(1.0, margin=0.0), [weight])

    assert weight.indices().tolist() == [1, 2]


def test_a_threshold_below_zero_keeps_all_and_one_beyond_the_largest_none() -> None:
    weight = masked(VALUES)
    apply(surgery(-100.0), [weight])
    assert weight.num_active == 4
    apply(surgery(100.0), [weight])

    assert weight.num_active == 0


@pytest.mark.parametrize("update", [reselect(), surgery()], ids=["reselect", "surgery"])
def test_a_nan_is_an_error(update: Update) -> None:
    with pytest.raises(ValueError, match=r"NaN"):
        apply(update, [masked([[float("nan"), 1.0]])])


@pytest.mark.parametrize("update", [reselect(), surgery()], ids=["reselect", "surgery"])
@pytest.mark.parametrize("storage", ["masked", "truly sparse"])
def test_a_weight_without_latent_values_is_refused(update: Update, storage: str) -> None:
    weight: View = view_of(torch.tensor(VALUES), storage)[1]

    with pytest.raises(ValueError, match=r"w keeps no latent values"):
        apply(update, [weight])


def test_both_are_due_from_the_start_at_each_stretch_and_at_the_stop() -> None:
    span = {"start_step": 3, "stop_step": 10, "update_every": 3}

    assert [step for step in range(15) if reselect(**span).due(step)] == [3, 6, 9, 10]
    assert [step for step in range(15) if surgery(**span).due(step)] == [3, 6, 9, 10]


@pytest.mark.parametrize(
    ("make", "changed", "text"),
    [
        (reselect, {"update_every": 0}, "update_every must be 1 or more, got 0"),
        (reselect, {"sparsity": 1.0}, r"sparsity must lie in \[0, 1\), got 1.0"),
        (surgery, {"update_every": 0}, "update_every must be 1 or more, got 0"),
        (surgery, {"margin": 1.5}, r"margin must lie in \[0, 1\], got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(make: Any, changed: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make(**changed)
