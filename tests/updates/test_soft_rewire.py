import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import Sparsifier, recipes
from gossamer.models import mlp
from gossamer.updates import Change, SoftRewire
from gossamer.weights import MaskedWeight

from .storage import momentum_of, view_of


def begun(update: SoftRewire, values: list[float], asleep: list[float]) -> MaskedWeight:
    """Return a weight of which some entries are active and the others asleep, each given as value."""
    weight = view_of(torch.tensor([values], dtype=torch.float64), "masked")[1]
    assert isinstance(weight, MaskedWeight)
    weight.keep_latent_(trained=False)
    weight.latent = torch.tensor([asleep], dtype=torch.float64)
    update.begin([weight])
    return weight


def walk(update: SoftRewire, weight: MaskedWeight, optimizer: SGD | None = None) -> Change:
    optimizer = optimizer or SGD([weight.parameter], lr=0.5)
    return update.apply(weight, [weight], 1, optimizer=optimizer, generator=torch.Generator().manual_seed(0))


def soft(**changed: Any) -> SoftRewire:
    rules: dict[str, Any] = {"strength": 0.0, "temperature": 0.0, "lowest": -1.0, "stop_step": 9}
    return SoftRewire(**(rules | changed))


def test_the_penalty_pulls_what_is_active_and_what_passes_zero_sleeps_there() -> None:
    update = soft(strength=0.5)
    weight = begun(update, [2.0, -0.125, 0.25, 0.0], [0.0, 0.0, 0.0, -0.5])

    # each comes 0.25 nearer: -0.125 passes zero and keeps its place behind it, 0.25 ends at zero and stays
    assert walk(update, weight) == Change("w", 1, 0)
    assert weight.mask.tolist() == [[True, False, True, False]]
    assert weight.parameter.tolist() == [[1.75, 0.0, 0.0, 0.0]]
    assert weight.latent is not None
    assert weight.latent.tolist() == [[0.0, 0.125, 0.0, -0.5]]


def test_noise_wakes_by_the_fixed_sign_and_no_walk_goes_below_the_lowest() -> None:
    update = soft(temperature=4.0, lowest=-0.5)
    # Theta is 3, -0.25 with a negative sign, -0.25, -0.5, 0.25 with a negative sign.
    weight = begun(update, [3.0, 0.0, 0.0, 0.0, -0.25], [0.0, 0.25, -0.25, -0.5, 0.0])
    noise = torch.randn((1, 5), generator=torch.Generator().manual_seed(0)).double() * math.sqrt(2 * 0.5 * 4.0)
    sign = torch.tensor([[1.0, -1.0, 1.0, 1.0, -1.0]], dtype=torch.float64)
    theta = (torch.tensor([[3.0, -0.25, -0.25, -0.5, 0.25]], dtype=torch.float64) + noise).clamp(min=-0.5)
    change = walk(update, weight)

    assert change.num_dropped > 0
    assert change.num_grown > 0
    assert torch.equal(weight.mask, theta >= 0)
    torch.testing.assert_close(weight.dense_values(), sign * theta, rtol=1e-12, atol=1e-12)


def test_what_wakes_starts_without_state_and_what_stays_keeps_its_own() -> None:
    update = soft(temperature=0.5)
    weight = begun(update, [3.0, 2.0] + [0.0] * 30, [0.0, 0.0] + [-1e-3] * 30)
    optimizer = SGD([weight.parameter], lr=0.5, momentum=0.9)
    weight.parameter.grad = torch.where(weight.mask, 1.0, 0.0).double()
    optimizer.step()
    change = walk(update, weight, optimizer)

    assert (change.num_dropped, change.num_grown > 5) == (0, True)
    assert momentum_of(weight, optimizer).tolist() == [1.0, 1.0] + [0.0] * change.num_grown


def test_closed_rows_stay_as_they_are() -> None:
    update = soft(strength=1.0, temperature=4.0)
    weight = begun(update, [3.0, 0.0, 0.0], [0.0, -0.5, 0.5])
    weight.closed_columns[:] = True
    before = weight.dense_values()

    assert walk(update, weight) == Change("w", 0, 0)
    assert torch.equal(weight.dense_values(), before)


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_without_a_gradient_the_density_of_the_walk_is_that_of_the_formula(sparsity: float) -> None:
    model = nn.Linear(100, 100, bias=False)
    # As near zero as the walk keeps them.
    model.weight.data.mul_(0.1)
    optimizer = SGD(model.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    sparsifier = recipes.soft_deep_r(
        model, optimizer, sparsity=sparsity, strength=2.0, temperature=0.05, stop_step=10**6, generator=generator
    )
    fractions = []
    for _ in range(1200):
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
        sparsifier.step()
        fractions.append(sparsifier.num_active() / 10_000)

    # Exact for short steps; these are an eighth of how far the active ones spread.
    assert sum(fractions[800:]) / 400 == pytest.approx(1 - sparsity, rel=0.08)


def test_signs_stay_for_good() -> None:
    model = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(0)
    sparsifier = recipes.soft_deep_r(
        model, optimizer, sparsity=0.7, strength=0.5, temperature=0.02, stop_step=99, generator=generator
    )
    seen = [torch.zeros(weight.shape) for weight in sparsifier.weights]
    for _ in range(40):
        optimizer.zero_grad()
        model(torch.randn(8, 10, generator=generator)).square().mean().backward()
        optimizer.step()
        sparsifier.step()
        for weight, signs in zip(sparsifier.weights, seen, strict=True):
            now = weight.parameter.detach().sign()
            assert not bool((now * signs < 0).any())
            signs.copy_(torch.where(now != 0, now, signs))

    assert all(len(set(signs.flatten().tolist())) == 3 or bool(signs.all()) for signs in seen)


def start(**changed: Any) -> Sparsifier:
    model = changed.pop("model", None) or nn.Linear(6, 4)
    rules: dict[str, Any] = {"sparsity": 0.5, "strength": 1.0, "temperature": 1.0, "stop_step": 9} | changed
    optimizer = SGD(model.parameters(), lr=0.1)
    return recipes.soft_deep_r(model, optimizer, generator=torch.Generator().manual_seed(0), **rules)


def test_absent_weights_start_spread_over_the_walk() -> None:
    (weight,) = start(model=nn.Linear(50, 40), sparsity=0.75).weights
    assert isinstance(weight, MaskedWeight)
    assert weight.latent is not None
    theta: Tensor = weight.latent[~weight.mask]

    assert weight.num_active == 500
    # lowest is -(1 / 1) 0.75 / 0.25
    assert 2.9 < float(theta.abs().max()) <= 3.0
    assert float(theta.abs().mean()) == pytest.approx(1.5, abs=0.1)
    assert float((theta > 0).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_settings_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sparsity must lie in \(0, 1\), got 0.0"):
        start(sparsity=0.0)
    with pytest.raises(ValueError, match=r"nothing keeps a sparsity, got strength=0.0 and temperature=1.0"):
        start(strength=0.0)
    with pytest.raises(ValueError, match=r"strength must be 0 or more and finite, got -1.0"):
        start(strength=-1.0, lowest=-1.0)
    with pytest.raises(ValueError, match=r"lowest must lie below 0 and be finite, got 0.5"):
        start(lowest=0.5)
    with pytest.raises(ValueError, match="w keeps no latent values"):
        soft().begin([view_of(torch.eye(2), "masked")[1]])
    with pytest.raises(ValueError, match="truly sparse, but this method moves every absent weight at every step"):
        start(model=mlp([6, 5, 4], sparsity=0.5, generator=torch.Generator()))


def test_a_nan_is_refused() -> None:
    update = soft()
    weight = begun(update, [math.nan, 1.0], [0.0, 0.0])

    with pytest.raises(ValueError, match="1 values are NaN"):
        walk(update, weight)
