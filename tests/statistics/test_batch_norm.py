from typing import Any

import torch
from torch import nn

from gossamer import statistics


def test_statistics_become_plain_averages_over_the_batches() -> None:
    norm: Any = nn.BatchNorm1d(1, momentum=0.3)
    norm.running_mean.fill_(50.0)

    statistics.reestimate_(norm, [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [8.0]])])

    # Means 1 and 6; unbiased variances 2 and 8.
    assert norm.running_mean.tolist() == [3.5]
    assert norm.running_var.tolist() == [5.0]
    assert norm.momentum == 0.3
    assert norm.training


def test_nothing_else_changes_not_even_dropout_is_on() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.9), nn.BatchNorm1d(2)).eval()
    data = [torch.randn(8, 2, generator=torch.Generator().manual_seed(0))]
    weight = model[0].weight.detach().clone()

    statistics.reestimate_(model, data)

    assert torch.equal(model[0].weight, weight)
    assert torch.allclose(model[2].running_mean, model[0](data[0]).mean(0), rtol=1e-5, atol=1e-6)
    assert not any(module.training for module in model.modules())


def test_whether_there_is_anything_to_take_anew() -> None:
    assert statistics.has_running_statistics(nn.BatchNorm2d(3))
    assert not statistics.has_running_statistics(nn.BatchNorm2d(3, track_running_stats=False))
    assert not statistics.has_running_statistics(nn.LayerNorm(3))
