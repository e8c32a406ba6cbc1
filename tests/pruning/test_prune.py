import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gossamer as gs
from gossamer import budgets, criteria, patterns, solvers
from gossamer.statistics.inputs import unfolded

from .network import OF_UNITS, OF_WEIGHTS, SOLVERS, active, name_of, network, pruned, samples, state


@pytest.mark.parametrize("rule", [*OF_WEIGHTS, *SOLVERS], ids=name_of)
def test_every_rule_keeps_the_count_to_the_integer_and_leaves_the_model_alone(rule: Callable[..., Any]) -> None:
    model = network()
    before = state(model)

    small = pruned(model, rule)

    assert active(small) == [18, 512, 16]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training
    assert small.training


@pytest.mark.parametrize("rule", OF_UNITS, ids=name_of)
def test_rules_of_units_remove_whole_outputs_and_never_those_of_the_model(rule: Callable[..., Any]) -> None:
    small = pruned(network(), rule, sparsity=0.5, pattern=patterns.row())

    assert active(small) == [36, 1024, 64]
    rows = small[4].weight.count_nonzero(1)
    assert sorted(rows.tolist()) == [0] * 8 + [128] * 8


@pytest.mark.parametrize("rule", OF_UNITS, ids=name_of)
def test_rules_of_units_do_not_take_outputs_apart(rule: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=f"{name_of(rule)} judges whole outputs"):
        pruned(network(), rule)


@pytest.mark.parametrize("rule", [solvers.obc_nm, solvers.sparsegpt_nm], ids=name_of)
def test_solvers_of_n_m_take_the_numbers_of_the_pattern(rule: Callable[..., Any]) -> None:
    model: Any = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 4))

    small = pruned(model, rule, sparsity=0.5, pattern=patterns.nm(2, 4))

    groups = small[1].weight.reshape(-1, 4).count_nonzero(1)
    assert groups.tolist() == [2] * 72


@pytest.mark.parametrize("rule", [solvers.obc_nm, solvers.sparsegpt_nm], ids=name_of)
@pytest.mark.parametrize("layer", [nn.Conv2d(8, 6, (3, 2)), nn.Conv1d(4, 6, 3)])
def test_solvers_of_n_m_group_the_channels_of_convolutions(rule: Any, layer: Any) -> None:
    model: Any = nn.Sequential(copy.deepcopy(layer))
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(64, layer.in_channels, *[6] * (layer.weight.dim() - 2), generator=generator)
    inputs = mixed + 2 * mixed.roll(1, 1)
    settings: dict[str, Any] = {"sparsity": 0.5, "pattern": patterns.nm(2, 4)}

    # The same as a linear layer, its inputs in the order of the groups.
    rows = unfolded(layer, inputs).view(-1, layer.in_channels, layer.weight[0, 0].numel()).transpose(1, 2).flatten(1)
    linear: Any = nn.Sequential(nn.Linear(rows.shape[1], 6))
    linear[0].weight.data.copy_(layer.weight.detach().movedim(1, -1).flatten(1))

    small: Any = gs.prune(model, criterion=rule, data=[(inputs, torch.zeros(64))], **settings)
    flat: Any = gs.prune(linear, criterion=rule, data=[(rows, torch.zeros(len(rows)))], **settings)

    found = small[0].weight.detach().movedim(1, -1).flatten(1)
    assert found.reshape(-1, 4).count_nonzero(1).tolist() == [2] * (layer.weight.numel() // 4)
    torch.testing.assert_close(found, flat[0].weight.detach(), rtol=1e-4, atol=1e-5)


def test_solvers_of_n_m_refuse_channels_that_make_no_whole_groups() -> None:
    model = nn.Sequential(nn.Conv2d(6, 8, 3), nn.Flatten(), nn.Linear(32, 4))

    with pytest.raises(ValueError, match=r"0\.weight has 6 input channels, of which sparsegpt_nm makes groups for nm"):
        pruned(
            model,
            solvers.sparsegpt_nm,
            sparsity=0.5,
            pattern=patterns.nm(2, 4),
            data=[(torch.ones(2, 6, 4, 4), torch.zeros(2, dtype=torch.long))],
        )


def test_a_solver_moves_what_stays_and_harms_the_layer_less() -> None:
    model: Any = nn.Sequential(nn.Flatten(), nn.Linear(36, 8))
    inputs = torch.cat([inputs for inputs, _ in samples(400)])

    by_magnitude = pruned(model, criteria.magnitude, sparsity=0.7, data=samples(400))
    by_solver = pruned(model, solvers.obc, sparsity=0.7, data=samples(400))

    errors = [float((small(inputs) - model(inputs)).detach().square().mean()) for small in (by_magnitude, by_solver)]
    assert errors[1] < errors[0]


def test_a_budget_by_scores_lets_all_layers_compete() -> None:
    model: Any = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[0].weight.data = torch.arange(1.0, 17.0).reshape(4, 4)
    model[1].weight.data = torch.arange(101.0, 117.0).reshape(4, 4)

    small: Any = gs.prune(model, sparsity=0.25, budget=budgets.global_)

    assert active(small) == [8, 16]
    assert small[0].weight[2:].min() == 9.0


def test_tied_weights_are_pruned_once_and_stay_tied() -> None:
    model: Any = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 20, bias=False))
    model[1].weight = model[0].weight

    small: Any = gs.prune(model, sparsity=0.9)

    assert small[0].weight is small[1].weight
    assert int(small[0].weight.count_nonzero()) == 16


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions_stay_what_they_are(dtype: torch.dtype) -> None:
    small: Any = gs.prune(nn.Linear(20, 10).to(dtype), sparsity=0.9)

    assert small.weight.dtype == dtype
    assert int(small.weight.count_nonzero()) == 20


def test_frozen_layers_and_recurrent_ones_are_pruned_too() -> None:
    model: Any = nn.LSTM(5, 4).requires_grad_(False)

    small: Any = gs.prune(model, sparsity=0.5)

    assert active(small) == [40, 32]
    assert not any(parameter.requires_grad for parameter in small.parameters())


def test_a_truly_sparse_model_becomes_sparser() -> None:
    generator = torch.Generator().manual_seed(0)
    model: Any = gs.models.mlp([20, 30, 4], sparsity=0.5, generator=generator)

    small: Any = gs.prune(model, sparsity=0.9, budget=budgets.er)

    assert isinstance(small[0], gs.nn.SparseLinear)
    assert small[0].num_active + int(small[2].weight.count_nonzero()) == 72


@pytest.mark.parametrize("budget", [budgets.global_, budgets.lamp, budgets.floor(budgets.global_, num_active=5)])
def test_truly_sparse_and_dense_weights_compete(budget: budgets.Budget) -> None:
    generator = torch.Generator().manual_seed(0)
    model: Any = gs.models.mlp([20, 30, 4], sparsity=0.5, generator=generator)
    dense: Any = gs.to_dense(model)

    small: Any = gs.prune(model, sparsity=0.9, budget=budget)
    as_dense: Any = gs.prune(dense, sparsity=0.9, budget=budget)

    assert small[0].num_active + int(small[2].weight.count_nonzero()) == 72
    again: Any = gs.to_dense(small)
    assert torch.equal(again[0].weight, as_dense[0].weight)
    assert torch.equal(small[2].weight, as_dense[2].weight)


def test_a_model_in_another_memory_order_is_pruned_alike() -> None:
    model = network()
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)

    small, moved = gs.prune(model, sparsity=0.8, rounds=2), gs.prune(other, sparsity=0.8, rounds=2)

    assert all(torch.equal(a, b) for a, b in zip(small.parameters(), moved.parameters(), strict=True))


def test_statistics_of_batch_normalisation_are_taken_anew_where_there_is_data() -> None:
    model = network().eval()

    with_data: Any = gs.prune(model, sparsity=0.5, data=samples())
    without: Any = gs.prune(model, sparsity=0.5)
    kept: Any = gs.prune(model, sparsity=0.5, data=samples(), reestimate=False)

    assert not torch.equal(with_data[1].running_mean, model[1].running_mean)
    assert torch.equal(without[1].running_mean, model[1].running_mean)
    assert torch.equal(kept[1].running_mean, model[1].running_mean)
    assert not with_data.training


def nan_in(model: Any) -> Any:
    model[4].weight.data[0, 0] = float("nan")
    return model


def vector_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def asks_for_more(weight: Tensor, moonshine: Tensor) -> Tensor:
    return weight * moonshine


def wrong_shape(weight: Tensor) -> Tensor:
    return weight.flatten()[:2]


def gives_nan(weight: Tensor) -> Tensor:
    return weight * float("nan")


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"sparsity": 1.0}, r"sparsity must lie in \[0, 1\), got 1.0"),
    ({"criterion": criteria.snip, "data": samples()}, "needs loss_fn, and none was given"),
    ({"criterion": criteria.snip, "loss_fn": F.cross_entropy}, "needs data, and none was given"),
    ({"criterion": criteria.snip, "loss_fn": vector_loss, "data": samples()}, "the loss must be a scalar"),
    ({"criterion": criteria.snip, "loss_fn": F.cross_entropy, "data": []}, "the data gave no batch"),
    ({"criterion": criteria.magnitude_increase}, "needs first, and none was given"),
    ({"criterion": criteria.magnitude_increase, "first": {}}, r"first holds no 0\.weight"),
    ({"criterion": criteria.random}, "needs generator, and none was given"),
    ({"criterion": asks_for_more}, "asks for moonshine; known are weight"),
    ({"criterion": wrong_shape}, r"scores of shape \(2,\) for 0.weight"),
    ({"criterion": gives_nan}, "gave 72 scores of 0.weight that are NaN"),
    ({"criterion": criteria.synflow, "data": []}, "the data gave no batch"),
    ({"criterion": criteria.snip, "loss_fn": F.cross_entropy, "data": iter(samples()), "rounds": 2}, "read to its end"),
    ({"pattern": patterns.nm(2, 4)}, r"0\.weight: nm\(2, 4\) needs at least 4 inputs"),
    ({"sparsity": 0.9, "pattern": patterns.nm(2, 4), "exclude": "0.*"}, "the nearest is 0.5"),
    ({"rounds": 0}, "rounds must be 1 or more, got 0"),
    ({"reestimate": True}, "no data was given"),
    ({"include": "nothing"}, "matches nothing"),
    ({"criterion": solvers.obc, "budget": budgets.global_, "data": samples()}, "obc gives no scores to split"),
]


@pytest.mark.parametrize(("settings", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_a_mistake_is_one_clear_error_and_the_model_stays(settings: dict[str, Any], message: str) -> None:
    model = network()
    before = state(model)

    with pytest.raises(ValueError, match=message):
        gs.prune(model, **({"sparsity": 0.5} | settings))

    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_weight_with_nan_is_named() -> None:
    with pytest.raises(ValueError, match=r"4\.weight holds 1 values that are NaN"):
        gs.prune(nan_in(network()), sparsity=0.5)


def test_a_layer_that_the_forward_pass_ignores_is_named() -> None:
    model = network()
    model[0].spare = nn.Linear(3, 3)

    with pytest.raises(ValueError, match=r"does not depend on 0\.spare\.weight"):
        gs.prune(model, sparsity=0.5, criterion=criteria.snip, data=samples(), loss_fn=F.cross_entropy)


def test_a_criterion_that_returns_no_tensor_is_named() -> None:
    with pytest.raises(TypeError, match="must return a tensor of scores or a Solution, got float"):
        gs.prune(network(), sparsity=0.5, criterion=lambda weight: 1.0)
