from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gossamer as gs
from gossamer import criteria, patterns


def slim() -> Any:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Flatten(), nn.Linear(24, 3),
    )  # fmt: skip
    model[1].weight.data = torch.tensor([0.5, -3.0, 0.1, 2.0])
    model[4].weight.data = torch.tensor([6.0, 5.0, 4.0, 3.0, -2.0, 1.0])
    return model


IMAGES = [torch.linspace(-1, 1, 5 * 36).view(5, 1, 6, 6)]


def rows(weight: Tensor) -> list[int]:
    """Return the outputs that have weights."""
    found: list[int] = weight.flatten(1).count_nonzero(1).nonzero().flatten().tolist()
    return found


@pytest.mark.parametrize("training", [False, True])
def test_slimming_removes_the_filters_with_the_smallest_factors(training: bool) -> None:
    model = slim().train(training)
    small: Any = gs.prune(
        model, sparsity=0.5, criterion=criteria.batch_norm_scale, pattern=patterns.row(), data=IMAGES, reestimate=False
    )

    assert (rows(small[0].weight), rows(small[3].weight), rows(small[7].weight)) == ([1, 3], [0, 1, 2], [0, 1, 2])
    assert small[0].training is training
    assert torch.equal(small[4].running_mean, model[4].running_mean)


def test_a_layer_without_a_norm_behind_it_is_named_until_it_is_left_out() -> None:
    model = nn.Sequential(nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    settings: Any = {"criterion": criteria.batch_norm_scale, "pattern": patterns.row(), "data": [torch.ones(3, 36)]}

    with pytest.raises(
        ValueError, match=r"the outputs of 0\.weight must be read by one batch normalisation .* exclude"
    ):
        gs.prune(model, sparsity=0.5, **settings)
    small: Any = gs.prune(model, sparsity=0.5, exclude="0.*", **settings)
    assert rows(small[2].weight) == [0, 1]


def test_similarity_removes_the_twin_that_is_read_less() -> None:
    model: Any = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
    model[0].weight.data = torch.tensor([[0.5], [1.5], [5.5]])
    model[2].weight.data = torch.tensor([[2.0, 1.0, 3.0]])
    small: Any = gs.prune(
        model, sparsity=1 / 3, criterion=criteria.similarity, pattern=patterns.row(), data=[torch.ones(2, 1)]
    )

    # The scores are 4, 1 and 9 * 16.
    assert small[0].weight.tolist() == [[0.5], [0.0], [5.5]]
    assert torch.equal(small[2].weight, model[2].weight)


def test_similarity_of_a_flattened_convolution_weighs_all_columns_of_a_filter() -> None:
    model: Any = nn.Sequential(nn.Conv1d(1, 3, 1), nn.Flatten(), nn.Linear(6, 1))
    model[0].weight.data = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    # Mean squares by filter: 5, 4.5, 10. Taken as interleaved columns the third were the least: 1, 4.5, 8.
    model[2].weight.data = torch.tensor([[1.0, 3.0, 3.0, 0.0, 4.0, 2.0]])
    small: Any = gs.prune(
        model, sparsity=1 / 3, criterion=criteria.similarity, pattern=patterns.row(), data=[torch.ones(2, 1, 2)]
    )

    assert small[0].weight.flatten().tolist() == [1.0, 0.0, 3.0]


def test_the_last_layer_s_outputs_are_the_model_s_own_and_stay() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    small: Any = gs.prune(
        model, sparsity=0.5, criterion=criteria.similarity, pattern=patterns.row(), data=[torch.ones(2, 4)]
    )

    assert [len(rows(small[index].weight)) for index in (0, 2, 4)] == [4, 4, 2]


def test_without_data_the_missing_batch_is_named() -> None:
    with pytest.raises(ValueError, match="the criterion needs data, and none was given; pass data="):
        gs.prune(slim(), sparsity=0.5, criterion=criteria.batch_norm_scale, pattern=patterns.row())


def by_head(weight: Tensor, gate_grads: Tensor) -> Tensor:
    scores = criteria.head_gates(gate_grads)
    return scores.repeat_interleave(weight.shape[1] // len(scores)).expand_as(weight)


def test_heads_are_pruned_as_blocks_of_columns_of_the_output_projection() -> None:
    model: Any = nn.TransformerEncoderLayer(8, 4, 16, batch_first=True, dropout=0.0)
    with torch.no_grad():
        # What heads 1 and 2 add is small, so turning them down moves the loss little.
        model.self_attn.out_proj.weight[:, 2:6] *= 1e-3
    data = [(torch.linspace(-1, 1, 3 * 5 * 8).view(3, 5, 8).sin(), torch.ones(3, 5, 8))]
    small: Any = gs.prune(
        model, sparsity=0.5, criterion=by_head, pattern=patterns.block(8, 2), include="*out_proj.weight", data=data,
        loss_fn=F.mse_loss,
    )  # fmt: skip

    assert (small.self_attn.out_proj.weight != 0).all(0).tolist() == [True] * 2 + [False] * 4 + [True] * 2
    assert torch.equal(small.linear1.weight, model.linear1.weight)
