"""GSE: what grows is the best of the candidates that the seed draws, and of all absent where these are all."""

import functools

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import Sparsifier, growth, recipes
from gossamer.nn import SparseLinear


def layer() -> SparseLinear:
    return SparseLinear(40, 30, sparsity=0.9, generator=torch.Generator().manual_seed(0)).double()


def train_step(model: nn.Module, sparsifier: Sparsifier, optimizer: SGD) -> Tensor:
    optimizer.zero_grad()
    inputs = torch.randn(16, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model(inputs).pow(2).sum().backward()
    gradient = torch.cat([tile for _, tile in sparsifier.weights[0].gradient_tiles()])
    optimizer.step()
    return gradient


def test_growth_takes_the_best_of_as_many_candidates_as_weights_are_active() -> None:
    model = layer()
    optimizer = SGD(model.parameters(), lr=0.0)
    generator = torch.Generator().manual_seed(5)
    sparsifier = recipes.gse(model, optimizer, update_every=1, stop_step=10**9, generator=generator)
    weight = sparsifier.weights[0]
    before, values = weight.indices(), weight.values().clone()
    gradient = train_step(model, sparsifier, optimizer)
    sparsifier.step()

    # 120 weights, a fifth of which goes.
    kept = before[values.abs().sort(descending=True).indices[:96]].sort().values
    none = torch.zeros(40, dtype=torch.bool)
    same = torch.Generator().manual_seed(5)
    drawn = growth.random(kept, none[:30], none, count=120, generator=same)
    best = drawn[gradient.flatten()[drawn].abs().topk(24).indices]
    assert weight.indices().tolist() == sorted([*kept.tolist(), *best.tolist()])


def test_with_all_places_as_candidates_it_grows_what_rigl_grows() -> None:
    found = []
    for recipe in (functools.partial(recipes.gse, candidates_per_active=1e9), recipes.rigl):
        model = layer()
        optimizer = SGD(model.parameters(), lr=0.01)
        generator = torch.Generator().manual_seed(5)
        sparsifier = recipe(model, optimizer, update_every=1, stop_step=50, drop_fraction=0.3, generator=generator)
        for _ in range(4):
            train_step(model, sparsifier, optimizer)
            sparsifier.step()
        found.append(sparsifier.weights[0].indices().tolist())

    assert found[0] == found[1]


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan")])
def test_no_candidates_are_refused(wrong: float) -> None:
    model = layer()
    with pytest.raises(ValueError, match="candidates_per_active must be above 0"):
        recipes.gse(
            model,
            SGD(model.parameters(), lr=0.1),
            stop_step=10,
            generator=torch.Generator(),
            candidates_per_active=wrong,
        )


def test_a_nan_names_the_weight_and_the_step() -> None:
    model = layer()
    optimizer = SGD(model.parameters(), lr=0.0)
    sparsifier = recipes.gse(model, optimizer, update_every=1, stop_step=9, generator=torch.Generator())
    model(torch.full((2, 40), float("nan"), dtype=torch.float64)).sum().backward()
    optimizer.step()

    with pytest.raises(ValueError, match="NaN") as raised:
        sparsifier.step()
    assert raised.value.__notes__ == ["while updating values after step 1"]
