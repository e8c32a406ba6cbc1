import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer import statistics

from .conftest import Mixed

Data = list[tuple[Tensor, Tensor]]


def owners(model: Mixed) -> dict[str, nn.Module]:
    return {"conv": model.conv, "hidden": model.hidden, "head": model.head}


def activations(model: Mixed, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    model.eval()
    first = model.act(model.norm(model.conv(inputs)))
    second = F.relu(model.hidden(first.flatten(1)))
    return first, second, model.head(second)


def test_moments_are_those_behind_normalisation_and_activation(model: Mixed, data: Data) -> None:
    found = statistics.unit_moments(model, owners(model), data)
    first, second, head = activations(model, torch.cat([inputs for inputs, _ in data]))

    assert torch.allclose(found["conv"].mean, first.mean((0, 2, 3)), rtol=1e-12)
    assert torch.equal(found["conv"].zero_fraction, (first == 0).double().mean((0, 2, 3)))
    assert torch.allclose(found["hidden"].energy, second.square().mean(0), rtol=1e-12)
    assert torch.allclose(found["hidden"].covariance, torch.cov(second.T, correction=0), rtol=1e-9, atol=1e-12)
    assert torch.allclose(found["head"].magnitude, head.abs().mean(0), rtol=1e-12)


def test_gates_are_the_derivatives_of_a_factor_on_each_unit(model: Mixed, data: Data) -> None:
    found = statistics.unit_gates(model, owners(model), data, F.cross_entropy)
    inputs, targets = (torch.cat(parts) for parts in zip(*data, strict=True))
    first, second, head = activations(model, inputs)
    gradients = torch.autograd.grad(F.cross_entropy(head, targets, reduction="sum"), [first, second])

    assert found["conv"].shape == (11, 4)
    assert torch.allclose(found["conv"], (first * gradients[0]).sum((2, 3)), rtol=1e-10, atol=1e-14)
    assert torch.allclose(found["hidden"], second * gradients[1], rtol=1e-10, atol=1e-14)


def test_a_gate_derivative_equals_a_finite_difference(model: Mixed, data: Data) -> None:
    inputs, targets = data[0]
    found = statistics.unit_gates(model, {"hidden": model.hidden}, [data[0]], F.cross_entropy)["hidden"].mean(0)
    _, second, _ = activations(model, inputs)
    step = 1e-6

    def loss(factor: float) -> float:
        gate = torch.ones(6, dtype=torch.float64)
        gate[2] = factor
        return float(F.cross_entropy(model.head(second * gate), targets).detach())

    assert float(found[2]) == pytest.approx((loss(1 + step) - loss(1 - step)) / (2 * step), abs=1e-8)


def test_a_layer_called_twice_counts_both_calls() -> None:
    shared = nn.Linear(2, 2, bias=False)
    shared.weight.data.copy_(torch.eye(2))
    model = nn.Sequential(shared, nn.ReLU(), shared)

    found = statistics.unit_moments(model, {"0": shared}, [torch.tensor([[2.0, -4.0]])])["0"]

    # After the first call and its ReLU (2, 0), after the second (2, 0) too.
    assert found.mean.tolist() == [2.0, 0.0]
    assert found.zero_fraction.tolist() == [0.0, 1.0]


def test_nothing_behind_another_function_is_taken_for_the_activation() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2, bias=False)
            self.layer.weight.data.copy_(torch.eye(2))

        def forward(self, inputs: Tensor) -> Tensor:
            return F.relu(self.layer(inputs) + 100.0)

    model = Residual()

    found = statistics.unit_moments(model, {"layer": model.layer}, [torch.tensor([[2.0, -4.0]])])["layer"]

    assert found.mean.tolist() == [2.0, -4.0]
    assert found.zero_fraction.tolist() == [0.0, 0.0]


def identity() -> nn.Linear:
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data.copy_(torch.eye(2))
    return layer


def test_units_of_a_linear_layer_lie_on_the_last_axis_of_a_sequence() -> None:
    model = nn.Sequential(identity(), nn.ReLU())
    sequence = torch.tensor([[[1.0, -1.0], [3.0, 4.0], [2.0, -5.0]]])
    moments = statistics.unit_moments(model, {"0": model[0]}, [sequence])["0"]
    gates = statistics.unit_gates(model, {"0": model[0]}, [(sequence, torch.zeros(1))], lambda out, _: out.sum())["0"]

    assert moments.mean.tolist() == pytest.approx([2.0, 4.0 / 3.0])
    assert moments.zero_fraction.tolist() == pytest.approx([0.0, 2.0 / 3.0])
    assert gates.tolist() == [[6.0, 4.0]]


def test_a_call_whose_output_goes_two_ways_counts_once() -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = identity()

        def forward(self, inputs: Tensor) -> Tensor:
            found = self.layer(inputs)
            return F.relu(found) + torch.tanh(found)

    model = Forked()

    found = statistics.unit_moments(model, {"layer": model.layer}, [torch.tensor([[2.0, -4.0]])])["layer"]

    assert found.mean.tolist() == [2.0, 0.0]


def test_the_gate_of_a_layer_called_twice_stands_behind_both_calls() -> None:
    shared = identity()
    model = nn.Sequential(shared, nn.ReLU(), shared)
    data = [(torch.tensor([[2.0, -4.0], [3.0, 5.0]]), torch.zeros(2))]
    found = statistics.unit_gates(model, {"0": shared}, data, lambda outputs, _: outputs.sum() / 2)["0"]

    # The outputs are alpha^2 x for x > 0, and 0 else.
    assert found.tolist() == [[4.0, 0.0], [6.0, 10.0]]


def test_activations_that_are_not_finite_and_units_that_the_loss_ignores_are_named() -> None:
    model = nn.Sequential(identity(), nn.ReLU())
    data = [(torch.tensor([[torch.inf, 1.0]]), torch.zeros(1, 2))]

    with pytest.raises(ValueError, match="the activations of 0 hold NaN or infinity"):
        statistics.unit_moments(model, {"0": model[0]}, data)
    aside = nn.Parameter(torch.ones(()))
    with pytest.raises(ValueError, match="the loss does not depend on the units of 0; exclude it"):
        statistics.unit_gates(model, {"0": model[0]}, data, lambda outputs, targets: aside * 1.0)


def test_no_hook_stays_and_a_layer_never_called_is_named(model: Mixed, data: Data) -> None:
    with pytest.raises(ValueError, match="does not call the layer of spare"):
        statistics.unit_moments(model, {"conv": model.conv, "spare": nn.Linear(2, 2)}, data)

    assert not model.conv._forward_hooks
