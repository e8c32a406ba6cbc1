"""An update that fails on a later weight leaves nothing half-changed; `testing.check_failures` tries every recipe."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import Sparsifier, budgets, growth, testing
from gossamer.neurons import find_hidden
from gossamer.recipes.start import sparse_start
from gossamer.testing.optimizers import adamw, sgd
from gossamer.testing.run import Run, backward, begin, everything, same_state, train_step
from gossamer.updates import Explored, GrowWeights, RemoveDeadNeurons
from gossamer.weights import MaskedWeight, Weight

from ..recipes.cases import find, trial

both = pytest.mark.parametrize("storage", testing.STORAGES)
optimizers = pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])


def trained(name: str, storage: str, optimizer: str, steps: int = 6) -> Run:
    """Return a run of a recipe just before the update that is due after the last of these steps."""
    run = begin(trial(find(name), storage, optimizer))
    for step in range(1, steps):
        train_step(run, step)
    backward(run, steps)
    run.optimizer.step()
    return run


def gradients(run: Run) -> list[Tensor]:
    return [weight.gradient().clone() for weight in run.sparsifier.weights]


def check_refused(run: Run, message: str) -> None:
    before, slopes = everything(run), gradients(run)
    with pytest.raises((ValueError, RuntimeError), match=message):
        run.sparsifier.step()

    same_state(run, before, "all is as it was", run.sparsifier.num_steps)
    assert all(torch.equal(one, other) for one, other in zip(slopes, gradients(run), strict=True))


PAIRS = [
    *((name, storage) for name in ("set_", "rigl", "gse", "mest", "granet") for storage in testing.STORAGES),
    *((name, storage) for name in ("deep_r", "dsr", "nm_rigl", "srigl") for storage in testing.STORAGES),
    *((name, storage) for name in ("truly_sparse", "gmp") for storage in testing.STORAGES),
    *((name, "masked") for name in ("snfs", "dns", "top_kast", "dropback", "swat")),
]
# Where step 6 is not that of an update; gmp starts at a sparsity of 0, which a sparse network has passed.
DUE = {"granet": 5, "gmp": 11, "dns": 5}


@pytest.mark.parametrize(("name", "storage"), PAIRS)
@optimizers
def test_a_nan_in_the_last_weight_changes_none(name: str, storage: str, optimizer: str) -> None:
    run = trained(name, storage, optimizer, DUE.get(name, 6))
    last = run.sparsifier.weights[-1]
    sound = last.values().clone()
    last.set_values_(torch.full_like(sound, torch.nan))
    check_refused(run, "NaN")
    last.set_values_(sound)
    run.sparsifier.step()

    twin = trained(name, storage, optimizer, DUE.get(name, 6))
    twin.sparsifier.step()
    same_state(run, everything(twin), "put right, the step is that which never failed", run.sparsifier.num_steps)


def fail(*args: Any, **kwargs: Any) -> None:
    raise RuntimeError("told to fail")


@both
@optimizers
@pytest.mark.parametrize("name", ["rigl", "gse", "nm_rigl", "srigl"])
def test_a_nan_gradient_in_the_last_weight_changes_none(name: str, storage: str, optimizer: str) -> None:
    run = trained(name, storage, optimizer)
    last = run.sparsifier.weights[-1]
    if isinstance(last, MaskedWeight):
        last._dense_gradient = torch.full(last.shape, torch.nan)
    last._seen = [(torch.full_like(inputs, torch.nan), grads) for inputs, grads in last._seen]

    check_refused(run, "NaN")


@optimizers
@pytest.mark.parametrize(("name", "storage"), [("rigl", "masked"), ("snfs", "masked"), ("gse", "truly sparse")])
def test_a_last_weight_without_gradient_changes_none(name: str, storage: str, optimizer: str) -> None:
    run = trained(name, storage, optimizer)
    run.sparsifier.weights[-1].unwatch()

    check_refused(run, "was seen since the last step")


@both
@optimizers
def test_a_full_group_in_the_last_weight_changes_none(storage: str, optimizer: str) -> None:
    run = trained("nm_rigl", storage, optimizer)
    # What these rows lose they cannot grow again.
    last = run.sparsifier.weights[-1]
    last.closed_rows[: last.shape[0] // 2] = True

    check_refused(run, "cannot grow")


@both
def test_a_weight_that_left_the_optimizer_changes_none(storage: str) -> None:
    run = trained("deep_r", storage, "SGD")
    group = run.optimizer.param_groups[0]
    held, last, before = group["params"], run.sparsifier.weights[-1].parameter, everything(run)
    group["params"] = [one for one in held if one is not last]
    with pytest.raises(ValueError, match=r"the optimizer does not hold \d\.\w+ any more"):
        run.sparsifier.step()
    group["params"] = held

    same_state(run, before, "all is as it was", run.sparsifier.num_steps)


def too_many(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Ask for more than is absent in the last layer."""
    absent = weight.shape[0] * weight.shape[1] - kept.numel()
    count = absent + 1 if weight.name.startswith("4") else count
    return growth.random(kept, weight.closed_rows, weight.closed_columns, count=count, generator=generator)


def start_growing(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    grow = GrowWeights(grow=too_many, grow_fraction=0.2, start_step=2, stop_step=9, update_every=2)
    weights = sparse_start(model, optimizer, budget=budgets.uniform, **rest)
    return Sparsifier(weights, optimizer, updates=[Explored(every=2), grow], generator=rest["generator"])


@both
@pytest.mark.parametrize("make", [sgd, adamw])
def test_more_to_grow_than_is_absent_changes_none(storage: str, make: Callable[[nn.Module], Optimizer]) -> None:
    run = begin(testing.Trial(start=start_growing, storage=storage, optimizer=make))
    train_step(run, 1)
    backward(run, 2)
    run.optimizer.step()

    check_refused(run, "cannot draw 30 different entries out of 29")


def start_removing(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    weights = sparse_start(model, optimizer, budget=budgets.uniform, **rest)
    remove = RemoveDeadNeurons(hidden=find_hidden(model, weights), start_step=2, stop_step=2, update_every=1)
    return Sparsifier(weights, optimizer, updates=[remove], generator=rest["generator"])


@both
def test_layers_that_became_smaller_get_their_size_back(storage: str) -> None:
    run = begin(testing.Trial(start=start_removing, storage=storage, optimizer=adamw))
    hidden = run.sparsifier.weights[0]
    rows = hidden.indices() // hidden.shape[1]
    none = rows[:0]
    hidden.change_((rows > 1).nonzero().flatten(), none, none.float(), run.optimizer)
    train_step(run, 1)
    backward(run, 2)
    run.optimizer.step()
    run.sparsifier._check_ranks = fail  # type: ignore[method-assign]
    sizes = [str(module) for module in run.model.modules()]
    check_refused(run, "told to fail")
    assert [str(module) for module in run.model.modules()] == sizes
    del run.sparsifier._check_ranks
    run.sparsifier.step()

    assert [str(module) for module in run.model.modules()] != sizes


def test_a_record_that_is_kept_in_bits_is_taken_back() -> None:
    run = begin(trial(find("set_"), "masked"))
    explored = Explored(every=1)
    explored.begin(list(run.sparsifier.weights))
    run.sparsifier._updates.append(explored)
    for step in range(1, 4):
        backward(run, step)
        run.optimizer.step()
        if step < 3:
            run.sparsifier.step()
    before = explored.num_explored()
    run.sparsifier._check_ranks = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="told to fail"):
        run.sparsifier.step()
    assert explored.num_explored() == before
    del run.sparsifier._check_ranks
    run.sparsifier.step()

    assert explored.num_explored() > before


def test_an_interrupt_takes_back_what_was_changed_too() -> None:
    run = trained("set_", "truly sparse", "AdamW")
    before = everything(run)

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    run.sparsifier.weights[-1].change_ = interrupt  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        run.sparsifier.step()

    same_state(run, before, "all is as it was", run.sparsifier.num_steps)


def test_topologies_that_are_too_large_to_hold_twice_stay_exchanged_and_the_error_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = trained("set_", "truly sparse", "SGD")
    monkeypatch.setattr("gossamer.sparsifier.MOST_WEIGHTS", 1)
    first, *_, last = run.sparsifier.weights
    before, steps, draws = first.indices(), run.sparsifier.num_steps, run.sparsifier.state_dict()["generator"]
    last.parameter.data[0] = float("nan")

    with pytest.raises(ValueError, match="NaN") as caught:
        run.sparsifier.step()

    assert any("go on from the last checkpoint" in note for note in caught.value.__notes__)
    assert not torch.equal(first.indices(), before)
    assert run.sparsifier.num_steps == steps
    assert torch.equal(run.sparsifier.state_dict()["generator"], draws)
