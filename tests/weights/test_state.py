import pytest
import torch
from torch.optim import SGD, AdamW

from .optimizers import OPTIMIZERS, Moments, Nested
from .storage import STORAGES, random_dense, state_of, train, view_of

both = pytest.mark.parametrize("storage", STORAGES)


@both
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("drop", "grow"), [(3, 3), (4, 0), (0, 5), (1, 6)], ids=str)
def test_survivors_keep_their_exact_state_and_grown_weights_have_none(
    storage: str, name: str, drop: int, grow: int
) -> None:
    module, weight = view_of(random_dense(4, 5, 0.5), storage)
    optimizer = OPTIMIZERS[name]([weight.parameter])
    train(module, weight, optimizer)
    before, values, places = (
        state_of(optimizer.state[weight.parameter], weight),
        weight.values().clone(),
        weight.indices(),
    )
    steps = optimizer.state[weight.parameter].get("step")
    absent = torch.tensor([place for place in range(20) if place not in places.tolist()])
    kept = torch.arange(drop, weight.num_active)
    weight.change_(kept, absent[:grow], torch.full((grow,), 0.5), optimizer)

    after = state_of(optimizer.state[weight.parameter], weight)
    stayed = torch.isin(weight.indices(), places)
    assert len(after) == len(before) >= 1
    for old, new in zip(before, after, strict=True):
        assert torch.equal(new[stayed], old[kept])
        assert not new[~stayed].any()
        assert new.dtype == old.dtype
    assert torch.equal(weight.values()[stayed], values[kept])
    assert weight.values()[~stayed].tolist() == [0.5] * grow
    assert optimizer.state[weight.parameter].get("step") is steps
    train(module, weight, optimizer, steps=2)


@both
def test_state_that_is_not_of_the_weights_shape_stays_the_same_object(storage: str) -> None:
    module, weight = view_of(random_dense(4, 5, 0.5), storage)
    optimizer = Nested([weight.parameter])
    train(module, weight, optimizer)
    other = optimizer.state[weight.parameter]["other"]
    weight.change_(torch.arange(2), torch.empty(0, dtype=torch.int64), torch.empty(0), optimizer)

    state = optimizer.state[weight.parameter]
    assert state["other"] is other
    assert state["history"]["label"] == "mine"
    assert state["nothing"] is None
    assert isinstance(state["moments"], Moments)
    assert float(state["step"]) == 3.0


@both
def test_a_single_active_weight_moves_with_its_state(storage: str) -> None:
    module, weight = view_of(torch.tensor([[0.0, 2.0], [0.0, 0.0]]), storage)
    optimizer = AdamW([weight.parameter], lr=0.1)
    train(module, weight, optimizer)
    weight.change_(torch.empty(0, dtype=torch.int64), torch.tensor([2]), torch.tensor([1.5]), optimizer)

    assert weight.indices().tolist() == [2]
    assert [moment.tolist() for moment in state_of(optimizer.state[weight.parameter], weight)] == [[0.0], [0.0]]
    assert float(optimizer.state[weight.parameter]["step"]) == 3.0


@both
def test_a_weight_without_active_entries_can_grow(storage: str) -> None:
    module, weight = view_of(torch.zeros(2, 3), storage)
    optimizer = SGD([weight.parameter], lr=0.1, momentum=0.9)
    train(module, weight, optimizer)
    weight.change_(torch.empty(0, dtype=torch.int64), torch.tensor([1, 5]), torch.ones(2), optimizer)

    assert weight.indices().tolist() == [1, 5]
    assert [moment.tolist() for moment in state_of(optimizer.state[weight.parameter], weight)] == [[0.0, 0.0]]


@pytest.mark.parametrize("count", [0, 3, 9])
def test_a_resize_while_an_old_graph_is_alive_leaves_a_layer_that_trains(count: int) -> None:
    module, weight = view_of(random_dense(4, 5, 0.5), "truly sparse")
    optimizer = SGD([weight.parameter], lr=0.1, momentum=0.9)
    train(module, weight, optimizer)
    parameter, old_loss = weight.parameter, module(torch.ones(2, 5, dtype=torch.float64)).sum()
    weight.change_(torch.arange(0), torch.arange(count), torch.ones(count), optimizer)
    train(module, weight, optimizer)

    assert weight.parameter is parameter
    assert weight.parameter.shape == weight.values().shape == (count,)
    assert old_loss.requires_grad


@both
def test_a_gradient_of_the_old_topology_is_dropped(storage: str) -> None:
    module, weight = view_of(random_dense(4, 5, 0.5), storage)
    train(module, weight, SGD([weight.parameter], lr=0.1))
    assert weight.parameter.grad is not None
    absent = torch.tensor([place for place in range(20) if place not in weight.indices().tolist()])
    # As many as before, so that nothing but the rule drops it.
    weight.change_(torch.arange(1, weight.num_active), absent[:1], torch.zeros(1), None)

    assert weight.parameter.grad is None
