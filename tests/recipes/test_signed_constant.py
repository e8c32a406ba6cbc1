from typing import Any

import pytest
import torch
from torch import nn

from gossamer import to_sparse
from gossamer.models import mlp
from gossamer.recipes import edge_popup_, finish_, signed_constant_

from .network import seeded


def test_weights_get_one_size_and_keep_signs_and_zeros() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    model[0].weight.data = torch.tensor([[1.0, -7.0], [0.0, -0.0]])
    model[2].weight.data = torch.tensor([[3.0, 3.0]])
    bias = model[0].bias.clone()
    signed_constant_(model)

    # sqrt((1 + 49) / 2), not the standard deviation about the mean, 4, nor with the zeros.
    assert model[0].weight.tolist() == [[5.0, -5.0], [0.0, 0.0]]
    assert model[2].weight.tolist() == [[3.0, 3.0]]
    assert torch.equal(model[0].bias, bias)
    assert model[1].weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_size_is_the_standard_deviation_of_the_initialiser(dtype: torch.dtype) -> None:
    model: Any = nn.Sequential(nn.Conv2d(4, 64, 3), nn.Linear(100, 100)).to(dtype)
    for layer in model:
        nn.init.normal_(layer.weight, std=0.125, generator=seeded())
    signs = [layer.weight.sign() for layer in model]
    signed_constant_(model)

    for layer, sign in zip(model, signs, strict=True):
        size = layer.weight.abs().unique()
        assert size.tolist() == pytest.approx([0.125], rel=0.05)
        assert layer.weight.dtype == dtype
        assert torch.equal(layer.weight, sign * size)


def test_training_goes_on_from_the_constants_as_from_other_values() -> None:
    model: Any = mlp([10, 16, 4], generator=seeded())
    signed_constant_(model)
    edge_popup_(model, sparsity=0.5, generator=seeded(1))
    finish_(model)

    for layer in (layer for layer in model.modules() if isinstance(layer, nn.Linear)):
        assert len(layer.weight.detach().abs().unique()) == 2
        assert int(layer.weight.count_nonzero()) == layer.weight.numel() // 2


def test_a_truly_sparse_model_gets_what_its_dense_twin_gets() -> None:
    dense: Any = nn.Sequential(nn.Linear(4, 1))
    dense[0].weight.data = torch.tensor([[1.0, 0.0, -7.0, 0.0]])
    sparse: Any = to_sparse(dense)
    signed_constant_(sparse)

    assert sparse[0].values.tolist() == [5.0, -5.0]


def test_an_emptied_weight_stays_empty() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 2))
    nn.init.zeros_(model[0].weight)
    signed_constant_(model)

    assert model[0].weight.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_a_weight_with_nan_and_a_model_with_learned_masks_are_refused_unchanged() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = model[0].weight.clone()
    model[1].weight.data[0, 0] = torch.nan
    masked = mlp([4, 8, 2], generator=seeded())
    edge_popup_(masked, sparsity=0.5, generator=seeded(1))

    with pytest.raises(ValueError, match=r"1\.weight holds values that are NaN or infinite; draw it anew"):
        signed_constant_(model)
    assert torch.equal(model[0].weight, before)
    with pytest.raises(ValueError, match="no trainable weight that can be sparse"):
        signed_constant_(masked)
