import copy

import pytest
import torch
from torch import nn

from gossamer import prune, to_dense, to_sparse
from gossamer.models import mlp
from gossamer.rewinding import reinitialize_, shuffle_masks_, snapshot

from .models import HALF, Reader, assert_refused, dense, seeded, trained_and_pruned, zeros_of


def test_new_values_are_drawn_in_the_bound_of_the_live_fan_in() -> None:
    model = nn.Sequential(nn.Linear(400, 2), nn.BatchNorm1d(2))
    model.get_parameter("0.weight").data.fill_(7.0)
    model.get_parameter("0.weight").data[0, 6:] = 0.0
    model.get_parameter("1.weight").data.fill_(3.0)
    sparse = to_sparse(model)
    for each in (model, sparse):
        reinitialize_(each, generator=seeded())
    weight = model.get_parameter("0.weight").detach()

    assert weight[0, :6].all()
    assert not weight[0, 6:].any()
    assert 0.3 < float(weight[0].abs().max()) <= 1.0
    assert 0.95 * (6 / 400) ** 0.5 < float(weight[1].abs().max()) <= (6 / 400) ** 0.5
    assert not model.get_parameter("0.bias").any()
    assert model.get_parameter("1.weight").tolist() == [1.0, 1.0]
    # both storages draw the same
    assert torch.equal(sparse.get_parameter("0.values"), weight[weight != 0])


def test_new_values_of_a_convolution_count_its_kernel_and_frozen_layers_stay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Conv2d(4, 1, 1)).double()
    model[1].requires_grad_(False)
    model.get_parameter("0.weight").data[:, 1:] = 0.0
    frozen = snapshot(model[1])
    reinitialize_(model, generator=seeded())

    assert (model.get_parameter("0.weight") != 0).flatten(1).sum(1).tolist() == [4, 4, 4, 4]
    assert 0.9 < float(model.get_parameter("0.weight").detach().abs().max()) <= (6 / 4) ** 0.5
    assert all(torch.equal(value, frozen[name]) for name, value in model[1].state_dict().items())


@pytest.mark.parametrize("storage", ["masked", "truly sparse"])
@pytest.mark.parametrize("values", ["early", "drawn"])
def test_shuffled_masks_keep_the_count_of_each_layer_at_other_places(storage: str, values: str) -> None:
    first = mlp([20, 10, 4], generator=seeded())
    earlier = snapshot(first)
    model: nn.Module = copy.deepcopy(first)
    model.get_parameter("0.weight").data[:, 3:] = 0.0
    model = to_sparse(model) if storage == "truly sparse" else model
    shuffle_masks_(model, generator=seeded(1), earlier=earlier if values == "early" else None)
    weight = to_dense(model).state_dict()["0.weight"]

    active = weight != 0
    assert int(active.sum()) == 30
    assert int(active[:, 3:].sum()) > 15
    assert torch.equal(weight[active], earlier["0.weight"][active]) == (values == "early")
    assert model.state_dict()["2.weight"].all()


@pytest.mark.parametrize("storage", ["masked", "truly sparse"])
def test_masks_cannot_move_to_places_without_an_early_value(storage: str) -> None:
    model = trained_and_pruned(dense())
    moved = to_sparse(model) if storage == "truly sparse" else model

    for earlier in (snapshot(model), snapshot(to_sparse(model))):
        with pytest.raises(ValueError, match=r"no value for some places of 0.weight; take it from the dense model"):
            shuffle_masks_(moved, generator=seeded(), earlier=earlier)


@pytest.mark.parametrize("values", ["early", "drawn"])
def test_frozen_layers_are_not_shuffled(values: str) -> None:
    model = dense()
    earlier = snapshot(model)
    model.get_parameter("0.weight").data[~HALF] = 0.0
    model[0].requires_grad_(False)
    before = model.get_parameter("0.weight").clone()
    earlier["1.bias"] += 1.0
    shuffle_masks_(model, generator=seeded(), earlier=earlier if values == "early" else None)

    assert torch.equal(model.get_parameter("0.weight"), before)


def test_the_seed_decides_the_draws() -> None:
    models = [trained_and_pruned(dense()) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        shuffle_masks_(model, generator=seeded(seed))

    assert torch.equal(models[0].get_parameter("0.weight"), models[1].get_parameter("0.weight"))
    assert not torch.equal(models[0].get_parameter("0.weight"), models[2].get_parameter("0.weight"))


def test_tables_are_not_shuffled_and_recurrent_layers_are() -> None:
    first = Reader()
    earlier, model = snapshot(first), prune(first, sparsity=0.5)
    zeros = zeros_of(model)
    shuffle_masks_(model, generator=seeded(), earlier=earlier)
    now = zeros_of(model)

    assert torch.equal(now["table.weight"], zeros["table.weight"])
    assert not torch.equal(now["recurrent.weight_ih_l0"], zeros["recurrent.weight_ih_l0"])
    assert int(now["recurrent.weight_ih_l0"].sum()) == int(zeros["recurrent.weight_ih_l0"].sum())


def test_a_weight_that_is_whole_may_have_been_zero_when_masks_are_shuffled() -> None:
    first = dense()
    first.get_parameter("3.weight").data.zero_()
    earlier, model = snapshot(first), trained_and_pruned(first)
    shuffle_masks_(model, generator=seeded(), earlier=earlier)

    assert int((model.get_parameter("0.weight") != 0).sum()) == int(HALF.sum())
    assert not model.get_parameter("3.weight").any()


def test_a_snapshot_that_does_not_fit_moves_no_truly_sparse_mask() -> None:
    first = dense()
    lacking, bad = snapshot(first), snapshot(first)
    del lacking["3.bias"]
    bad["0.weight"][~HALF] = torch.nan
    sparse = to_sparse(trained_and_pruned(first))

    for earlier, text in ((lacking, "the snapshot has no 3.bias"), (bad, "no value for some places of 0.weight")):
        assert_refused(
            sparse, lambda earlier=earlier: shuffle_masks_(sparse, generator=seeded(), earlier=earlier), text
        )
