import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer import statistics

from .conftest import Mixed


def test_the_mean_is_over_samples_also_where_the_last_batch_is_short(
    model: Mixed, data: list[tuple[Tensor, Tensor]]
) -> None:
    model.train()
    found = statistics.mean_loss(model, data, F.cross_entropy)
    assert model.training
    model.eval()
    inputs, targets = (torch.cat(parts) for parts in zip(*data, strict=True))
    expected = F.cross_entropy(model(inputs), targets)

    assert found == pytest.approx(float(expected.detach()), rel=1e-12)


def test_a_loss_that_is_no_finite_scalar_and_data_without_a_batch_are_refused() -> None:
    data = [(torch.ones(2, 1), torch.ones(2, 1))]

    with pytest.raises(ValueError, match="the loss must be a scalar, got shape"):
        statistics.mean_loss(nn.Identity(), data, lambda outputs, targets: outputs)
    with pytest.raises(ValueError, match="the loss is inf"):
        statistics.mean_loss(nn.Identity(), data, lambda outputs, targets: outputs.sum() / 0)
    with pytest.raises(ValueError, match="the data gave no batch"):
        statistics.mean_loss(nn.Identity(), [], F.mse_loss)
