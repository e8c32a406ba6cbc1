import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import Sparsifier
from gossamer.neurons import HiddenLayer, find_hidden
from gossamer.neurons.bridge import bridge_
from gossamer.weights import MaskedWeight, SparseWeight, prunable

from .build import STORAGES, dense_of, network, seeded, sizes_of

both = pytest.mark.parametrize("storage", STORAGES)
INPUTS = torch.randn(20, 7, generator=seeded(9), dtype=torch.float64)
Views = list[MaskedWeight | SparseWeight]


def watched(model: nn.Module) -> tuple[Views, list[HiddenLayer], SGD]:
    """Attach views that record activations, as a recipe does."""
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    weights = prunable(model)
    hidden = find_hidden(model, weights)
    modules = dict(model.named_modules())
    for weight in weights:
        if isinstance(weight, MaskedWeight):
            weight.set_mask_(weight.parameter.detach() != 0)
            layer = modules[weight.name.removesuffix(".weight")]
            assert isinstance(layer, nn.Linear)
            weight.records = layer
    sparsifier = Sparsifier(weights, optimizer, updates=[], generator=seeded())
    for weight in sparsifier.weights:
        weight.watch()
    return weights, hidden, optimizer


def bridging_gradient(model: nn.Sequential, layer: int) -> Tensor:
    """Return the gradient of a weight past a hidden layer, from the inputs of its layer to its reader's outputs."""
    values, found = INPUTS, []
    for number, module in enumerate(model):
        if number == layer:
            found.append(values.detach())
        values = module(values.clone())
        if number == layer + 2:
            values.retain_grad()
            found.append(values)
    values.pow(2).mean().backward()
    assert found[1].grad is not None
    return found[1].grad.t() @ found[0]


@both
@pytest.mark.parametrize("layer", [0, 2])
def test_new_neurons_join_the_pairs_of_the_largest_gradient(storage: str, layer: int) -> None:
    model = network([7, 9, 8, 4], storage, activation="GELU")
    expected = bridging_gradient(model, layer).flatten()
    best = expected.abs().topk(6).indices
    model.zero_grad()
    _, hidden, optimizer = watched(model)
    model(INPUTS).pow(2).mean().backward()
    before = model(INPUTS).detach()
    units = sizes_of(model)[layer // 2][0]
    here = hidden[layer // 2]

    bridge_(here, 2, num_pairs=3, optimizer=optimizer)

    incoming, outgoing = (dense_of(view, view.parameter.detach()) for view in (here.weight, here.reader))
    places = torch.zeros(outgoing.shape, dtype=torch.bool)
    places.view(-1)[here.reader.indices()] = True
    width = incoming.shape[1]
    for neuron in (0, 1):
        # Dealt out in turn.
        mine = best[neuron::2]
        strength = torch.zeros(width, dtype=torch.float64)
        strength.index_add_(0, mine % width, expected[mine].sign() * expected[mine].abs().sqrt())
        found = incoming[units + neuron]
        assert sorted(places[:, units + neuron].nonzero().flatten().tolist()) == sorted(set((mine // width).tolist()))
        torch.testing.assert_close(found / found.norm(), strength / strength.norm())
    assert not outgoing[:, units:].any()
    torch.testing.assert_close(model(INPUTS).detach(), before, rtol=0.0, atol=1e-12)
    new = incoming[units:]
    old = incoming[:units]
    torch.testing.assert_close(new[new != 0].abs().mean(), old[old != 0].abs().mean())


@both
def test_several_calls_and_backward_passes_add_up(storage: str) -> None:
    model = network([7, 9, 4], storage)
    weights, _, _ = watched(model)
    for _ in range(2):
        (model(INPUTS).pow(2).mean() + model(2 * INPUTS).mean()).backward()
    assert [len(weight.seen()) for weight in weights] == [4, 4]
    model.zero_grad()
    model(INPUTS).pow(2).mean().backward()
    assert [len(weight.seen()) for weight in weights] == [1, 1]
    weights[0].unwatch()
    with pytest.raises(RuntimeError, match="no gradient of 0"):
        weights[0].seen()


@both
def test_without_any_gradient_neurons_are_added_all_the_same(storage: str) -> None:
    model = network([7, 9, 4], storage)
    weights, hidden, optimizer = watched(model)
    (0.0 * model(INPUTS)).sum().backward()

    bridge_(hidden[0], 1, num_pairs=2, optimizer=optimizer)

    assert sizes_of(model) == [(10, 7), (4, 10)]
    assert bool((weights[0].values() != 0).all())


@both
def test_a_nan_is_refused(storage: str) -> None:
    model = network([7, 9, 4], storage)
    _, hidden, optimizer = watched(model)
    (float("nan") * model(INPUTS)).sum().backward()

    with pytest.raises(ValueError, match="holds NaN"):
        bridge_(hidden[0], 1, num_pairs=2, optimizer=optimizer)
    assert sizes_of(model) == [(9, 7), (4, 9)]
