import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adafactor

from gossamer import neurons, to_sparse
from gossamer.weights import MaskedWeight

from .build import STORAGES, held, network, seeded, sizes_of, steps

both = pytest.mark.parametrize("storage", STORAGES)


@both
@pytest.mark.parametrize("sizes", [[7, 3, 4, 4], [7, 12, 9, 4], [7, 9, 2, 4], [7, 9, 8, 4]], ids=str)
def test_a_model_takes_the_hidden_sizes_of_a_state(storage: str, sizes: list[int]) -> None:
    saved, model = network(sizes, storage, seed=1), network([7, 9, 8, 4], storage)
    objects = [id(parameter) for parameter in model.parameters()]

    neurons.fit_(model, saved.state_dict())

    assert sizes_of(model) == sizes_of(saved)
    assert [id(parameter) for parameter in model.parameters()] == objects
    model.load_state_dict(saved.state_dict())
    inputs = torch.randn(5, 7, generator=seeded(), dtype=torch.float64)
    assert torch.equal(model(inputs), saved(inputs))


@both
def test_the_views_of_a_sparsifier_follow(storage: str) -> None:
    saved, model = network([7, 5, 6, 4], storage, seed=1), network([7, 9, 4, 4], storage)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    sparsifier = held(model, optimizer)
    before = held(saved, SGD(saved.parameters(), lr=0.1))
    neurons.fit_(model, saved.state_dict(), weights=sparsifier.weights)
    sparsifier.load_state_dict(before.state_dict())
    model.load_state_dict(saved.state_dict())

    for weight, other in zip(sparsifier.weights, before.weights, strict=True):
        assert weight.shape == other.shape
        assert torch.equal(weight.indices(), other.indices())
        assert torch.equal(weight.values(), other.values())
    steps(model, optimizer, sparsifier, 2, 7)


def test_a_dense_model_is_fitted_to_a_truly_sparse_state_and_the_other_way_round() -> None:
    dense = network([7, 3, 5, 4], "masked")
    sparse = to_sparse(dense)
    for model, state in (
        (network([7, 9, 8, 4], "masked"), sparse.state_dict()),
        (network([7, 9, 8, 4], "truly sparse"), dense.state_dict()),
    ):
        neurons.fit_(model, state)
        assert sizes_of(model) == sizes_of(dense)


@pytest.mark.parametrize("other", [[6, 3, 4], [7, 3, 5], [7, 3, 5, 4]], ids=str)
def test_input_and_output_keep_their_sizes_so_another_model_is_refused(other: list[int]) -> None:
    model = network([7, 9, 4], "masked")

    neurons.fit_(model, network(other, "masked").state_dict())

    with pytest.raises(RuntimeError, match=r"size mismatch|Unexpected key"):
        model.load_state_dict(network(other, "masked").state_dict())


def test_a_state_whose_layers_disagree_changes_nothing() -> None:
    model = network([7, 9, 4], "masked")
    state = network([7, 9, 4], "masked").state_dict()
    state["2.weight"] = torch.zeros(4, 5)
    neurons.fit_(model, state)
    neurons.fit_(model, {})
    neurons.fit_(nn.LayerNorm(3), state)

    assert sizes_of(model) == [(9, 7), (4, 9)]


def test_factored_moments_of_a_masked_weight_follow_rows_and_columns() -> None:
    model = network([7, 9, 4], "masked").float()
    whole = copy.deepcopy(model)
    optimizer = Adafactor(model.parameters(), lr=0.01)
    inputs = torch.randn(8, 7, generator=seeded())
    for _ in range(2):
        optimizer.zero_grad()
        model(inputs).pow(2).mean().backward()
        optimizer.step()
    reader = list(model.parameters())[2]
    rows, columns = optimizer.state[reader]["row_var"].clone(), optimizer.state[reader]["col_var"].clone()

    neurons.remove_(model, "0", torch.tensor([0, 8]), optimizer=optimizer)

    assert torch.equal(optimizer.state[reader]["row_var"], rows)
    assert torch.equal(optimizer.state[reader]["col_var"], columns[:, 1:8])
    model(inputs).pow(2).mean().backward()
    optimizer.step()
    assert sizes_of(whole) == [(9, 7), (4, 9)]


def test_a_copy_of_a_model_that_is_trained_changes_by_itself() -> None:
    model = network([7, 9, 4], "masked")
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = held(model, optimizer)
    other = copy.deepcopy(model)
    neurons.remove_(other, "0", torch.tensor([1]))

    assert sizes_of(other) == [(8, 7), (4, 8)]
    assert sizes_of(model) == [(9, 7), (4, 9)]
    assert all(isinstance(weight, MaskedWeight) for weight in sparsifier.weights)
    steps(model, optimizer, sparsifier, 1, 7)
