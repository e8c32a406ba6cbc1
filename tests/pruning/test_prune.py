import copy
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gossamer as gs
from gossamer import budgets, criteria, patterns, solvers
from gossamer.statistics.inputs import unfolded

Data = list[tuple[Tensor, Tensor]]


def network() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 16), nn.ReLU(),
            nn.Linear(16, 4),
        )  # fmt: skip


def samples(count: int = 40) -> Data:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 1, 6, 6, generator=generator)
    targets = torch.randint(4, (count,), generator=generator)
    return [(inputs[i : i + 16], targets[i : i + 16]) for i in range(0, count, 16)]


def active(model: nn.Module) -> list[int]:
    return [int(weight.count_nonzero()) for weight in model.parameters() if weight.dim() > 1]


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


OF_WEIGHTS = [
    criteria.magnitude, criteria.random, criteria.magnitude_increase, criteria.sensitivity, criteria.wanda,
    criteria.snip, criteria.grasp, criteria.synflow, criteria.taylor, criteria.movement, criteria.obd, criteria.fisher,
]  # fmt: skip
OF_UNITS = [
    criteria.geometric_median, criteria.apoz, criteria.mean_activation, criteria.energy, criteria.output_variance,
    criteria.correlation, criteria.taylor_filter, criteria.taylor_activation, criteria.skeletonization,
]  # fmt: skip
SOLVERS = [solvers.obc, solvers.sparsegpt, solvers.l_obs, partial(solvers.woodfisher, block_size=50, dampening=1e-4)]


def name_of(rule: Any) -> str:
    return str(getattr(rule, "func", rule).__name__)


def pruned(model: nn.Module, rule: Callable[..., Any], **settings: Any) -> Any:
    first = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    given: dict[str, Any] = {
        "sparsity": 0.75,
        "data": samples(),
        "loss_fn": F.cross_entropy,
        "generator": generator,
    } | settings
    return gs.prune(model, criterion=rule, first=first, **given)


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


def test_what_went_in_one_round_never_comes_back() -> None:
    calls = []

    def first_high_then_low(weight: Tensor) -> Tensor:
        calls.append(int(weight.count_nonzero()))
        return weight if len(calls) == 1 else -weight

    model: Any = nn.Linear(10, 1, bias=False)
    model.weight.data = torch.arange(1.0, 11.0)[None]

    small: Any = gs.prune(model, sparsity=0.64, criterion=first_high_then_low, rounds=2)

    # Of ten the six largest stay; of those, judged the other way round, the four smallest.
    assert calls == [10, 6]
    assert small.weight[0].tolist() == [0, 0, 0, 0, 5, 6, 7, 8, 0, 0]


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


@pytest.mark.parametrize("rule", [criteria.synflow, criteria.snip, criteria.obd, criteria.random], ids=name_of)
def test_truly_sparse_weights_are_cut_in_rounds_as_dense_ones_are(rule: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    model: Any = gs.models.mlp([20, 30, 4], sparsity=0.5, generator=generator)
    data = [(torch.randn(8, 20, generator=generator), torch.randint(4, (8,), generator=generator))]
    settings: dict[str, Any] = {"data": data, "loss_fn": F.cross_entropy, "rounds": 3, "budget": budgets.global_}

    small: Any
    as_dense: Any
    small, as_dense = (
        gs.prune(one, sparsity=0.9, criterion=rule, generator=torch.Generator().manual_seed(1), **settings)
        for one in (model, gs.to_dense(model))
    )

    assert small[0].num_active + int(small[2].weight.count_nonzero()) == 72
    # Signs are drawn for other shapes.
    if rule is not criteria.obd:
        again: Any = gs.to_dense(small)
        assert torch.equal(again[0].weight, as_dense[0].weight)


def test_rounds_go_on_from_what_is_gone_already() -> None:
    once: Any = gs.prune(network(), sparsity=0.5)
    asked: list[float] = []

    def watched(shapes: Any, *, sparsity: float) -> dict[str, int]:
        asked.append(sparsity)
        return budgets.uniform(shapes, sparsity=sparsity)

    gs.prune(once, sparsity=0.875, budget=watched, rounds=2)

    assert asked == [pytest.approx(0.75), 0.875]


def test_what_a_tensor_has_no_longer_others_keep() -> None:
    # The middle one, 2048 of 2184 weights, has 100 left and uniform asks for 205 of it.
    model: Any = network()
    model[4].weight.data.view(-1)[100:] = 0.0

    small: Any = gs.prune(model, sparsity=0.9)

    assert active(small)[1] == 100
    assert sum(active(small)) == 7 + 205 + 6


def test_less_than_what_is_gone_already_is_refused() -> None:
    once = gs.prune(network(), sparsity=0.75)

    with pytest.raises(ValueError, match=r"a sparsity of 0\.5 cannot be had.*0\.75 are gone already"):
        gs.prune(once, sparsity=0.5)


def test_an_elementwise_criterion_sees_only_what_is_there() -> None:
    seen: list[tuple[int, ...]] = []

    @criteria.elementwise
    def watched(weight: Tensor, grad: Tensor) -> Tensor:
        assert weight.shape == grad.shape
        seen.append(tuple(weight.shape))
        return weight.abs()

    gs.prune(network(), sparsity=0.75, criterion=watched, rounds=2, data=samples(), loss_fn=F.cross_entropy)

    assert seen == [(72,), (2048,), (64,), (36,), (1024,), (32,)]


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("rule", [criteria.magnitude, criteria.snip, criteria.synflow, criteria.fisher], ids=name_of)
def test_an_elementwise_criterion_chooses_as_it_would_from_whole_tensors(rule: Callable[..., Any], rounds: int) -> None:
    def unmarked(**given: Tensor) -> Tensor:
        scores: Tensor = rule(**given)
        return scores

    unmarked.__signature__ = inspect.signature(rule)  # type: ignore[attr-defined]

    small, expected = (pruned(network(), way, rounds=rounds, budget=budgets.global_) for way in (rule, unmarked))

    assert all(torch.equal(a, b) for a, b in zip(small.parameters(), expected.parameters(), strict=True))


def by_hand(model: Any, batch: tuple[Tensor, Tensor], kept: list[int]) -> Tensor:
    """FORCE by its equation on one layer: |w dL/dw at the masked weight|, of all entries anew in each round."""
    weight: Tensor = model[0].weight.detach().clone()
    mask = torch.ones_like(weight)
    for count in kept:
        masked = (weight * mask).requires_grad_()
        loss = F.cross_entropy(F.linear(batch[0], masked, model[0].bias), batch[1])
        scores = (weight * torch.autograd.grad(loss, masked)[0]).abs()
        mask = torch.zeros_like(weight)
        mask.view(-1)[scores.flatten().topk(count).indices] = 1.0
    return weight * mask


def test_force_lets_removed_weights_return_with_their_values() -> None:
    generator = torch.Generator().manual_seed(3)
    model: Any = gs.models.mlp([30, 6], generator=generator)
    batch = torch.randn(20, 30, generator=generator) * 3, torch.randint(6, (20,), generator=generator)
    settings: dict[str, Any] = {
        "sparsity": 0.96, "criterion": criteria.snip, "rounds": 4, "data": [batch], "loss_fn": F.cross_entropy,
    }  # fmt: skip
    kept = [round(180 * 0.04 ** (done / 4)) for done in (1, 2, 3, 4)]

    force: Any = gs.prune(model, **settings, returning=True)
    snip: Any = gs.prune(model, **settings)

    expected = by_hand(model, batch, kept)
    assert kept == [80, 36, 16, 7]
    assert torch.equal(force[0].weight, expected)
    assert not torch.equal(snip[0].weight, expected)


def test_where_weights_may_return_a_tensor_may_grow_again() -> None:
    model: Any = gs.models.mlp([6, 5, 4], generator=torch.Generator().manual_seed(0))
    splits = iter([{"0.weight": 3, "2.weight": 12}, {"0.weight": 6, "2.weight": 4}])

    def split(shapes: Any, *, sparsity: float) -> dict[str, int]:
        return next(splits)

    small = gs.prune(model, sparsity=0.8, budget=split, rounds=2, returning=True)

    assert active(small) == [6, 4]


def test_what_cannot_return_is_named() -> None:
    generator = torch.Generator().manual_seed(0)
    sparse = gs.models.mlp([20, 30, 4], sparsity=0.5, generator=generator)

    with pytest.raises(ValueError, match=r"0\.values is truly sparse: .*to_dense"):
        gs.prune(sparse, sparsity=0.9, returning=True)
    with pytest.raises(ValueError, match=r"obc moves what stays.*leave out returning"):
        pruned(network(), solvers.obc, returning=True)


def test_only_the_last_of_several_rounds_must_meet_its_sparsity() -> None:
    # Rows of 8 and 16 outputs cannot have the sparsities in between.
    small = pruned(network(), criteria.geometric_median, pattern=patterns.row(), sparsity=0.5, rounds=7)

    assert [int(small[i].weight.flatten(1).any(1).sum()) for i in (0, 4)] == [4, 8]


def test_wrongly_marked_criteria_are_told_so() -> None:
    @criteria.elementwise
    def of_one(weight: Tensor) -> Tensor:
        return weight.sum()

    with pytest.raises(ValueError, match=r"of_one returned scores of shape \(\) .*marked as elementwise"):
        gs.prune(network(), sparsity=0.5, criterion=of_one)


def test_a_model_in_another_memory_order_is_pruned_alike() -> None:
    model = network()
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)

    small, moved = gs.prune(model, sparsity=0.8, rounds=2), gs.prune(other, sparsity=0.8, rounds=2)

    assert all(torch.equal(a, b) for a, b in zip(small.parameters(), moved.parameters(), strict=True))


def test_a_model_pruned_twice_ends_at_the_higher_sparsity() -> None:
    once: Any = gs.prune(network(), sparsity=0.5)

    twice: Any = gs.prune(once, sparsity=0.75)

    assert active(twice) == [18, 512, 16]
    assert all(
        torch.equal(b != 0, (b != 0) & (a != 0)) for a, b in zip(once.parameters(), twice.parameters(), strict=True)
    )


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
