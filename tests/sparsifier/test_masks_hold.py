from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, AdamW, Optimizer, RMSprop

from gossamer import Sparsifier, to_sparse

from .network import STORAGES, backward, inactive_of, network, rigl_of, seeded, static_of


class Noisy(Optimizer):
    """An optimizer that moves everything that it holds, whether it has a gradient or not."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            parameter.add_(torch.ones_like(parameter))


OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], Optimizer]] = {
    "SGD": lambda held: SGD(held, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "AdamW": lambda held: AdamW(held, lr=0.1, weight_decay=0.5, amsgrad=True),
    "RMSprop": lambda held: RMSprop(held, lr=0.1, momentum=0.9, weight_decay=0.1),
    "Noisy": Noisy,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("make", [static_of, rigl_of])
def test_a_masked_weight_never_drifts(name: str, make: Callable[..., Sparsifier]) -> None:
    model = network("masked")
    # Momentum from before the masks pushes on what the masks leave out.
    optimizer = OPTIMIZERS[name](model.parameters())
    backward(model)
    optimizer.step()
    sparsifier = make(model, optimizer, "masked")
    for step in range(6):
        optimizer.zero_grad()
        backward(model, seed=step)
        clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()

        assert not inactive_of(sparsifier).any()
        sparsifier.step()
        assert not inactive_of(sparsifier).any()
        assert sparsifier.num_active() == 40


def test_what_does_not_exist_has_no_gradient_for_clipping_to_see() -> None:
    model = network("masked")
    sparsifier = static_of(model, SGD(model.parameters(), lr=0.1), "masked")
    backward(model)

    for weight in sparsifier.weights:
        gradient = weight.parameter.grad
        assert gradient is not None
        assert gradient.any()
        assert not gradient.flatten().index_fill(0, weight.indices(), 0.0).any()


@pytest.mark.parametrize("make", [static_of, rigl_of])
def test_masked_and_truly_sparse_gradients_have_equal_norms(make: Callable[..., Sparsifier]) -> None:
    model = network("masked")
    make(model, SGD(model.parameters(), lr=0.1), "masked")
    twin = to_sparse(model)
    make(twin, SGD(twin.parameters(), lr=0.1), "truly sparse")
    norms = []
    for network_ in (model, twin):
        backward(network_)
        norms.append(clip_grad_norm_(network_.parameters(), 1e-3))

    assert float(norms[0]) > 0
    torch.testing.assert_close(norms[0], norms[1])


@pytest.mark.parametrize("storage", STORAGES)
def test_weights_outside_the_sparsifier_train_as_ever(storage: str) -> None:
    model, alone = network(storage), nn.Parameter(torch.ones(3, 3))
    optimizer = SGD([*model.parameters(), alone], lr=0.1, weight_decay=0.1)
    sparsifier = static_of(model, optimizer, storage)
    alone.grad = torch.randn(3, 3, generator=seeded())
    expected = alone.detach() - 0.1 * (alone.grad + 0.1 * alone.detach())
    optimizer.step()
    sparsifier.step()

    torch.testing.assert_close(alone.detach(), expected)
