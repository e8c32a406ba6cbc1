from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gossamer.budgets import global_, uniform
from gossamer.pruning import find_pruning_method
from gossamer.training.first_cut import draw_rows, prune_fresh

from .small import digits

DATA = digits()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cut(model: nn.Module, method: str = "snip", **changes: object) -> nn.Module:
    settings = {"sparsity": 0.8, "budget": global_, "rounds": 1, "batch_size": 40, "generator": seeded()}
    return prune_fresh(model, find_pruning_method(method), DATA, **{**settings, **changes})  # type: ignore[arg-type]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


def test_ten_rows_of_each_class_are_drawn_once_each() -> None:
    targets = torch.tensor([2, 0, 1] * 20)
    rows = draw_rows(targets, num_classes=3, generator=seeded())

    assert targets[rows].bincount().tolist() == [10, 10, 10]
    assert rows.unique().numel() == 30
    assert sorted(targets[rows[:15]].unique().tolist()) == [0, 1, 2]  # classes are mixed


def test_of_a_small_class_all_rows_are_drawn_and_of_an_absent_one_none() -> None:
    targets = torch.tensor([0] * 50 + [2] * 3)
    rows = draw_rows(targets, num_classes=3, generator=seeded())

    assert targets[rows].bincount(minlength=3).tolist() == [10, 0, 3]


def test_the_generator_decides_which_rows() -> None:
    one, same, other = (draw_rows(DATA.train_targets, num_classes=10, generator=seeded(n)) for n in (0, 0, 1))

    assert torch.equal(one, same)
    assert not torch.equal(one.sort().values, other.sort().values)


@pytest.mark.parametrize("method", ["snip", "grasp", "synflow", "magnitude"])
def test_what_stays_keeps_its_first_value_and_all_else_stays_as_it_is(method: str) -> None:
    model = net()
    first = {name: value.clone() for name, value in model.state_dict().items()}
    found = cut(model, method).state_dict()

    kept = {name: found[name] != 0 for name in ("0.weight", "3.weight")}
    assert sum(int(mask.sum()) for mask in kept.values()) == round(0.2 * (64 * 16 + 16 * 10))
    for name, value in found.items():
        stays = kept.get(name, torch.ones_like(value, dtype=torch.bool))
        assert torch.equal(value[stays], first[name][stays])
        assert torch.equal(model.state_dict()[name], first[name])


def test_batches_of_the_sample_change_no_more_than_the_rounding() -> None:
    one, several = (cut(net(), batch_size=size).get_parameter("0.weight") for size in (1000, 7))

    assert int(((one != 0) != (several != 0)).sum()) <= 2


def test_a_frozen_weight_is_neither_judged_nor_cut() -> None:
    model = net()
    model.get_parameter("0.weight").requires_grad_(False)
    found = cut(model)

    assert torch.equal(found.get_parameter("0.weight"), model.get_parameter("0.weight"))
    assert int((found.get_parameter("3.weight") != 0).sum()) == 32


def test_the_loss_is_at_the_temperature_of_the_method() -> None:
    model, asked = net(), list[Tensor]()

    def watched(weight: Tensor, grad: Tensor) -> Tensor:
        asked.append(grad)
        return weight.abs()

    method = replace(find_pruning_method("snip"), rule=watched, temperature=3.0)
    prune_fresh(model, method, DATA, sparsity=0.5, budget=uniform, rounds=1, batch_size=1000, generator=seeded())
    rows = draw_rows(DATA.train_targets, num_classes=DATA.num_classes, generator=seeded())
    loss = cross_entropy(model.eval()(DATA.train_inputs[rows]) / 3.0, DATA.train_targets[rows])
    loss.backward()

    weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    for own, found in zip(weights, asked, strict=True):
        assert own.grad is not None
        torch.testing.assert_close(found, own.grad)


def test_what_force_removes_may_return() -> None:
    model, settings = net(), {"sparsity": 0.95, "budget": global_, "rounds": 8, "batch_size": 1000}

    force, snip = (
        prune_fresh(model, find_pruning_method(name), DATA, generator=seeded(), **settings)  # type: ignore[arg-type]
        for name in ("force", "iterative_snip")
    )

    assert any(not torch.equal(a, b) for a, b in zip(force.parameters(), snip.parameters(), strict=True))
