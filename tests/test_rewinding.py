import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import prune, recipes, schedules, to_dense, to_sparse
from gossamer.models import mlp
from gossamer.nn import SparseLinear
from gossamer.rewinding import reinitialize_, rewind_, rewound_schedule, shuffle_masks_, snapshot

HALF = torch.tensor([[True, False, True, False], [False, True, False, False], [True, True, True, False]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))


def trained_and_pruned(model: nn.Sequential) -> nn.Sequential:
    """Return a copy with other values everywhere and zeros in the first layer."""
    model = copy.deepcopy(model)
    for number, tensor in enumerate(model.state_dict().values()):
        tensor.add_(number + 1)
    model.get_parameter("0.weight").data[~HALF] = 0.0
    return model


def rewound(model: nn.Module, earlier: dict[str, Tensor], **settings: Any) -> dict[str, Tensor]:
    rewind_(model, earlier, **settings)
    return model.state_dict()


def test_survivors_go_back_zeros_stay_and_all_else_goes_back_too() -> None:
    first = dense()
    earlier = snapshot(first)
    state = rewound(trained_and_pruned(first), earlier)

    assert torch.equal(state["0.weight"], torch.where(HALF, earlier["0.weight"], 0.0))
    assert all(torch.equal(state[name], earlier[name]) for name in earlier if name != "0.weight")
    assert {"0.bias", "1.weight", "1.running_mean", "1.num_batches_tracked", "3.weight"} < set(earlier)


def test_a_snapshot_is_a_copy_and_rewinding_leaves_it_as_it_is() -> None:
    model = dense()
    earlier = snapshot(model)
    before = {name: value.clone() for name, value in earlier.items()}
    model.get_parameter("0.weight").data[~HALF] = 0.0
    rewind_(model, earlier)
    model.get_parameter("0.weight").data.fill_(9.0)

    assert all(torch.equal(earlier[name], before[name]) for name in before)


def test_the_dense_snapshot_fills_the_active_places_of_a_truly_sparse_model() -> None:
    first = dense()
    earlier = snapshot(first)
    sparse = to_sparse(trained_and_pruned(first))
    layer = sparse.get_submodule("0")
    assert isinstance(layer, SparseLinear)
    places = layer.column_indices.clone()
    rewind_(sparse, earlier)

    assert torch.equal(layer.values, earlier["0.weight"][HALF])
    assert torch.equal(layer.column_indices, places)
    assert torch.equal(to_dense(sparse).state_dict()["0.weight"], torch.where(HALF, earlier["0.weight"], 0.0))


def test_a_truly_sparse_snapshot_serves_a_sparser_model_and_a_dense_one() -> None:
    first = dense()
    first.get_parameter("0.weight").data[~HALF] = 0.0
    earlier = snapshot(to_sparse(first))
    assert "0.values" in earlier
    fewer = HALF.clone()
    fewer[2] = False
    later = trained_and_pruned(first)
    later.get_parameter("0.weight").data[~fewer] = 0.0
    sparse = to_sparse(later)
    rewind_(sparse, earlier)

    assert torch.equal(sparse.get_parameter("0.values"), first.get_parameter("0.weight")[fewer])
    assert torch.equal(rewound(later, earlier)["0.weight"], torch.where(fewer, first.get_parameter("0.weight"), 0.0))


def test_what_was_absent_at_the_earlier_step_becomes_zero() -> None:
    first = dense()
    first.get_parameter("0.weight").data[~HALF] = 0.0
    earlier = snapshot(to_sparse(first))
    first.get_parameter("0.weight").data[0] = 5.0
    sparse = to_sparse(first)
    rewind_(sparse, earlier)

    row = to_dense(sparse).state_dict()["0.weight"][0]
    assert (row != 0).tolist() == HALF[0].tolist()


def test_given_masks_let_a_trained_zero_survive() -> None:
    first = dense()
    earlier, model = snapshot(first), trained_and_pruned(first)
    model.get_parameter("0.weight").data[0, 0] = 0.0

    assert rewound(model, earlier)["0.weight"][0, 0] == 0
    state = rewound(model, earlier, survivors={"0.weight": HALF})
    assert torch.equal(state["0.weight"], torch.where(HALF, earlier["0.weight"], 0.0))


def test_shared_weights_keep_their_zeros_under_every_name() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, 3)
            self.output = nn.Linear(3, 5, bias=False)
            self.output.weight = self.embedding.weight

    model = Tied()
    earlier = snapshot(model)
    model.output.weight.data.add_(1.0)
    model.output.weight.data[2] = 0.0
    rewind_(model, earlier)

    assert model.output.weight is model.embedding.weight
    assert not model.embedding.weight[2].any()
    assert torch.equal(model.embedding.weight[:2], earlier["output.weight"][:2])


def test_a_sparsifier_goes_on_after_rewinding() -> None:
    model = mlp([6, 5, 4], generator=seeded())
    earlier = snapshot(model)
    sparsifier = recipes.static(model, SGD(model.parameters(), lr=0.1), generator=seeded(), sparsity=0.5)
    active = [weight.indices() for weight in sparsifier.weights]
    rewind_(model, earlier)

    for weight, indices in zip(sparsifier.weights, active, strict=True):
        assert torch.equal(weight.values(), earlier[weight.name].flatten()[indices])


@pytest.mark.parametrize("missing", ["0.bias", "0.weight", "1.running_mean"])
def test_a_snapshot_of_another_architecture_changes_nothing(missing: str) -> None:
    first = dense()
    earlier = snapshot(first)
    del earlier[missing]
    for model in (trained_and_pruned(first), to_sparse(trained_and_pruned(first))):
        before = snapshot(model)
        with pytest.raises(ValueError, match=r"the snapshot has no .*; take it from a model of the same architecture"):
            rewind_(model, earlier)

        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_shapes_are_refused() -> None:
    earlier = snapshot(nn.Sequential(nn.Linear(5, 3)))
    model = nn.Sequential(nn.Linear(4, 3))
    model.get_parameter("0.weight").data[0] = 0.0

    with pytest.raises(ValueError, match=r"0.weight has shape \(3, 5\) in the snapshot, \(3, 4\) in the model"):
        rewind_(model, earlier)
    with pytest.raises(ValueError, match=r"the weight of 0. has shape \(3, 5\) in the snapshot, \(3, 4\) in the model"):
        rewind_(to_sparse(model), earlier)
    with pytest.raises(ValueError, match=r"the mask of 0.weight has shape \(2, 2\), the weight \(3, 4\)"):
        rewind_(model, snapshot(model), survivors={"0.weight": torch.ones(2, 2, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"there are masks for 7.weight, the model has dense weights 0.weight"):
        rewind_(model, snapshot(model), survivors={"7.weight": HALF})


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


def test_the_last_steps_of_a_schedule_are_replayed() -> None:
    schedule = schedules.cosine(1.0, 0.0, 10)
    again = rewound_schedule(schedule, stop_step=10, num_steps=4)

    assert [again(step) for step in range(6)] == [schedule(step) for step in (6, 7, 8, 9, 9, 9)]


def test_it_drives_the_learning_rate_of_torch() -> None:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    again = rewound_schedule(lambda step: 1.0 if step < 8 else 0.5, stop_step=10, num_steps=3)
    rates = []
    scheduled = torch.optim.lr_scheduler.LambdaLR(optimizer, again)
    for _ in range(3):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduled.step()

    assert rates == [2.0, 1.0, 1.0]


@pytest.mark.parametrize("num_steps", [0, 11])
def test_more_steps_than_there_were_cannot_be_replayed(num_steps: int) -> None:
    with pytest.raises(ValueError, match=rf"num_steps must lie in \[1, stop_step\], got {num_steps} of 10"):
        rewound_schedule(schedules.constant(1.0), stop_step=10, num_steps=num_steps)


class Reader(nn.Module):
    """A table, a recurrent layer and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4, padding_idx=0)
        self.recurrent = nn.GRU(4, 4)
        self.attention = nn.MultiheadAttention(4, 2)


def zeros_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value == 0 for name, value in model.named_parameters() if value.dim() > 1}


def assert_refused(model: nn.Module, act: Any, text: str) -> None:
    """Check the error, and that it left the model as it was."""
    before = snapshot(model)
    with pytest.raises(ValueError, match=text):
        act()

    assert list(before) == list(model.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_zeros_of_tables_recurrent_layers_and_attention_stay() -> None:
    first = Reader()
    earlier, model = snapshot(first), prune(first, sparsity=0.5)
    zeros = zeros_of(model)
    rewind_(model, earlier)
    assert all(torch.equal(zero, zeros[name]) for name, zero in zeros_of(model).items())
    reinitialize_(model, generator=seeded())
    assert all(torch.equal(zero, zeros[name]) for name, zero in zeros_of(model).items())
    weight = model.get_parameter("recurrent.weight_ih_l0")

    assert int(zeros["table.weight"].sum()) > 4
    assert torch.equal(model.get_parameter("table.weight") != 0, ~zeros["table.weight"])
    assert not (weight == earlier["recurrent.weight_ih_l0"])[weight != 0].any()
    assert not model.get_parameter("recurrent.bias_ih_l0").any()


def test_tables_are_not_shuffled_and_recurrent_layers_are() -> None:
    first = Reader()
    earlier, model = snapshot(first), prune(first, sparsity=0.5)
    zeros = zeros_of(model)
    shuffle_masks_(model, generator=seeded(), earlier=earlier)
    now = zeros_of(model)

    assert torch.equal(now["table.weight"], zeros["table.weight"])
    assert not torch.equal(now["recurrent.weight_ih_l0"], zeros["recurrent.weight_ih_l0"])
    assert int(now["recurrent.weight_ih_l0"].sum()) == int(zeros["recurrent.weight_ih_l0"].sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.uint8])
def test_masks_are_bool(dtype: torch.dtype) -> None:
    model = dense()
    earlier, survivors = snapshot(model), {"3.weight": torch.ones(2, 3, dtype=dtype)}
    text = "the mask of 3.weight has dtype .*; a mask is bool, True = survives"

    assert_refused(model, lambda: rewind_(model, earlier, survivors=survivors), text)
    assert_refused(model, lambda: reinitialize_(model, generator=seeded(), survivors=survivors), text)


def test_a_snapshot_with_more_than_the_model_has_is_of_another_one() -> None:
    deeper, model = nn.Sequential(*dense(), nn.Linear(2, 2)), dense()

    assert_refused(
        model, lambda: rewind_(model, snapshot(deeper)), "the snapshot has 4.weight, 4.bias, the model has not"
    )


def test_a_snapshot_with_nan_is_refused_and_nan_of_now_goes_away() -> None:
    model = dense()
    earlier, bad = snapshot(model), snapshot(model)
    bad["3.weight"][0, 0] = torch.nan

    assert_refused(model, lambda: rewind_(model, bad), "3.weight is NaN in the snapshot; take it before")
    model.get_parameter("3.weight").data[0, 0] = torch.nan
    assert torch.equal(rewound(model, earlier)["3.weight"], earlier["3.weight"])


def test_two_values_for_one_shared_weight_are_refused() -> None:
    untied, tied = (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)) for _ in range(2))
    tied[1].weight = tied.get_parameter("0.weight")

    assert_refused(
        tied, lambda: rewind_(tied, snapshot(untied)), "0.weight and 1.weight are one in the model, and differ"
    )


def test_a_mask_may_stand_under_any_name_of_a_shared_weight() -> None:
    tied = nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 3))
    tied[1].weight = tied.get_parameter("0.weight")
    earlier = snapshot(tied)

    assert torch.equal(rewound(tied, earlier, survivors={"1.weight": HALF})["0.weight"] != 0, HALF)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_layers_without_weights_do_not_disturb_each_other() -> None:
    model = nn.Sequential(nn.Linear(4, 0), nn.Linear(0, 4))
    earlier = snapshot(model)
    model.get_parameter("1.bias").data.add_(1.0)

    assert torch.equal(rewound(model, earlier)["1.bias"], earlier["1.bias"])


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
