"""update_in_backward: parameters, states and masks as torch's optimizers leave them, and left alone wherever told."""

import copy
import gc
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gossamer as gs
from gossamer.models import mlp
from gossamer.nn import Sequential, update_in_backward
from gossamer.nn.update_in_backward import _REGISTERED

from .build import inputs, sparse

SETTINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {"lr": 0.1}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "Nesterov": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "dampening": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.01}),
    "upwards": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.5, "maximize": True, "weight_decay": 0.1}),
    "Adam": (torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    "AdamW": (torch.optim.AdamW, {"lr": torch.tensor(0.01), "weight_decay": 0.1, "betas": (0.8, 0.99)}),
    "AdamW upwards": (torch.optim.AdamW, {"lr": 0.001, "maximize": True}),
}


def model(dtype: torch.dtype = torch.float64, sizes: tuple[int, ...] = (37, 50, 41, 5)) -> Sequential:
    return mlp(list(sizes), sparsity=0.8, generator=torch.Generator().manual_seed(0)).to(dtype)  # type: ignore[return-value]


def train(run: nn.Module, optimizer: torch.optim.Optimizer, *, steps: int = 4, batch: int = 23) -> None:
    dtype = next(run.parameters()).dtype
    for number in range(steps):
        optimizer.zero_grad()
        x = inputs(batch, 37, seed=number, dtype=dtype)
        cross_entropy(run(x), torch.arange(batch) % 5).backward()
        optimizer.step()


def same(ours: Any, theirs: Any) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 23, 300])
def test_parameters_and_states_are_those_of_torch(setting: str, dtype: torch.dtype, batch: int) -> None:
    make, options = SETTINGS[setting]
    found = []
    for fused in (True, False):
        run = model(dtype)
        optimizer = make(run.parameters(), **copy.deepcopy(options))
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        if fused:
            update_in_backward(optimizer)
        for _ in range(2):
            train(run, optimizer, steps=2, batch=batch)
            scheduler.step()
        found.append((run, optimizer))
    (ours, mine), (theirs, other) = found

    assert all(parameter.grad is None for parameter in ours.parameters())
    assert all(parameter.grad is not None for parameter in theirs.parameters())
    same(ours.parameters(), theirs.parameters())
    states = [optimizer.state_dict()["state"] for optimizer in (mine, other)]
    assert sorted(states[0]) == sorted(states[1])
    for place in states[0]:
        one, two = ({k: v for k, v in state[place].items() if v is not None} for state in states)
        assert sorted(one) == sorted(two)
        same((one[key] for key in sorted(one)), (two[key] for key in sorted(two)))


def test_it_may_begin_and_end_at_any_step_and_a_state_is_carried_over() -> None:
    found = []
    for fused in (True, False):
        run = model()
        optimizer = torch.optim.AdamW(run.parameters(), lr=0.01)
        train(run, optimizer)
        run.zero_grad()
        handle = update_in_backward(optimizer) if fused else None
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        train(run, optimizer)
        if handle is not None:
            handle.remove()
        train(run, optimizer)
        found.append(list(run.parameters()))
    same(*found)


def test_a_topology_of_many_groups_and_numbers_is_updated_by_several_threads() -> None:
    found = []
    for fused in (True, False):
        run = model(torch.float32, (37, 900, 700, 5))
        optimizer = torch.optim.SGD(run.parameters(), lr=0.1, momentum=0.9)
        if fused:
            update_in_backward(optimizer)
        train(run, optimizer, batch=257)
        found.append(list(run.parameters()))
    assert found[0][2].numel() > 90_000
    same(*found)


RECIPES: dict[str, dict[str, Any]] = {
    "set_": {"update_every": 2},
    "set_itop": {"update_every": 2},
    "rigl": {"update_every": 2},
    "gse": {"update_every": 2},
    "srigl": {"update_every": 2},
    "dsr": {"update_every": 2, "drop_fraction": 0.2},
    "granet": {"update_every": 2, "sparsity": 0.9},
    "mest": {"update_every": 2, "drop_fraction": 0.2, "grad_factor": 1.0},
    "deep_r": {"strength": 1e-3, "temperature": 1e-4},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_make_the_same_masks(recipe: str) -> None:
    found = []
    for fused in (True, False):
        run = model()
        optimizer = torch.optim.SGD(run.parameters(), lr=0.05, momentum=0.9)
        generator = torch.Generator().manual_seed(1)
        make = getattr(gs.recipes, recipe)
        sparsifier = make(run, optimizer, stop_step=9, generator=generator, **RECIPES[recipe])
        if fused:
            update_in_backward(optimizer)
        for number in range(8):
            optimizer.zero_grad()
            cross_entropy(run(inputs(16, 37, seed=number, dtype=torch.float64)), torch.arange(16) % 5).backward()
            missing = any(parameter.grad is None for parameter in run.parameters())
            if recipe in ("set_", "rigl"):
                # RigL looks at the gradients of the step before it acts, and of no other.
                assert missing == (fused and (recipe == "set_" or number % 2 == 0))
            optimizer.step()
            sparsifier.step()
        found.append([weight.indices() for weight in sparsifier.weights])
        same(found[0], found[-1])


@pytest.mark.parametrize("why", ["eval", "hook", "late hook", "gradient there", "removed", "single layer"])
def test_a_gradient_that_is_asked_for_is_there(why: str) -> None:
    run: nn.Module = model() if why != "single layer" else nn.Sequential(sparse(37, 5, dtype=torch.float64))
    optimizer = torch.optim.SGD(run.parameters(), lr=0.1)
    handle = update_in_backward(optimizer)
    before = copy.deepcopy(run.state_dict())
    values = run.get_parameter("0.values")
    if why == "eval":
        run.eval()
    elif why == "hook":
        values.register_hook(lambda grad: grad)
    elif why == "late hook":
        values.register_post_accumulate_grad_hook(lambda parameter: None)
    elif why == "gradient there":
        values.grad = torch.ones_like(values)
    elif why == "removed":
        handle.remove()
    run(inputs(4, 37, dtype=torch.float64)).sum().backward()

    assert values.grad is not None
    assert torch.equal(values, before["0.values"])
    if why == "gradient there":
        assert values.grad.ne(1).any()


def test_with_only_some_parameters_in_the_optimizer_the_others_get_gradients() -> None:
    run = model()
    update_in_backward(torch.optim.SGD([run.get_parameter("0.values")], lr=0.1))
    optimizer = torch.optim.SGD([run.get_parameter("2.values")], lr=0.1)
    update_in_backward(optimizer)
    run(inputs(4, 37, dtype=torch.float64)).sum().backward()

    missing = [name for name, parameter in run.named_parameters() if parameter.grad is None]
    assert missing == ["2.values"]  # the first optimizer is gone, and with it its updates


def test_a_layer_that_is_there_twice_is_left_to_the_step_and_so_is_a_second_derivative() -> None:
    layer = sparse(37, 37, dtype=torch.float64)
    run = Sequential(layer, nn.ReLU(), layer)
    optimizer = torch.optim.SGD(run.parameters(), lr=0.1)
    update_in_backward(optimizer)
    run(inputs(4, 37, dtype=torch.float64)).sum().backward()
    assert layer.values.grad is not None

    run = model()
    update_in_backward(kept := torch.optim.SGD(run.parameters(), lr=0.1))
    torch.autograd.grad(run(inputs(4, 37, dtype=torch.float64)).sum(), run.get_parameter("0.values"), create_graph=True)
    assert not kept.state


def test_a_run_called_twice_before_its_backward_pass_says_so() -> None:
    run = model()
    kept = torch.optim.SGD(run.parameters(), lr=0.1)
    update_in_backward(kept)
    x = inputs(4, 37, dtype=torch.float64)
    loss = run(x).sum() + run(2 * x).sum()

    with pytest.raises(RuntimeError, match="update_in_backward"):
        loss.backward()


def test_a_parameter_that_goes_takes_its_entry_with_it() -> None:
    gc.collect()
    before = len(_REGISTERED)
    run = model()
    optimizer = torch.optim.SGD(run.parameters(), lr=0.1)
    update_in_backward(optimizer)
    assert len(_REGISTERED) == before + 6
    del run, optimizer
    gc.collect()
    assert len(_REGISTERED) == before


def test_a_copy_of_a_model_has_no_share_in_it() -> None:
    run = model()
    kept = torch.optim.SGD(run.parameters(), lr=0.1)
    update_in_backward(kept)
    twin = copy.deepcopy(run)
    twin(inputs(4, 37, dtype=torch.float64)).sum().backward()

    assert all(parameter.grad is not None for parameter in twin.parameters())


def test_what_it_cannot_do_is_refused_by_name() -> None:
    run = model()
    with pytest.raises(TypeError, match=r"RMSprop.*SGD, Adam or AdamW"):
        update_in_backward(torch.optim.RMSprop(run.parameters()))
    with pytest.raises(ValueError, match="amsgrad"):
        update_in_backward(torch.optim.Adam(run.parameters(), amsgrad=True))
    first, second = (torch.optim.SGD(run.parameters(), lr=0.1) for _ in range(2))
    with update_in_backward(first):
        update_in_backward(first)
        with pytest.raises(ValueError, match=r"remove\(\)"):
            update_in_backward(second)
    update_in_backward(second)
