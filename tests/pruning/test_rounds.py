"""Several cuts one after the other: what is gone, what may return, and what a criterion sees."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gossamer as gs
from gossamer import budgets, criteria, patterns, solvers

from .network import active, name_of, network, pruned, samples


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


def test_a_model_pruned_twice_ends_at_the_higher_sparsity() -> None:
    once: Any = gs.prune(network(), sparsity=0.5)

    twice: Any = gs.prune(once, sparsity=0.75)

    assert active(twice) == [18, 512, 16]
    assert all(
        torch.equal(b != 0, (b != 0) & (a != 0)) for a, b in zip(once.parameters(), twice.parameters(), strict=True)
    )
