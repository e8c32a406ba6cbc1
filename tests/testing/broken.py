"""Recipes each of which breaks one rule: the suite must catch them, and say where."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import Sparsifier, budgets, criteria, growth, recipes, schedules
from gossamer.recipes.start import sparse_start
from gossamer.updates import Change, Exchange
from gossamer.updates.exchange import Grow
from gossamer.weights import MaskedWeight, Weight

VICTIM = 1


def grow_at_random(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return growth.random(kept, weight.closed_rows, weight.closed_columns, count=count, generator=generator)


def exchange(grow: Grow = grow_at_random) -> Exchange:
    return Exchange(
        drop=criteria.magnitude, grow=grow, drop_fraction=schedules.constant(0.3), update_every=3, stop_step=12
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spoiled:
    """An exchange, and after it the deed that breaks a rule, on the second weight alone."""

    deed: Callable[[Weight, Optimizer], None]
    rule: Exchange = dataclasses.field(default_factory=exchange)
    with_optimizer: bool = True

    @property
    def uses_gradient(self) -> bool:
        return False

    def due(self, step: int) -> bool:
        return self.rule.due(step)

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        is_victim = weight is weights[VICTIM]
        held = cast("Optimizer", None) if is_victim and not self.with_optimizer else optimizer
        change = self.rule.apply(weight, weights, step, optimizer=held, generator=generator)
        if is_victim:
            self.deed(weight, optimizer)
        return change


def nothing(weight: Weight, optimizer: Optimizer) -> None:
    pass


def start_with(update: Any, model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    weights = sparse_start(model, optimizer, budget=budgets.uniform, **rest)
    return Sparsifier(weights, optimizer, updates=[update], generator=rest["generator"])


def sound(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    return start_with(exchange(), model, optimizer, **rest)


def forgets_to_clear_state(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    return start_with(Spoiled(deed=nothing, with_optimizer=False), model, optimizer, **rest)


def brings_a_weight_back(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    def deed(weight: Weight, optimizer: Optimizer) -> None:
        if isinstance(weight, MaskedWeight):
            weight.parameter.data.view(-1)[int((~weight.mask).flatten().nonzero()[0])] = 0.5

    return start_with(Spoiled(deed=deed), model, optimizer, **rest)


def lets_the_optimizer_bring_weights_back(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    sparsifier = sound(model, optimizer, **rest)

    def hook(*given: Any) -> None:
        for weight in sparsifier.weights:
            if isinstance(weight, MaskedWeight):
                # What this optimizer does to all weights, and the hook of the sparsifier has undone.
                weight.parameter.data[~weight.mask] += 0.001

    optimizer.register_step_post_hook(hook)
    return sparsifier


def is_off_by_one(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    def deed(weight: Weight, optimizer: Optimizer) -> None:
        none = weight.indices()[:0]
        weight.change_(torch.arange(weight.num_active - 1), none, none.float(), optimizer)

    return start_with(Spoiled(deed=deed), model, optimizer, **rest)


def changes_a_survivor(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    def deed(weight: Weight, optimizer: Optimizer) -> None:
        largest = weight.parameter.detach().abs().argmax()
        weight.parameter.data.view(-1)[largest] *= 1 + 1e-6

    return start_with(Spoiled(deed=deed), model, optimizer, **rest)


def starts_grown_weights_elsewhere(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    update = dataclasses.replace(exchange(), first_values=lambda weight, indices, grown, generator: 0.1 + 0.0 * grown)
    return start_with(update, model, optimizer, **rest)


def forgets_its_generator(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    own = torch.Generator().manual_seed(0)

    def grow(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
        return grow_at_random(weight, kept, count, own)

    return start_with(exchange(grow), model, optimizer, **rest)


def draws_from_the_global_generator(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    def grow(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
        return grow_at_random(weight, kept, count, torch.default_generator)

    return start_with(exchange(grow), model, optimizer, **rest)


def asks_for_the_storage(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    def grow(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
        if isinstance(weight, MaskedWeight):
            return grow_at_random(weight, kept, count, generator)
        absent = torch.ones(weight.shape[0] * weight.shape[1], dtype=torch.bool).index_fill_(0, kept, False)
        return absent.nonzero().flatten()[:count]

    return start_with(exchange(grow), model, optimizer, **rest)


def _grow_by_rank(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    seed = dist.get_rank() if dist.is_initialized() else 0
    return grow_at_random(weight, kept, count, torch.Generator().manual_seed(seed))


def differs_between_ranks(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    return start_with(exchange(_grow_by_rank), model, optimizer, **rest)


class Counting:
    """A sparsifier of somebody else's, which counts calls where it should count steps."""

    def __init__(self, inner: Sparsifier) -> None:
        self.inner = inner
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def num_steps(self) -> int:
        return self.calls

    def step(self) -> list[Change]:
        self.calls += 1
        self.inner.num_steps = self.calls - 1
        return self.inner.step()


def counts_skipped_steps(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Any:
    return Counting(sound(model, optimizer, **rest))


def leaves_a_hook(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    optimizer.register_step_post_hook(lambda *given: None)
    return sound(model, optimizer, **rest)


def changes_between_updates(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    sparsifier = sound(model, optimizer, **rest)

    def hook(*given: Any) -> None:
        weight = sparsifier.weights[VICTIM]
        exchange().apply(weight, [weight], 3, optimizer=optimizer, generator=rest["generator"])

    optimizer.register_step_post_hook(hook)
    return sparsifier


def static(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    return recipes.static(model, optimizer, **rest)


class Counted:
    """An update that remembers something, and writes to it where it should replace it."""

    uses_gradient = False

    def __init__(self) -> None:
        self.calls = torch.zeros(())

    def due(self, step: int) -> bool:
        return exchange().due(step)

    def begin(self, weights: list[Weight]) -> None:
        pass

    def apply(self, weight: Weight, weights: list[Weight], step: int, **rest: Any) -> Change:
        self.calls += 1
        return exchange().apply(weight, weights, step, **rest)

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.calls = state["calls"].clone()


def counts_updates(model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    return start_with(Counted(), model, optimizer, **rest)
