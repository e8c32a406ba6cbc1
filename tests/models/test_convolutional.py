import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from gossamer import budgets, models, topology
from gossamer.models import resnet, vgg
from gossamer.nn import SparseConv2d, SparseLinear
from gossamer.weights import prunable


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def sizes(model: nn.Module) -> list[int]:
    return [weight.numel() for weight in model.parameters() if weight.dim() > 1]


# Numbers of prunable weights and layers of the SynFlow authors' models.
@pytest.mark.parametrize(
    ("model", "num_weights", "num_layers"),
    [
        (models.vgg(11, num_classes=10, generator=seeded()), 9_222_848, 9),
        (models.vgg(16, num_classes=10, generator=seeded()), 14_715_584, 14),
        (models.resnet(20, num_classes=10, generator=seeded()), 270_896, 22),
    ],
    ids=["VGG-11", "VGG-16", "ResNet-20"],
)
def test_networks_have_the_size_of_the_papers(model: nn.Module, num_weights: int, num_layers: int) -> None:
    with torch.no_grad():
        outputs = model.eval()(torch.zeros(2, 3, 32, 32))

    assert sum(sizes(model)) == num_weights
    assert len(sizes(model)) == num_layers
    assert outputs.shape == (2, 10)


def test_first_values_follow_the_fan_in_and_the_generator() -> None:
    model: Any = models.resnet(8, num_classes=10, generator=seeded())
    twin: Any = models.resnet(8, num_classes=10, generator=seeded())

    weight = model[-4].conv2.weight
    assert torch.equal(weight, twin[-4].conv2.weight)
    assert float(weight.detach().std()) == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    assert not model[-1].bias.any()


@pytest.mark.parametrize("depth", [2, 9, 18])
def test_a_depth_that_does_not_divide_is_an_error(depth: int) -> None:
    with pytest.raises(ValueError, match=f"a depth of {depth} is not 6 n"):
        models.resnet(depth, num_classes=10, generator=seeded())


def test_an_unknown_vgg_is_an_error() -> None:
    with pytest.raises(ValueError, match="no VGG of depth 12 here; take one of 11, 16"):
        models.vgg(12, num_classes=10, generator=seeded())


@pytest.mark.parametrize("make", [functools.partial(resnet, 8, width=8), functools.partial(vgg, 11)])
def test_a_network_born_sparse_has_exactly_its_budget_and_trains(make: Callable[..., nn.Sequential]) -> None:
    dense = make(num_classes=4, generator=torch.Generator().manual_seed(0))
    model = make(num_classes=4, generator=torch.Generator().manual_seed(0), sparsity=0.95)

    shapes = {
        name: tuple(layer.weight.shape)
        for name, layer in dense.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    }
    kept = budgets.erk(shapes, sparsity=0.95)
    for name, module in model.named_modules():
        if name in kept:
            assert kept[name] == prunable(module)[0].num_active
            assert isinstance(module, (SparseConv2d, SparseLinear)) == (kept[name] < math.prod(shapes[name]))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    model(images).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_first_values_of_a_network_born_sparse_follow_the_live_fan_in() -> None:
    model: Any = resnet(8, num_classes=10, generator=seeded(), sparsity=0.9)

    layer = model[-4].conv2
    live = layer.row_pointers.diff()[topology.row_indices(layer.topology)]
    scaled = layer.values.detach() * live.sqrt()
    assert layer.num_active > 1000
    assert float(scaled.std()) == pytest.approx(math.sqrt(2), rel=0.05)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0])
def test_a_sparsity_out_of_range_is_refused(sparsity: float) -> None:
    with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\)"):
        resnet(8, num_classes=2, generator=torch.Generator(), sparsity=sparsity)
