import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import budgets, counts, to_sparse
from gossamer.models import mlp
from gossamer.recipes import edge_popup_, finish_, supermask_

from .network import assert_same, seeded

METHODS: dict[str, Callable[[nn.Module], None]] = {
    "edge_popup_": lambda model: edge_popup_(model, sparsity=0.5, generator=seeded(1)),
    "supermask_": lambda model: supermask_(model, generator=seeded(1)),
}
every_method = pytest.mark.parametrize("name", METHODS)
INPUTS = torch.randn(64, 10, generator=seeded())


def train(model: nn.Module, steps: int = 20, lr: float = 1.0, inputs: Tensor = INPUTS) -> SGD:
    optimizer = SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=lr, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(inputs)[:, 0] - inputs[:, 0]).pow(2).mean().backward()
        optimizer.step()
    return optimizer


def weight_of(model: nn.Module, name: str) -> Tensor:
    """Return the weight of a layer as it computes with it."""
    weight = model.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def loss_of(model: nn.Module) -> float:
    with torch.no_grad():
        return float((model(INPUTS)[:, 0] - INPUTS[:, 0]).pow(2).mean())


@every_method
def test_only_scores_are_trained_and_every_one_of_them_is(name: str) -> None:
    model = mlp([10, 16, 4], generator=seeded())
    first = {key: value.clone() for key, value in model.state_dict().items()}
    METHODS[name](model)
    scores = {key: value.detach().clone() for key, value in model.named_parameters() if value.requires_grad}
    train(model, steps=3)

    assert len(scores) == 2
    # Half of the weights exist; the scores of the others learn too, but for those of dead neurons.
    name, before = next(iter(scores.items()))
    assert float((model.get_parameter(name) != before).float().mean()) > 0.6
    frozen = {
        key.replace("parametrizations.weight.original", "weight"): value for key, value in model.named_parameters()
    }
    for key, value in first.items():
        assert torch.equal(frozen[key], value)
        assert not frozen[key].requires_grad


@every_method
def test_scores_learn_to_lower_the_loss(name: str) -> None:
    model = mlp([10, 64, 1], generator=seeded())
    METHODS[name](model)
    model.eval()
    before = loss_of(model)
    model.train()
    train(model, steps=200, lr=1.0 if name == "edge_popup_" else 30.0)
    model.eval()

    assert loss_of(model) < 0.5 * before


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finish_leaves_plain_layers_with_exact_zeros(name: str, dtype: torch.dtype) -> None:
    model = mlp([10, 16, 4], generator=seeded()).to(dtype)
    first = weight_of(model, "0").clone()
    METHODS[name](model)
    train(model, inputs=INPUTS.to(dtype), lr=20.0 if name == "supermask_" else 1.0)
    model.eval()
    expected = model(INPUTS.to(dtype)).detach()
    finish_(model.train())

    assert torch.equal(model(INPUTS.to(dtype)), expected)
    assert type(model[0]) is nn.Linear
    assert isinstance(model[0].weight, nn.Parameter)
    weight = weight_of(model, "0")
    assert weight.dtype == dtype
    assert 0 < int((weight == 0).sum()) < 160
    assert torch.equal(weight, torch.where(weight != 0, first, 0.0))
    assert to_sparse(model).get_submodule("0")


def test_edge_popup_keeps_the_budget_to_the_weight_at_every_step() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))
    shapes = {"0.weight": (4, 2, 3, 3), "3.weight": (5, 16)}
    edge_popup_(model, sparsity=0.7, generator=seeded(), budget=budgets.erk)
    optimizer = SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=5.0)
    seen = []
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(8, 2, 4, 4, generator=seeded())).pow(2).mean().backward()
        optimizer.step()
        kept = {name: int((weight_of(model, name[0]) != 0).sum()) for name in shapes}
        seen.append(weight_of(model, "0") != 0)

        assert kept == budgets.erk(shapes, sparsity=0.7)
    assert not torch.equal(seen[0], seen[-1])
    assert sum(kept.values()) == counts.num_active(152, 0.7)


def test_the_gradient_of_a_score_is_that_of_the_weight_times_the_weight() -> None:
    layer = nn.Linear(3, 1, bias=False)
    layer.weight.data = torch.tensor([[2.0, -1.0, 4.0]])
    model = nn.Sequential(layer)
    edge_popup_(model, sparsity=0.6, generator=seeded())
    scores = model.get_parameter("0.parametrizations.weight.0.scores")
    scores.data = torch.tensor([[0.5, 0.7, 0.1]])
    output = model(torch.tensor([[1.0, 2.0, 3.0]]))
    output.sum().backward()

    # one weight of three stays, that with the largest score; dL/dw' = x for all of them
    assert output.tolist() == [[-2.0]]
    assert scores.grad is not None
    assert scores.grad.tolist() == [[2.0, -2.0, 12.0]]


def test_a_supermask_draws_in_training_and_is_fixed_in_evaluation() -> None:
    layer = nn.Linear(100, 100, bias=False)
    supermask_(layer, generator=seeded(), first_probability=0.3)
    drawn = [layer.weight.detach() != 0 for _ in range(2)]

    assert not torch.equal(*drawn)
    assert 2800 < int(drawn[0].sum()) < 3200
    layer.eval()
    assert not layer.weight.any()
    layer.get_parameter("parametrizations.weight.0.logits").data[0] = 0.0
    assert (layer.weight != 0).flatten(1).all(1).nonzero().tolist() == [[0]]


def test_the_gradient_of_a_logit_passes_through_the_sigmoid() -> None:
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data = torch.tensor([[2.0, -1.0]])
    supermask_(layer, generator=seeded())
    layer(torch.tensor([[1.0, 3.0]])).sum().backward()
    gradient = layer.get_parameter("parametrizations.weight.0.logits").grad

    # x w sigmoid'(0) = x w / 4
    assert gradient is not None
    assert gradient.tolist() == [[0.5, -0.75]]


@every_method
def test_a_resumed_training_equals_the_uninterrupted_one_bit_for_bit(name: str) -> None:
    whole, resumed = (mlp([10, 8, 4], generator=seeded(seed)) for seed in (0, 1))
    METHODS[name](whole)
    METHODS[name](resumed)
    train(whole, steps=3)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    for model in (whole, resumed):
        train(model, steps=3)

    assert_same(dict(whole.state_dict()), dict(resumed.state_dict()))


@every_method
def test_a_shared_weight_has_one_mask_and_stays_shared(name: str) -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 10))
    model[2].weight = model.get_parameter("0.weight")
    METHODS[name](model.eval())
    assert sum(parameter.requires_grad for parameter in model.parameters()) == 1
    assert torch.equal(weight_of(model, "0"), weight_of(model, "2"))
    finish_(model)

    assert model[2].weight is model[0].weight


@every_method
def test_what_cannot_be_masked_is_refused_before_anything_changes(name: str) -> None:
    model = nn.Sequential(nn.Embedding(5, 5), nn.Linear(5, 5))
    model[1].weight = model.get_parameter("0.weight")
    with pytest.raises(ValueError, match=r"1.weight is shared with Embedding, which cannot have its mask; untie it"):
        METHODS[name](model)
    sparse = mlp([10, 8, 4], sparsity=0.5, budget=budgets.uniform, generator=seeded())
    with pytest.raises(ValueError, match=r"0.values, 2.values is truly sparse; a mask is learned on a dense model"):
        METHODS[name](sparse)

    assert all(parameter.requires_grad for each in (model, sparse) for parameter in each.parameters())


@every_method
def test_masks_are_put_on_once_and_taken_off_once(name: str) -> None:
    model = mlp([10, 8, 4], generator=seeded())
    with pytest.raises(ValueError, match=r"no layer of Sequential has a learned mask"):
        finish_(model)
    METHODS[name](model)
    with pytest.raises(ValueError, match=r"Sequential has learned masks already; call finish_ first"):
        METHODS[name](model)
    finish_(model)
    with pytest.raises(ValueError, match=r"no layer of Sequential has a learned mask"):
        finish_(model)


def test_settings_out_of_range_are_refused() -> None:
    model = mlp([10, 8, 4], generator=seeded())

    with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\), got 1.0"):
        edge_popup_(model, sparsity=1.0, generator=seeded())
    for probability in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"first_probability must lie between 0 and 1"):
            supermask_(model, generator=seeded(), first_probability=probability)


@every_method
def test_nan_scores_cannot_be_finished(name: str) -> None:
    model = mlp([10, 8, 4], generator=seeded())
    METHODS[name](model)
    [parameter.data.fill_(torch.nan) for key, parameter in model.named_parameters() if key.startswith("2.param")]
    names = list(model.state_dict())

    with pytest.raises(ValueError, match="scores of a ParametrizedLinear are NaN, so nobody knows which weights exist"):
        finish_(model)
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("kept", [{}, {"0.weight": 80, "2.weight": 33}, {"0.weight": -1, "2.weight": 3}], ids=str)
def test_a_budget_that_does_not_fit_freezes_nothing(kept: dict[str, int]) -> None:
    model = mlp([10, 8, 4], generator=seeded())

    with pytest.raises(ValueError, match=r"the budget keeps .* of the .* weights of .*; it must give each a count"):
        edge_popup_(model, sparsity=0.5, generator=seeded(), budget=lambda shapes, *, sparsity: kept)
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == list(model.state_dict())


@every_method
def test_recurrent_layers_are_said_to_learn_no_mask(name: str) -> None:
    model = nn.ModuleList([nn.Linear(2, 2), nn.GRU(2, 2)])

    with pytest.raises(
        ValueError, match=r"1.weight_ih_l0 is of GRU, which cannot be parametrized here; Linear and Conv can"
    ):
        METHODS[name](model)
    assert all(parameter.requires_grad for parameter in model.parameters())
