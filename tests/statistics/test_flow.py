import copy
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer.statistics import Flow, on_a_path


def chain(sizes: list[int], seed: int = 0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.dim() > 1}


def scores(model: nn.Module, example: Tensor) -> tuple[float, dict[str, Tensor]]:
    weights = weights_of(model)
    flow, gradients = Flow(model, weights, example=example).measure()
    return flow, {name: gradients[name] * weights[name].detach().double().abs() for name in weights}


def test_the_flow_of_two_layers_by_hand() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].weight.data.copy_(torch.tensor([[1.0, -2.0], [0.0, 3.0]]))
    model[1].weight.data.copy_(torch.tensor([[-4.0, 5.0]]))

    flow, found = scores(model, torch.zeros(1, 2))

    # Into the two hidden units flows 3 and 3; out of them 4 and 5 times as much. Biases bring nothing.
    assert flow == 27.0
    assert found["0.weight"].tolist() == [[4.0, 8.0], [0.0, 15.0]]
    assert found["1.weight"].tolist() == [[12.0, 15.0]]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=3, max_size=7), st.integers(0, 1000))
def test_all_layers_of_a_chain_have_the_same_total(sizes: list[int], seed: int) -> None:
    flow, found = scores(chain(sizes, seed), torch.zeros(1, sizes[0]))

    assert all(math.isclose(float(part.sum()), flow, rel_tol=1e-12) for part in found.values())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=3, max_size=7), st.integers(0, 1000))
def test_what_flows_into_a_unit_flows_out_of_it(sizes: list[int], seed: int) -> None:
    _, found = scores(chain(sizes, seed), torch.zeros(1, sizes[0]))
    parts = list(found.values())

    for before, after in pairwise(parts):
        assert torch.allclose(before.sum(1), after.sum(0), rtol=1e-12, atol=0)


def test_convolutions_and_pooling_conserve_the_flow_too() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2),
    )  # fmt: skip

    flow, found = scores(model, torch.zeros(1, 3, 8, 8))

    assert all(math.isclose(float(part.sum()), flow, rel_tol=1e-12) for part in found.values())


def test_a_deep_network_that_passes_the_largest_float32_is_measured() -> None:
    model: Any = nn.Sequential(*(nn.Linear(10, 10) for _ in range(40)))
    for layer in model:
        layer.weight.data.fill_(10.0)

    flow, _ = scores(model, torch.zeros(1, 10))

    assert flow == pytest.approx(10.0 * 100.0**40, rel=1e-10)


def test_signs_biases_and_shifts_change_nothing() -> None:
    model, other = chain([4, 5, 3]), chain([4, 5, 3])
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            parameter.neg_() if name.endswith("weight") else parameter.fill_(7.0)
        other[1].running_mean.fill_(100.0)

    assert scores(model, torch.zeros(1, 4))[0] == scores(other, torch.zeros(1, 4))[0]


def test_a_cut_network_is_an_error_not_a_score_of_zero() -> None:
    model = chain([4, 5, 3])
    model[3].weight.data.zero_()

    with pytest.raises(ValueError, match="no path from input to output is left"):
        scores(model, torch.zeros(1, 4))


def test_class_numbers_cannot_be_ones() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2))

    with pytest.raises(ValueError, match=r"inputs of real numbers, got torch\.int64"):
        scores(model, torch.zeros(1, dtype=torch.int64))


def test_the_model_is_left_as_it_is() -> None:
    model = chain([4, 5, 3])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    scores(model, torch.zeros(1, 4))

    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_weight_behind_a_dead_unit_lies_on_no_path() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    # Unit 0 is read by nobody, unit 1 hears nobody, unit 2 is on a path.
    model[0].weight.data = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.0, -2.0, 0.0]])
    model[2].weight.data = torch.tensor([[0.0, 5.0, 1.0], [0.0, 5.0, 0.0]])

    assert on_a_path(model, weights_of(model), example=torch.zeros(1, 3)) == {"0.weight": 1, "2.weight": 1}


def test_where_nothing_flows_no_weight_is_on_a_path() -> None:
    model: Any = chain([4, 5, 3])
    model[3].weight.data.zero_()

    assert on_a_path(model, weights_of(model), example=torch.zeros(1, 4)) == {"0.weight": 0, "3.weight": 0}


class Grouped(nn.Module):
    """Convolutions of every kind, one of them called twice, before a tied head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, stride=2, padding=1, dilation=2, padding_mode="circular")
        self.twice = nn.Conv2d(6, 6, (3, 1), padding="same", groups=3)
        self.line = nn.Conv1d(6, 4, 2, stride=2)
        self.head = nn.Linear(4, 4, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        image = self.twice(self.twice(self.first(inputs)).relu_())
        flat = self.line(image.flatten(2)).mean(2)
        # The weight of the head is used twice, once without its module.
        outputs: Tensor = self.head(flat) @ self.head.weight
        return outputs


class Doubled(nn.Linear):
    """A layer of somebody's own, which does more than multiply."""

    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * super().forward(inputs)


def by_autograd(model: nn.Module, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """The derivative of the flow by torch alone: absolute values, no biases, ones."""
    twin = copy.deepcopy(model).double().eval()
    for name, parameter in twin.named_parameters():
        parameter.data = torch.zeros_like(parameter) if "bias" in name else parameter.detach().abs()
    weights = weights_of(twin)
    found = torch.autograd.grad(twin(torch.ones(1, *shape, dtype=torch.float64)).sum(), list(weights.values()))
    return dict(zip(weights, found, strict=True))


MODELS: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (Grouped, (2, 9, 8)),
    (lambda: nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.ReLU(inplace=True), nn.Conv2d(2, 5, 1)), (2, 5, 4)),
    (lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), (7, 5)),
    (lambda: nn.Sequential(Doubled(5, 4), nn.Linear(4, 3)), (5,)),
    (lambda: nn.Sequential(nn.Flatten(0, 1), nn.Conv2d(3, 2, 2), nn.Flatten(0), nn.Linear(18, 2)), (3, 4, 4)),
    (lambda: nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last), (2, 6, 6)),  # type: ignore[call-overload]
    (lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)).bfloat16(), (5,)),
]


@pytest.mark.parametrize(("make", "shape"), MODELS)
def test_the_derivative_is_that_of_autograd_everywhere_and_at_places(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    model = make()
    weights = {name: weight.detach() for name, weight in weights_of(model).items()}
    places = {name: (torch.rand(weight.numel()) < 0.3).nonzero().flatten() for name, weight in weights.items()}
    flow = Flow(model, weights_of(model), example=torch.zeros(1, *shape))
    expected = by_autograd(model, shape)

    # Twice: what the first left behind must not count.
    for _ in range(2):
        value, whole = flow.measure()
        at_value, at = flow.measure(places)
        everywhere = flow.measure(dict.fromkeys(places))[1]

        assert value == at_value > 0
        for name, part in expected.items():
            torch.testing.assert_close(whole[name], part, rtol=1e-12, atol=0.0)
            assert torch.equal(at[name], whole[name].flatten()[places[name]])
            assert torch.equal(everywhere[name], whole[name].flatten())


def test_what_was_measured_is_not_changed_by_the_next_measurement() -> None:
    model = chain([5, 4, 3])
    flow = Flow(model, weights_of(model), example=torch.zeros(1, 5))
    weights = {name: weight.detach() for name, weight in weights_of(model).items()}
    before = flow.measure(dict.fromkeys(weights))[1]
    saved = {name: part.clone() for name, part in before.items()}

    flow.set_({name: weight * 2 for name, weight in weights.items()})
    flow.measure()

    assert all(torch.equal(before[name], part) for name, part in saved.items())


class Factor(nn.Module):
    """The factor of a normalisation."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.factor = nn.Parameter(weight.detach().clone())

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.factor


@pytest.mark.parametrize("norm", [nn.LayerNorm(4), nn.RMSNorm(4), nn.GroupNorm(2, 4), nn.LayerNorm(4, bias=False)])
def test_a_normalisation_by_its_own_inputs_counts_as_its_factors(norm: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, last = nn.Linear(5, 4), nn.Linear(4, 3)
        norm.weight.data.normal_()

    flow, found = scores(nn.Sequential(first, norm, last), torch.zeros(1, 5))
    expected, by_factor = scores(nn.Sequential(first, Factor(norm.weight), last), torch.zeros(1, 5))

    assert flow == expected
    assert all(torch.equal(found[name], by_factor[name]) for name in found)
    assert scores(nn.Sequential(first, nn.GroupNorm(2, 4, affine=False), last), torch.zeros(1, 5))[0] > 0


def test_a_group_normalisation_of_images_scales_its_channels() -> None:
    model: Any = nn.Sequential(nn.Conv2d(1, 2, 1), nn.GroupNorm(1, 2), nn.Conv2d(2, 1, 1))
    model[0].weight.data.fill_(1.0)
    model[1].weight.data.copy_(torch.tensor([-3.0, 2.0]))
    model[2].weight.data.fill_(1.0)

    flow, found = scores(model, torch.zeros(1, 1, 2, 2))

    # Four pixels, through the one channel or the other.
    assert flow == 20.0
    assert found["2.weight"].flatten().tolist() == [12.0, 8.0]


def test_a_transformer_has_a_flow() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    flow, found = scores(model, torch.zeros(1, 3, 8))

    assert flow > 0
    assert float(found["linear1.weight"].sum()) == pytest.approx(float(found["linear2.weight"].sum()), rel=1e-12)


def test_a_model_that_subtracts_has_no_flow() -> None:
    class Subtracting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            outputs: Tensor = -self.layer(inputs)
            return outputs

    with pytest.raises(ValueError, match=r"the synaptic flow is -\d.*subtracts"):
        scores(Subtracting(), torch.zeros(1, 3))


def test_values_can_be_replaced_and_entries_removed() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    ones = {name: torch.ones_like(weight) for name, weight in weights_of(model).items()}
    flow = Flow(model, weights_of(model), example=torch.zeros(1, 2))

    flow.set_({name: -2 * weight for name, weight in ones.items()})
    twice = flow.measure()[0]
    flow.set_(ones)
    flow.remove_("0.weight", torch.tensor([0, 3]))
    flow.remove_("1.weight", torch.tensor([1]))
    left, found = flow.measure()

    assert twice == 16.0
    assert left == 1.0
    assert found["0.weight"].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert found["1.weight"].tolist() == [[1.0, 1.0]]
