import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import neurons
from gossamer.nn import SparseLinear

from ..weights.optimizers import OPTIMIZERS
from .build import ACTIVATIONS, STORAGES, dense_of, held, network, plain, seeded, sizes_of, state_of, steps

both = pytest.mark.parametrize("storage", STORAGES)
INPUTS = torch.randn(20, 7, generator=seeded(9), dtype=torch.float64)
Change = Callable[..., None]


def grow(model: nn.Module, name: str = "0", **rest: object) -> None:
    neurons.grow_(model, name, num_neurons=2, generator=seeded(1), **rest)  # type: ignore[arg-type]


def split(model: nn.Module, name: str = "0", **rest: object) -> None:
    neurons.split_(model, name, torch.tensor([4, 1]), generator=seeded(1), **rest)  # type: ignore[arg-type]


CHANGES: dict[str, Change] = {"grow_": grow, "split_": split}
either = pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))


def outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(INPUTS.clone())
    return found


@both
@either
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_the_function_stays_at_the_moment_of_growth(storage: str, change: Change, activation: str, bias: bool) -> None:
    model = network([7, 9, 8, 4], storage, activation=activation, bias=bias)
    before, keys = outputs(model), list(model.state_dict())

    change(model, "0")
    change(model, "2")

    torch.testing.assert_close(outputs(model), before, rtol=0.0, atol=1e-12)
    assert sizes_of(model) == [(11, 7), (10, 11), (4, 10)]
    assert list(model.state_dict()) == keys


def test_a_split_neuron_by_hand() -> None:
    first, last = nn.Linear(2, 2), nn.Linear(2, 2)
    model = nn.Sequential(first, nn.ReLU(), last)
    first.weight.data, first.bias.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([5.0, 6.0])
    last.weight.data = torch.tensor([[1.0, 2.0], [3.0, -4.0]])

    neurons.split_(model, "0", torch.tensor([False, True]), generator=seeded())

    assert first.weight.tolist() == [[1.0, 2.0], [3.0, 4.0], [3.0, 4.0]]
    assert first.bias.tolist() == [5.0, 6.0, 6.0]
    share = torch.rand(2, generator=seeded(), dtype=torch.float64).float()
    assert torch.equal(last.weight[:, 0], torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(last.weight[:, 1].detach(), share * torch.tensor([2.0, -4.0]))
    torch.testing.assert_close(last.weight[:, 1:].sum(1).detach(), torch.tensor([2.0, -4.0]))


@both
def test_new_neurons_have_the_weights_that_are_asked_for(storage: str) -> None:
    model = network([7, 9, 4], storage)
    weights = held(model, SGD(model.parameters(), lr=0.1)).weights
    before = [weight.num_active for weight in weights]
    neurons.grow_(model, "0", num_neurons=3, num_inputs=5, num_outputs=2, generator=seeded(), weights=weights)

    rows, columns = weights[0].indices() // 7, weights[1].indices() % 12
    assert rows.bincount(minlength=12)[9:].tolist() == [5, 5, 5]
    assert columns.bincount(minlength=12)[9:].tolist() == [2, 2, 2]
    assert [weight.num_active for weight in weights] == [before[0] + 15, before[1] + 6]
    assert bool(weights[0].values()[rows >= 9].abs().max() <= (6 / 5) ** 0.5)
    assert bool(weights[0].values()[rows >= 9].all())
    assert not weights[1].values()[columns >= 9].any()


@both
def test_by_default_they_have_as_many_as_the_others(storage: str) -> None:
    model = plain([20, 10, 6], storage)
    weights = held(model, SGD(model.parameters(), lr=0.1)).weights
    expected = [weights[0].num_active // 10, weights[1].num_active // 10]
    neurons.grow_(model, "0", num_neurons=4, generator=seeded(), weights=weights)

    assert (weights[0].indices() // 20).bincount(minlength=14)[10:].tolist() == [expected[0]] * 4
    assert (weights[1].indices() % 14).bincount(minlength=14)[10:].tolist() == [expected[1]] * 4


def test_closed_inputs_and_outputs_stay_closed() -> None:
    model = network([7, 9, 8, 4], "truly sparse")
    weights = held(model, SGD(model.parameters(), lr=0.1)).weights
    weights[0].closed_columns[[0, 1, 2, 3]] = True
    weights[1].closed_rows[[0, 1, 2, 3, 4, 5]] = True
    neurons.grow_(model, "0", num_neurons=5, num_inputs=3, num_outputs=2, generator=seeded(), weights=weights)

    new = weights[0].indices() >= 9 * 7
    assert sorted(set((weights[0].indices()[new] % 7).tolist())) == [4, 5, 6]
    new = weights[1].indices() % 14 >= 9
    assert sorted(set((weights[1].indices()[new] // 14).tolist())) == [6, 7]


@both
@either
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_was_there_keeps_its_state_and_what_is_new_has_none(storage: str, change: Change, name: str) -> None:
    model = network([7, 9, 4], storage, density=0.7)
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    sparsifier = held(model, optimizer)
    steps(model, optimizer, sparsifier, 3, 7)
    objects = [id(parameter) for parameter in model.parameters()]
    old = [
        [dense_of(weight, tensor) for tensor in state_of(optimizer.state[weight.parameter], weight.parameter.shape)]
        for weight in sparsifier.weights
    ]

    change(model, weights=sparsifier.weights, optimizer=optimizer)

    assert [id(parameter) for parameter in model.parameters()] == objects
    for weight, before in zip(sparsifier.weights, old, strict=True):
        found = state_of(optimizer.state[weight.parameter], weight.parameter.shape)
        assert len(found) == len(before) >= 1
        for one, other in zip(found, before, strict=True):
            dense = dense_of(weight, one)
            rows, columns = other.shape
            assert torch.equal(dense[:rows, :columns], other)
            assert not dense[rows:].any()
            assert not dense[:, columns:].any()
    layer = model[0]
    assert isinstance(layer, (nn.Linear, SparseLinear))
    assert layer.bias is not None
    for tensor in state_of(optimizer.state[layer.bias], layer.bias.shape):
        assert not tensor[9:].any()
    steps(model, optimizer, sparsifier, 2, 7)


@either
def test_both_storages_grow_the_same(change: Change) -> None:
    models = [network([7, 9, 4], storage) for storage in STORAGES]
    found = []
    for model in models:
        weights = held(model, SGD(model.parameters(), lr=0.1)).weights
        change(model, weights=weights)
        found.append([dense_of(weight, weight.parameter.detach()) for weight in weights])

    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@both
def test_copies_part_ways_in_training_and_new_neurons_learn(storage: str) -> None:
    model = network([7, 9, 4], storage, density=0.8)
    optimizer = OPTIMIZERS["AdamW"](list(model.parameters()))
    sparsifier = held(model, optimizer)
    split(model, weights=sparsifier.weights, optimizer=optimizer)
    grow(model, weights=sparsifier.weights, optimizer=optimizer)
    weight, reader = sparsifier.weights
    start = dense_of(weight, weight.parameter.detach().clone())
    steps(model, optimizer, sparsifier, 5, 7)

    dense = dense_of(weight, weight.parameter.detach())
    assert not torch.allclose(dense[1], dense[9], rtol=1e-3)
    assert bool((dense_of(reader, reader.parameter.detach())[:, 11:] != 0).any())
    assert bool((dense[11:] != start[11:]).any())


@both
def test_growth_and_removal_undo_each_other(storage: str) -> None:
    model = network([7, 9, 4], storage)
    before = copy.deepcopy(model.state_dict())
    grow(model)
    neurons.remove_(model, "0", torch.tensor([9, 10]))

    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"num_neurons": 0}, "num_neurons must be 1 or more, got 0"),
        ({"num_inputs": 8}, r"num_inputs must lie in \[1, 7\], as so many places are open, got 8"),
        ({"num_inputs": 0}, r"num_inputs must lie in \[1, 7\]"),
        ({"num_outputs": 5}, r"num_outputs must lie in \[1, 4\]"),
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused_with_the_model_unchanged(changed: dict[str, int], text: str) -> None:
    model = network([7, 9, 4], "masked")
    with pytest.raises(ValueError, match=text):
        neurons.grow_(model, "0", **{"num_neurons": 1, "generator": seeded(), **changed})  # type: ignore[arg-type]

    assert sizes_of(model) == [(9, 7), (4, 9)]


def test_a_layer_that_nothing_known_reads_is_refused() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"'0' is no layer .*: 2\.weight"):
        neurons.grow_(model, "0", num_neurons=1, generator=seeded())
