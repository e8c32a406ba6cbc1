from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from gossamer import Sparsifier, budgets, counts, recipes
from gossamer.models import mlp

from .network import seeded


def train(model: nn.Module, steps: int, **settings: Any) -> tuple[Sparsifier, list[dict[str, int]]]:
    """Prune a model while it trains; return what each weight keeps after each step."""
    optimizer = AdamW(model.parameters(), lr=0.01)
    sparsifier = recipes.gmp(model, optimizer, **settings)
    kept, gone = [], [torch.zeros(weight.shape, dtype=torch.bool) for weight in sparsifier.weights]
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 20, generator=seeded(step))).pow(2).mean().backward()
        optimizer.step()
        sparsifier.step()
        kept.append({weight.name: weight.num_active for weight in sparsifier.weights})
        for weight, never in zip(sparsifier.weights, gone, strict=True):
            active = torch.zeros(weight.shape, dtype=torch.bool)
            active.view(-1)[weight.indices()] = True

            # what is gone never comes back
            assert not (active & never).any()
            never |= ~active
    return sparsifier, kept


@pytest.mark.parametrize(("start_step", "update_every"), [(0, 1), (3, 4), (1, 100)])
def test_the_counts_are_those_of_the_cubic_schedule(start_step: int, update_every: int) -> None:
    span = 15 - start_step
    settings = {"sparsity": 0.9, "start_step": start_step, "stop_step": 15, "update_every": update_every}

    _, kept = train(mlp([20, 30, 5], generator=seeded()), 17, **settings)

    last = 0.0
    for step, found in enumerate(kept, start=1):
        if start_step <= step <= 15 and (step == 15 or (step - start_step) % update_every == 0):
            last = 0.9 * (1 - (1 - (step - start_step) / span) ** 3)
        assert found == {"0.weight": counts.num_active(600, last), "2.weight": counts.num_active(150, last)}
    assert kept[-1] == {"0.weight": 60, "2.weight": 15}


@pytest.mark.parametrize("budget", [budgets.er, budgets.erk, budgets.uniform])
def test_the_final_budget_is_met_to_the_weight(budget: budgets.Budget) -> None:
    model = mlp([20, 30, 17, 5], generator=seeded())

    sparsifier, kept = train(model, 12, sparsity=0.93, stop_step=12, update_every=1, budget=budget)

    assert kept[-1] == budget({weight.name: weight.shape for weight in sparsifier.weights}, sparsity=0.93)


def test_a_truly_sparse_model_shrinks_from_where_it_is() -> None:
    model = mlp([20, 30, 5], sparsity=0.5, budget=budgets.uniform, generator=seeded())

    sparsifier, kept = train(model, 12, sparsity=0.9, stop_step=10, update_every=1)

    assert kept[0] == {"0.values": 300, "2.values": 75}
    assert kept[-1] == {"0.values": 60, "2.values": 15}
    assert sum(layer.numel() for layer in model.parameters() if layer.dim() == 1) == 75 + 35
    assert [weight.parameter.numel() for weight in sparsifier.weights] == [60, 15]


def test_the_smallest_weights_go() -> None:
    linear = nn.Linear(4, 1, bias=False)
    linear.weight.data.copy_(torch.tensor([[4.0, -1.0, -3.0, 2.0]]))
    optimizer = SGD(linear.parameters(), lr=0.0)
    sparsifier = recipes.gmp(linear, optimizer, sparsity=0.5, stop_step=1)
    linear(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    sparsifier.step()

    assert linear.weight.tolist() == [[4.0, 0.0, -3.0, 0.0]]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"sparsity": 1.0}, r"sparsity must lie in \[0, 1\)"),
        ({"stop_step": 0}, "0 <= start_step < stop_step"),
        ({"start_step": 9}, "0 <= start_step < stop_step"),
        ({"start_step": -1}, "0 <= start_step < stop_step"),
        ({"update_every": 0}, "update_every must be 1 or more"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], text: str) -> None:
    model = nn.Linear(3, 2)

    with pytest.raises(ValueError, match=text):
        recipes.gmp(model, SGD(model.parameters(), lr=0.1), **({"sparsity": 0.5, "stop_step": 9} | settings))
    assert not model.weight._backward_hooks
