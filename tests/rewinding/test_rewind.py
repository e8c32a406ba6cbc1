from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import prune, recipes, to_dense, to_sparse
from gossamer.models import mlp
from gossamer.nn import SparseLinear
from gossamer.rewinding import reinitialize_, rewind_, snapshot

from .models import HALF, Reader, assert_refused, dense, seeded, trained_and_pruned, zeros_of


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
