from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer import statistics

from .conftest import Mixed

Data = list[tuple[Tensor, Tensor]]


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.dim() > 1}


def whole(data: Data) -> tuple[Tensor, Tensor]:
    return torch.cat([inputs for inputs, _ in data]), torch.cat([targets for _, targets in data])


def close(mine: Tensor, oracle: Tensor) -> bool:
    return torch.allclose(mine, oracle, rtol=1e-10, atol=1e-12)


def test_the_mean_gradient_is_that_of_all_samples_whatever_the_batches(model: Mixed, data: Data) -> None:
    weights = weights_of(model)
    inputs, targets = whole(data)

    found = statistics.mean_gradient(model, weights, data, F.cross_entropy)
    oracle = torch.autograd.grad(F.cross_entropy(model.eval()(inputs), targets), list(weights.values()))

    assert all(close(found[name], part) for name, part in zip(weights, oracle, strict=True))


def test_per_sample_gradients_average_to_the_gradient_and_their_squares_to_the_fisher(model: Mixed, data: Data) -> None:
    weights = weights_of(model)

    each = statistics.sample_gradients(model, weights, data, F.cross_entropy)
    mean = statistics.mean_gradient(model, weights, data, F.cross_entropy)
    fisher = statistics.squared_gradient(model, weights, data, F.cross_entropy)

    assert each["head.weight"].shape == (11, 3, 6)
    assert all(close(each[name].mean(0), mean[name]) for name in weights)
    assert all(close(each[name].square().mean(0), fisher[name]) for name in weights)


def quadratic(weight: Tensor) -> Tensor:
    matrix = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 4.0]], dtype=torch.float64)
    return weight.flatten() @ matrix @ weight.flatten() / 2


def linear_model() -> nn.Linear:
    model = nn.Linear(3, 1, bias=False).double()
    model.weight.data.copy_(torch.tensor([[1.0, -2.0, 0.5]]))
    return model


def quadratic_loss(model: nn.Linear) -> Callable[[Tensor, Tensor], Tensor]:
    # Zero times the outputs ties the loss to the forward pass.
    return lambda outputs, targets: quadratic(model.weight) + 0.0 * outputs.sum()


def test_the_hessian_times_the_gradient_equals_that_of_an_explicit_hessian() -> None:
    model = linear_model()
    data = [(torch.ones(2, 3, dtype=torch.float64), torch.zeros(2))]
    hessian = torch.autograd.functional.hessian(quadratic, model.weight.detach()).reshape(3, 3)

    found = statistics.hessian_gradient(model, {"weight": model.weight}, data, quadratic_loss(model))

    assert close(found["weight"].flatten(), hessian @ hessian @ model.weight.detach().flatten())


def test_the_estimate_of_the_diagonal_nears_the_diagonal() -> None:
    model = linear_model()
    data = [(torch.ones(2, 3, dtype=torch.float64), torch.zeros(2))]

    found = statistics.hessian_diagonal(
        model,
        {"weight": model.weight},
        data,
        quadratic_loss(model),
        generator=torch.Generator().manual_seed(0),
        num_probes=1000,
    )

    # An entry's deviation is the root of the squares beside it: at most 1.12 / sqrt(1000); four of them.
    assert torch.allclose(
        found["weight"], torch.tensor([[3.0, 2.0, 4.0]], dtype=torch.float64), rtol=0, atol=4 * 1.12 / 1000**0.5
    )


def test_the_sensitivity_is_the_mean_of_the_absolute_derivatives_of_each_sample(model: Mixed, data: Data) -> None:
    weights = weights_of(model)
    inputs, _ = whole(data)

    found = statistics.output_sensitivity(model, weights, data)
    model.eval()
    each = [torch.autograd.grad(model(one[None]).sum(), model.hidden.weight)[0].abs() for one in inputs]

    assert close(found["hidden.weight"], torch.stack(each).mean(0))


def test_a_model_is_left_exactly_as_it_was(model: Mixed, data: Data) -> None:
    model.hidden.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    modes = {name: module.training for name, module in model.named_modules()}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()

    statistics.squared_gradient(model, weights_of(model), data, F.cross_entropy)
    statistics.unit_moments(model, {"conv": model.conv}, data)

    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert [p.requires_grad for p in model.hidden.parameters()] == [False, False]
    assert torch.equal(model.head.weight.grad, torch.ones_like(model.head.weight))
    assert model.conv.weight.grad is None
    assert torch.equal(torch.get_rng_state(), random)


def test_a_model_is_left_as_it_was_when_the_loss_fails(model: Mixed, data: Data) -> None:
    def broken(outputs: Tensor, targets: Tensor) -> Tensor:
        raise RuntimeError("no loss today")

    with pytest.raises(RuntimeError, match="no loss today"):
        statistics.mean_gradient(model, weights_of(model), data, broken)

    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("loss_fn", "message"),
    [
        (lambda outputs, targets: F.cross_entropy(outputs, targets, reduction="none"), "must be a scalar, got shape"),
        (lambda outputs, targets: outputs.sum() * float("nan"), "the loss is nan"),
        (lambda outputs, targets: outputs.detach().sum(), "does not depend on any weight"),
    ],
)
def test_a_loss_that_is_of_no_use_is_named(
    model: Mixed, data: Data, loss_fn: Callable[[Tensor, Tensor], Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        statistics.mean_gradient(model, weights_of(model), data, loss_fn)


def test_a_weight_that_the_forward_pass_ignores_is_named(data: Data) -> None:
    model: Any = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)).double()
    model.add_module("spare", nn.Identity())
    model.spare.unused = nn.Linear(2, 2)

    with pytest.raises(ValueError, match=r"does not depend on spare\.unused\.weight"):
        statistics.mean_gradient(model, weights_of(model), data, F.cross_entropy)


@pytest.mark.parametrize("empty", [[], iter([])])
def test_data_without_a_batch_is_an_error(model: Mixed, empty: Data) -> None:
    with pytest.raises(ValueError, match="the data gave no batch"):
        statistics.mean_gradient(model, weights_of(model), empty, F.cross_entropy)


def test_batches_without_targets_are_an_error_where_a_loss_needs_them(model: Mixed, data: Data) -> None:
    with pytest.raises(ValueError, match="needs batches of"):
        statistics.mean_gradient(model, weights_of(model), [inputs for inputs, _ in data], F.cross_entropy)
