"""Updates that act on all weights, and those that remember something: saved, loaded and told apart."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW, Optimizer

from gossamer import Sparsifier, prunable, recipes
from gossamer.updates import Change, JointUpdate, Remembers
from gossamer.weights import Weight

from .network import SPARSITY, STORAGES, backward, frozen, network, rigl_of, seeded, topology_of

both = pytest.mark.parametrize("storage", STORAGES)


def dsr_of(model: Any, optimizer: Optimizer, storage: str) -> Sparsifier:
    return recipes.dsr(
        model, optimizer, update_every=1, stop_step=9, drop_fraction=0.2, sparsity=SPARSITY[storage], generator=seeded()
    )


def deep_r_of(model: Any, optimizer: Optimizer, storage: str) -> Sparsifier:
    return recipes.deep_r(
        model, optimizer, strength=0.1, temperature=0.1, stop_step=9, sparsity=SPARSITY[storage], generator=seeded()
    )


def begun(start: Callable[..., Sparsifier], storage: str) -> tuple[Any, Optimizer, Sparsifier]:
    model = network(storage)
    optimizer = SGD(model.parameters(), lr=0.1)
    return model, optimizer, start(model, optimizer, storage)


@both
@pytest.mark.parametrize(
    ("mine", "theirs", "text"),
    [
        (dsr_of, rigl_of, "remember something are none, here 0 Threshold; use the recipe that was saved"),
        (rigl_of, dsr_of, "remember something are 0 Threshold, here none"),
        (deep_r_of, dsr_of, "remember something are 0 Threshold, here 0 Rewire"),
    ],
)
def test_the_state_of_another_recipe_is_refused_with_nothing_changed(
    storage: str, mine: Callable[..., Sparsifier], theirs: Callable[..., Sparsifier], text: str
) -> None:
    sparsifier = begun(mine, storage)[2]
    before = frozen(sparsifier.state_dict())
    state = begun(theirs, storage)[2].state_dict()
    with pytest.raises(ValueError, match=text):
        sparsifier.load_state_dict(state)

    assert frozen(sparsifier.state_dict()) == before


@both
def test_a_state_from_before_updates_could_remember_is_loaded(storage: str) -> None:
    sparsifier = begun(rigl_of, storage)[2]
    state = {key: value for key, value in sparsifier.state_dict().items() if key != "updates"}
    sparsifier.load_state_dict(state | {"num_steps": 5})

    assert sparsifier.num_steps == 5


@both
@pytest.mark.parametrize("start", [dsr_of, deep_r_of])
def test_a_saved_memory_does_not_change_with_the_run(storage: str, start: Callable[..., Sparsifier]) -> None:
    model, optimizer, sparsifier = begun(start, storage)
    state = sparsifier.state_dict()
    before = frozen(state)
    for seed in range(3):
        optimizer.zero_grad()
        backward(model, seed=seed)
        optimizer.step()
        sparsifier.step()

    assert frozen(state) == before
    assert frozen(sparsifier.state_dict()["updates"]) != before["updates"]


class Watcher:
    """An update that looks at all weights and remembers how often; it refuses to begin where it is told to."""

    uses_gradient = False

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses, self.looks = refuses, 0

    def due(self, step: int) -> bool:
        return True

    def begin(self, weights: list[Weight]) -> None:
        if self.refuses:
            raise ValueError(f"not {weights[0].name}")

    def apply_all(
        self, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> list[Change]:
        self.looks += len(weights)
        return []

    def state_dict(self) -> dict[str, Any]:
        return {"looks": self.looks}

    def load_state_dict(self, state: Any) -> None:
        self.looks = state["looks"]


def test_a_class_of_ones_own_can_look_and_remember() -> None:
    one, other = Watcher(), Watcher()
    assert isinstance(one, JointUpdate)
    assert isinstance(one, Remembers)
    model = network("masked")
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = Sparsifier(prunable(model), optimizer, updates=[one, other], generator=seeded())
    backward(model)
    optimizer.step()

    assert sparsifier.step() == []
    state = sparsifier.state_dict()
    assert state["updates"] == {"0 Watcher": {"looks": 2}, "1 Watcher": {"looks": 2}}
    other.looks = 9
    sparsifier.load_state_dict(state)
    assert other.looks == 2


@both
def test_an_update_that_cannot_begin_leaves_model_and_optimizer_alone(storage: str) -> None:
    model = network(storage)
    optimizer = SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"not 0\.(weight|values)"):
        Sparsifier(prunable(model), optimizer, updates=[Watcher(refuses=True)], generator=seeded())

    assert not optimizer._optimizer_step_post_hooks
    assert not any(parameter._backward_hooks for parameter in model.parameters())


@both
@pytest.mark.parametrize("start", [dsr_of, deep_r_of])
def test_a_step_that_a_grad_scaler_skips_leaves_no_trace(storage: str, start: Callable[..., Sparsifier]) -> None:
    found = []
    for poisoned in (False, True):
        model = network(storage)
        optimizer = AdamW(model.parameters(), lr=0.01)
        sparsifier = start(model, optimizer, storage)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for factor in [float("inf"), 1.0] if poisoned else [1.0]:
            optimizer.zero_grad()
            inputs = torch.randn(8, 6, generator=seeded(1), dtype=torch.float64)
            scaler.scale(model(inputs).pow(2).mean() * factor).backward()
            scaler.step(optimizer)
            scaler.update()
            sparsifier.step()
        found.append((topology_of(sparsifier), frozen(sparsifier.state_dict()["updates"])))

    assert found[0] == found[1]
