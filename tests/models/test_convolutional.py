import math
from typing import Any

import pytest
import torch
from torch import nn

from gossamer import models


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
