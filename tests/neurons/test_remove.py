import copy

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import neurons, to_sparse
from gossamer.nn import SparseLinear
from gossamer.weights import MaskedWeight

from ..weights.optimizers import OPTIMIZERS
from .build import ACTIVATIONS, STORAGES, dense_of, held, kill_, network, seeded, sizes_of, state_of, steps

both = pytest.mark.parametrize("storage", STORAGES)
INPUTS = torch.randn(20, 7, generator=seeded(9), dtype=torch.float64)


def outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(INPUTS.clone())
    return found


@both
def test_a_hand_worked_pair(storage: str) -> None:
    first, second = nn.Linear(2, 3), nn.Linear(3, 1)
    first.weight.data = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 0.0]])
    first.bias.data = torch.tensor([0.5, 2.0, 0.0])
    second.weight.data, second.bias.data = torch.tensor([[1.0, 10.0, 0.0]]), torch.tensor([0.25])
    pair = [first, second] if storage == "masked" else [SparseLinear.from_dense(layer) for layer in (first, second)]
    model = nn.Sequential(pair[0], nn.ReLU(), pair[1])

    neurons.remove_dead_(model)

    # Neuron 1 passes on relu(2), times 10; nothing reads neuron 2.
    assert sizes_of(model) == [(1, 2), (1, 1)]
    parameters = dict(model.named_parameters())
    assert parameters["0.bias"].tolist() == [0.5]
    assert parameters["2.bias"].tolist() == [20.25]
    kind = "weight" if storage == "masked" else "values"
    assert [parameters[f"{layer}.{kind}"].flatten().tolist() for layer in (0, 2)] == [[1.0, 2.0], [1.0]]


@both
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dead_neurons_go_and_the_function_stays(storage: str, activation: str) -> None:
    model = network([7, 9, 8, 4], storage, activation=activation, density=0.9)
    kill_(model, 0, incoming=[1, 4], outgoing=[4, 6])
    kill_(model, 1, incoming=[0], outgoing=[7])
    before, keys = outputs(model), list(model.state_dict())

    neurons.remove_dead_(model)

    torch.testing.assert_close(outputs(model), before, rtol=0.0, atol=1e-12)
    assert sizes_of(model) == [(6, 7), (6, 6), (4, 6)]
    assert list(model.state_dict()) == keys


@both
@pytest.mark.parametrize("seed", range(6))
def test_any_sparse_network_keeps_its_function(storage: str, seed: int) -> None:
    # So sparse that many neurons die, and others of it.
    model = network([7, 12, 11, 10, 9, 4], storage, activation="All-ReLU", density=0.1, seed=seed)
    before = outputs(model)

    neurons.remove_dead_(model)

    torch.testing.assert_close(outputs(model), before, rtol=1e-12, atol=1e-12)
    found = sizes_of(model)
    assert sum(rows for rows, _ in found) < 46
    assert (found[0][1], found[-1][0]) == (7, 4)
    neurons.remove_dead_(model)
    assert sizes_of(model) == found


@both
def test_what_dies_with_a_neuron_goes_too_in_both_directions(storage: str) -> None:
    dense = network([7, 3, 3, 3, 4], "masked", density=1.0)
    second, third, last = (layer.weight.data for layer in list(dense)[2::2] if isinstance(layer, nn.Linear))
    # Nothing reads neuron 2 of the third layer, which alone reads neuron 0 of the second.
    last[:, 2], third[:2, 0] = 0.0, 0.0
    # Nothing comes into neuron 1 of the second layer, from which alone neuron 0 of the third has something.
    second[1], third[0, 2] = 0.0, 0.0
    model = dense if storage == "masked" else to_sparse(dense)
    before = outputs(model)

    neurons.remove_dead_(model)

    assert sizes_of(model) == [(3, 7), (1, 3), (1, 1), (4, 1)]
    torch.testing.assert_close(outputs(model), before, rtol=0.0, atol=1e-12)


@both
def test_without_a_bias_to_take_it_a_neuron_that_passes_on_something_stays(storage: str) -> None:
    silent = network([7, 9, 4], storage, bias=False, density=0.8)
    speaks = network([7, 9, 4], storage, bias=False, activation="sigmoid and dropout", density=0.8)
    for model in (silent, speaks):
        kill_(model, 0, incoming=[2, 3], outgoing=[5])
        before = outputs(model)
        neurons.remove_dead_(model)
        torch.testing.assert_close(outputs(model), before, rtol=0.0, atol=1e-12)

    # relu(0) = 0, sigmoid(0) = 0.5
    assert (sizes_of(silent)[0], sizes_of(speaks)[0]) == ((6, 7), (8, 7))


@both
def test_of_a_layer_that_is_dead_altogether_the_first_neuron_stays(storage: str) -> None:
    model = network([7, 5, 4], storage, density=0.8)
    kill_(model, 0, incoming=list(range(5)), outgoing=[])
    before = outputs(model)

    neurons.remove_dead_(model)

    assert sizes_of(model) == [(1, 7), (4, 1)]
    torch.testing.assert_close(outputs(model), before, rtol=0.0, atol=1e-12)


@both
def test_frozen_layers_lose_neurons_and_stay_frozen(storage: str) -> None:
    model = network([7, 9, 4], storage, density=0.8)
    kill_(model, 0, incoming=[2], outgoing=[5])
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    before = outputs(model)

    neurons.remove_dead_(model)

    assert sizes_of(model) == [(7, 7), (4, 7)]
    assert not any(parameter.requires_grad for parameter in model.parameters())
    torch.testing.assert_close(outputs(model), before, rtol=0.0, atol=1e-12)


@both
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_every_optimizer_stays_with_its_weights(storage: str, name: str) -> None:
    model = network([7, 9, 8, 4], storage, density=0.7)
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    sparsifier = held(model, optimizer)
    steps(model, optimizer, sparsifier, 3, 7)
    objects = [id(parameter) for parameter in model.parameters()]
    stays = [torch.tensor([0, 1, 2, 4, 5, 7, 8]), torch.tensor([1, 2, 3, 4, 5, 6, 7]), torch.arange(4)]
    expected, biases = [], []
    columns = torch.arange(7)
    for weight, rows, layer in zip(sparsifier.weights, stays, list(model)[::2], strict=True):
        state = state_of(optimizer.state[weight.parameter], weight.parameter.shape)
        tensors = [weight.parameter.detach(), *state]
        expected.append([dense_of(weight, tensor.clone())[rows][:, columns] for tensor in tensors])
        assert isinstance(layer, (nn.Linear, SparseLinear))
        assert layer.bias is not None
        biases.append([tensor[rows] for tensor in state_of(optimizer.state[layer.bias], layer.bias.shape)])
        columns = rows

    neurons.remove_(model, "0", torch.tensor([3, 6]), weights=sparsifier.weights, optimizer=optimizer)
    second = sparsifier.weights[1].name
    neurons.remove_(model, second, torch.arange(8) == 0, weights=sparsifier.weights, optimizer=optimizer)

    assert [id(parameter) for parameter in model.parameters()] == objects
    for weight, tensors, layer, bias in zip(sparsifier.weights, expected, list(model)[::2], biases, strict=True):
        found = [weight.parameter.detach(), *state_of(optimizer.state[weight.parameter], weight.parameter.shape)]
        assert len(found) == len(tensors) >= 2
        for one, other in zip(found, tensors, strict=True):
            assert torch.equal(dense_of(weight, one), other)
        assert isinstance(layer, (nn.Linear, SparseLinear))
        assert layer.bias is not None
        for one, other in zip(state_of(optimizer.state[layer.bias], layer.bias.shape), bias, strict=True):
            assert torch.equal(one, other)
    steps(model, optimizer, sparsifier, 2, 7)


@both
def test_training_goes_on_as_if_the_dead_were_still_there(storage: str) -> None:
    model = network([7, 9, 8, 4], storage, activation="All-ReLU", density=0.7)
    kill_(model, 0, incoming=[2], outgoing=[2, 5])
    whole, small = copy.deepcopy(model), copy.deepcopy(model)
    for each in (whole, small):
        optimizer = SGD(each.parameters(), lr=0.05, momentum=0.9)
        sparsifier = held(each, optimizer)
        steps(each, optimizer, sparsifier, 3, 7)
        if each is small:
            neurons.remove_dead_(each, weights=sparsifier.weights, optimizer=optimizer)
        steps(each, optimizer, sparsifier, 3, 7)

    assert sizes_of(small) == [(7, 7), (8, 7), (4, 8)]
    torch.testing.assert_close(outputs(small), outputs(whole), rtol=0.0, atol=1e-12)


def test_a_mask_latent_values_and_closed_rows_follow() -> None:
    model = network([7, 5, 4], "masked", density=0.6)
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
    sparsifier = held(model, optimizer)
    weight, reader = sparsifier.weights
    assert isinstance(weight, MaskedWeight)
    weight.keep_latent_(trained=True)
    assert weight.latent is not None
    weight.latent += torch.arange(35.0).view(5, 7) * ~weight.mask
    weight.closed_rows[4], reader.closed_columns[4] = True, True
    mask, latent = weight.mask.clone(), weight.latent.clone()

    neurons.remove_(model, "0", torch.tensor([0, 2]), weights=sparsifier.weights, optimizer=optimizer)

    rows = torch.tensor([1, 3, 4])
    assert torch.equal(weight.mask, mask[rows])
    assert torch.equal(weight.latent, latent[rows])
    assert weight.closed_rows.tolist() == reader.closed_columns.tolist() == [False, False, True]
    assert weight.num_active == int(mask[rows].sum())
    steps(model, optimizer, sparsifier, 2, 7)


def test_refusals_name_what_is_wrong() -> None:
    model = network([7, 5, 4], "masked")
    with pytest.raises(ValueError, match="all 5 neurons of 0 would go"):
        neurons.remove_(model, "0", torch.arange(5))
    with pytest.raises(ValueError, match=r"has neurons 0 to 4, got \[5\]"):
        neurons.remove_(model, "0", torch.tensor([5]))
    with pytest.raises(ValueError, match=r"a mask, bool, shape \[5\], got torch.float32"):
        neurons.remove_(model, "0", torch.zeros(5))
    with pytest.raises(ValueError, match=r"'2' is no layer whose outputs .* can change their size: 0\.weight"):
        neurons.remove_(model, "2", torch.tensor([0]))
    sparsifier = held(model, SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match=r"weights=sparsifier\.weights"):
        neurons.remove_dead_(model)
    sparsifier.finalize()
    neurons.remove_dead_(model)


class Tied(nn.Module):
    """Two layers that share a bias, or a weight that the forward pass reads by itself."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 2)
        self.what = what
        if what == "weight":
            self.second.weight = self.first.weight
        if what == "bias":
            self.second.bias = self.last.bias = None  # type: ignore[assignment]
            self.second.bias = self.first.bias

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu(self.second(torch.relu(self.first(inputs))))
        if self.what == "read":
            hidden = hidden @ self.second.weight
            return torch.nn.functional.linear(hidden, self.first.weight)
        result: Tensor = self.second(hidden) if self.what == "module" else self.last(hidden)
        return result


@pytest.mark.parametrize("what", ["weight", "bias", "read", "module"])
def test_what_is_shared_is_refused(what: str) -> None:
    with pytest.raises(ValueError, match="that share nothing and are used once"):
        neurons.remove_dead_(Tied(what))


def test_batch_normalisation_between_is_refused() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    with pytest.raises(ValueError, match="only element-wise functions between"):
        neurons.remove_dead_(model)


def test_functions_and_methods_of_torch_are_applied_to_constants() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(7, 6), nn.Linear(6, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = nn.functional.leaky_relu(self.first(inputs), 0.3, inplace=True).sigmoid()
            hidden = nn.functional.dropout(input=hidden, p=0.5, training=self.training)
            result: Tensor = self.last(nn.functional.gelu(input=hidden))
            return result

    torch.manual_seed(0)
    model = Functional().double()
    model.first.weight.data[[1, 4]] = 0.0
    before = outputs(model)
    neurons.remove_dead_(model.train())

    assert sizes_of(model) == [(4, 7), (3, 4)]
    assert model.training
    torch.testing.assert_close(outputs(model), before, rtol=0.0, atol=1e-12)
