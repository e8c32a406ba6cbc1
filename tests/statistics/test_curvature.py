from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from gossamer import statistics

Loss = Callable[[Any, Any], Tensor]


def batches(*shape: int, classes: int = 3, count: int = 7, step: int = 4) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    targets = torch.randint(classes, (count,), generator=generator)
    return list(zip(inputs.split(step), targets.split(step), strict=True))


def exact(model: nn.Module, name: str, data: list[tuple[Tensor, Tensor]], loss_fn: Loss) -> Tensor:
    """The diagonal of the whole Hessian of the mean loss by one weight."""
    model.eval()
    inputs, targets = (torch.cat(part) for part in zip(*data, strict=True))
    weight = dict(model.named_parameters())[name].detach()

    def loss(values: Tensor) -> Tensor:
        return loss_fn(functional_call(model, {name: values}, (inputs,)), targets)

    hessian = torch.autograd.functional.hessian(loss, weight)
    assert isinstance(hessian, Tensor)
    return hessian.reshape(weight.numel(), -1).diagonal().view(weight.shape)


def estimate(model: nn.Module, data: Any, loss_fn: Loss, num_probes: int) -> dict[str, Tensor]:
    weights = {name: weight for name, weight in model.named_parameters() if weight.dim() > 1}
    generator = torch.Generator().manual_seed(1)
    return statistics.hessian_diagonal(model, weights, data, loss_fn, generator=generator, num_probes=num_probes)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double()


class Shared(nn.Module):
    """A layer called twice, one that is tied to a table, and one whose weight is read beside its call."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(4, 4)
        self.tied, self.also = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.also.weight = self.tied.weight
        self.read = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.twice(torch.tanh(self.twice(inputs))))
        hidden = self.also(torch.tanh(self.tied(hidden)))
        outputs: Tensor = self.read(hidden) * (1 + self.read.weight.mean())
        return outputs


NETWORKS: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), (5,)),
    (lambda: nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(),
                           nn.Linear(12, 3)), (2, 4, 3)),
    (lambda: nn.Sequential(nn.Conv1d(2, 2, 2), nn.Tanh(), nn.Conv1d(2, 2, 1, groups=2), nn.Flatten(),
                           nn.Linear(4, 3)), (2, 3)),
    (Shared, (4,)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shape"), NETWORKS)
def test_the_estimate_nears_the_exact_diagonal(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    model, data = seeded(make), batches(*shape)

    few, many = (estimate(model, data, F.cross_entropy, num_probes) for num_probes in (100, 1600))

    for name, found in many.items():
        expected = exact(model, name, data, F.cross_entropy)
        error, before = float((found - expected).norm()), float((few[name] - expected).norm())
        # Sixteen times the probes, a quarter of the error; half, with room for chance. What is wrong stays wrong.
        assert error < 0.5 * before + 1e-12


def test_one_probe_is_exact_where_a_layer_has_one_output() -> None:
    model, data = seeded(lambda: nn.Linear(5, 1)), batches(5)

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] - targets).square().square().mean()

    found = estimate(model, data, loss_fn, 1)["weight"]

    torch.testing.assert_close(found, exact(model, "weight", data, loss_fn), rtol=1e-12, atol=0.0)


def test_a_loss_without_curvature_has_none() -> None:
    model, data = seeded(lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1))), batches(5)

    found = estimate(model, data, lambda outputs, targets: outputs.mean(), 2)

    # The two layers together have some, which the diagonal does not see.
    assert all(bool((part == 0).all()) for part in found.values())
    assert [tuple(part.shape) for part in found.values()] == [(4, 5), (1, 4)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_and_shape_are_those_of_the_weight_and_the_model_stays(dtype: torch.dtype) -> None:
    model = seeded(NETWORKS[1][0]).to(dtype).train()
    data = [(inputs.to(dtype), targets) for inputs, targets in batches(2, 4, 3)]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    found = estimate(model, data, F.cross_entropy, 2)

    assert {name: (part.shape, part.dtype) for name, part in found.items()} == {
        name: (weight.shape, dtype) for name, weight in model.named_parameters() if weight.dim() > 1
    }
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
