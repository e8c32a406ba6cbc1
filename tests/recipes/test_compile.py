from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from gossamer import Sparsifier, budgets, recipes
from gossamer.models import mlp

from .network import seeded


def begin() -> tuple[nn.Sequential, SGD]:
    model = mlp([12, 16, 8], sparsity=0.6, budget=budgets.uniform, generator=seeded()).double()
    model[1] = nn.ReLU(inplace=True)
    return model, SGD(model.parameters(), lr=0.05, momentum=0.9)


def rigl(model: nn.Module, optimizer: SGD) -> Sparsifier:
    return recipes.rigl(model, optimizer, update_every=3, stop_step=30, generator=seeded())


def train(forward: Any, optimizer: SGD, sparsifier: Sparsifier, steps: int = 7) -> list[list[int]]:
    for step in range(steps):
        optimizer.zero_grad()
        forward(torch.randn(8, 12, generator=seeded(step), dtype=torch.float64)).pow(2).mean().backward()
        optimizer.step()
        sparsifier.step()
    return [weight.indices().tolist() for weight in sparsifier.weights]


def compiled(model: nn.Module, **settings: Any) -> Any:
    torch.compiler.reset()
    return torch.compile(model, backend="aot_eager", **settings)


# The tracer meets an attribute that it means to hide its own warning of.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor")
def test_a_model_compiled_after_its_sparsifier_grows_what_the_plain_one_grows() -> None:
    model, optimizer = begin()
    expected = train(model, optimizer, rigl(model, optimizer))
    model, optimizer = begin()
    sparsifier = rigl(model, optimizer)

    assert train(compiled(model), optimizer, sparsifier) == expected


def test_a_model_compiled_before_its_sparsifier_says_what_to_do() -> None:
    model, optimizer = begin()
    forward = compiled(model)
    forward(torch.ones(8, 12, dtype=torch.float64))
    sparsifier = rigl(model, optimizer)

    with pytest.raises(RuntimeError, match=r"must be compiled after the sparsifier is made"):
        train(forward, optimizer, sparsifier)


def test_a_topology_that_needs_no_gradient_compiles_to_one_graph() -> None:
    model, optimizer = begin()
    sparsifier = recipes.set_(model, optimizer, update_every=2, stop_step=9, generator=seeded())

    train(compiled(model, fullgraph=True), optimizer, sparsifier, steps=5)
