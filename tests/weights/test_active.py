"""Values and gradients of the active weights alone, and the reach of the optimizer among latent ones."""

import pytest
import torch
from torch import nn
from torch.optim import SGD

from gossamer import Sparsifier
from gossamer.weights import MaskedWeight

from .storage import STORAGES, view_of

both = pytest.mark.parametrize("storage", STORAGES)
DENSE = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]])


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_new_values_stand_at_the_active_places_and_state_stays(storage: str, dtype: torch.dtype) -> None:
    _, weight = view_of(DENSE.to(dtype), storage)
    optimizer = SGD([weight.parameter], lr=0.0, momentum=0.9)
    weight.parameter.grad = torch.ones_like(weight.parameter)
    optimizer.step()
    before = optimizer.state[weight.parameter]["momentum_buffer"].clone()
    weight.set_values_(torch.tensor([7.0, 8.0, 9.0]))

    assert weight.values().dtype == dtype
    assert weight.values().tolist() == [7.0, 8.0, 9.0]
    assert weight.indices().tolist() == [0, 2, 5]
    assert torch.equal(optimizer.state[weight.parameter]["momentum_buffer"], before)
    if isinstance(weight, MaskedWeight):
        assert weight.parameter.detach().float().tolist() == [[7.0, 0.0, 8.0], [0.0, 0.0, 9.0]]


@both
def test_the_gradient_of_active_weights_comes_in_their_order(storage: str) -> None:
    module, weight = view_of(DENSE, storage)
    module(torch.tensor([[1.0, 2.0, 4.0]])).mul(torch.tensor([1.0, 10.0])).sum().backward()

    assert weight.gradient().tolist() == [1.0, 4.0, 40.0]
    assert not weight.gradient().requires_grad


@both
def test_a_gradient_that_is_gone_is_an_error_with_a_remedy(storage: str) -> None:
    _, weight = view_of(DENSE, storage)

    with pytest.raises(RuntimeError, match=r"has no gradient after the optimizer's step; .* zero_grad\(\) must come"):
        weight.gradient()


def test_what_is_out_of_reach_stays_whatever_the_optimizer_makes_of_it() -> None:
    layer = nn.Linear(4, 1, bias=False)
    layer.weight.data.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert isinstance(layer.weight, nn.Parameter)
    weight = MaskedWeight("w", layer.weight)
    weight.keep_latent_(trained=True)
    weight.set_mask_(torch.tensor([[True, False, False, False]]))
    weight.reach = torch.tensor([[True, True, False, False]])
    optimizer = SGD(layer.parameters(), lr=0.5, weight_decay=1.0)
    sparsifier = Sparsifier([weight], optimizer, updates=[], generator=torch.Generator())
    layer(torch.tensor([[2.0, 2.0, 2.0, 2.0]])).sum().backward()

    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[2.0, 2.0, 0.0, 0.0]]
    optimizer.step()
    sparsifier.step()
    assert weight.dense_values().tolist() == [[-0.5, 0.0, 3.0, 4.0]]
    assert layer.weight.tolist() == [[-0.5, 0.0, 0.0, 0.0]]
    # A new mask loses nothing, within reach or out of it.
    weight.set_mask_(torch.tensor([[False, False, False, True]]))
    assert weight.dense_values().tolist() == [[-0.5, 0.0, 3.0, 4.0]]
