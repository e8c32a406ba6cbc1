from typing import Any

import pytest
import torch
from torch import nn

from gossamer.nn import SparseLinear
from gossamer.weights import SparseWeight, prunable


def test_prunable_finds_linear_convolutional_and_truly_sparse_weights_in_order() -> None:
    model = nn.ModuleDict(
        {
            "b": nn.Conv1d(2, 3, 1),
            "a": nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Conv3d(2, 3, 1)),
            "c": SparseLinear(4, 3, sparsity=0.5, generator=torch.Generator()),
            "d": nn.Linear(3, 2),
            "e": nn.Embedding(3, 2),
        }
    )

    found = prunable(model)

    assert [weight.name for weight in found] == ["b.weight", "a.0.weight", "a.2.weight", "c.values", "d.weight"]
    assert [type(weight) is SparseWeight for weight in found] == [False, False, False, True, False]
    assert found[1].closed_columns.shape == (2,)


def test_prunable_names_a_root_layer_without_a_dot() -> None:
    assert prunable(nn.Linear(2, 3))[0].name == "weight"
    assert prunable(SparseLinear(2, 3, sparsity=0.5, generator=torch.Generator()))[0].name == "values"


def test_a_tied_weight_and_a_shared_module_come_once() -> None:
    tied, shared = nn.Linear(3, 3), nn.Linear(3, 3)
    other = nn.Linear(3, 3)
    other.weight = tied.weight
    truly = SparseLinear(3, 3, sparsity=0.5, generator=torch.Generator())

    model = nn.Sequential(tied, shared, other, shared, truly, truly)

    assert [weight.name for weight in prunable(model)] == ["0.weight", "1.weight", "4.values"]


def test_frozen_weights_are_left_out() -> None:
    model = nn.Sequential(
        nn.Linear(2, 2), nn.Linear(2, 2), SparseLinear(2, 2, sparsity=0.5, generator=torch.Generator())
    )
    model[0].weight.requires_grad_(False)
    model[2].values.requires_grad_(False)

    assert [weight.name for weight in prunable(model)] == ["1.weight"]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"include": ["1.*"]}, ["1.weight"]),
        ({"include": "1.*"}, ["1.weight"]),
        ({"exclude": ["1.*", "2.*"]}, ["0.weight"]),
        ({"exclude": "1.*"}, ["0.weight", "2.weight"]),
        ({"include": ("0*", "1*"), "exclude": iter(["0*"])}, ["1.weight"]),
        ({"include": (name for name in ["0.weight", "2.weight"])}, ["0.weight", "2.weight"]),
    ],
)
def test_patterns_choose_weights(settings: dict[str, Any], names: list[str]) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))

    assert [weight.name for weight in prunable(model, **settings)] == names


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Sequential(nn.Embedding(2, 2)), nn.Linear(2, 2).requires_grad_(False)])
def test_a_model_without_prunable_weights_is_an_error(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=f"{type(model).__name__} has no trainable weight that can be sparse"):
        prunable(model)


def test_patterns_that_match_nothing_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"matches head\.\*; check include"):
        prunable(nn.Linear(2, 2), include=["head.*"])


def test_a_weight_that_is_computed_from_others_is_an_error() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))

    with pytest.raises(ValueError, match="weight is computed by a parametrization"):
        prunable(layer)


def test_prunable_has_no_side_effect_on_the_model() -> None:
    model = nn.Sequential(nn.Linear(2, 2), SparseLinear(2, 2, sparsity=0.5, generator=torch.Generator()))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prunable(model)

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert not any(parameter._backward_hooks for parameter in model.parameters())


def test_recurrent_layers_and_attention_have_several_weights_each() -> None:
    model = nn.ModuleDict({"rnn": nn.LSTM(3, 4), "cell": nn.GRUCell(3, 4), "attention": nn.MultiheadAttention(8, 2)})

    names = [weight.name for weight in prunable(model)]

    assert names == [
        "rnn.weight_ih_l0",
        "rnn.weight_hh_l0",
        "cell.weight_ih",
        "cell.weight_hh",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
    ]


def test_attention_with_keys_of_another_size_has_three_projections() -> None:
    names = [weight.name for weight in prunable(nn.MultiheadAttention(8, 2, kdim=5, vdim=6))]

    assert names == ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"]


def test_an_embedding_counts_only_when_asked_for() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2))

    assert [weight.name for weight in prunable(model)] == ["1.weight"]
    assert [weight.name for weight in prunable(model, embeddings=True)] == ["0.weight", "1.weight"]


def test_an_embedding_tied_to_the_output_layer_comes_once() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight

    assert [weight.name for weight in prunable(model, embeddings=True)] == ["0.weight"]


def test_frozen_weights_count_only_when_asked_for() -> None:
    model = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2))

    assert [weight.name for weight in prunable(model)] == ["1.weight"]
    assert [weight.name for weight in prunable(model, frozen=True)] == ["0.weight", "1.weight"]
