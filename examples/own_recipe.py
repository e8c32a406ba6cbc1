"""Write a recipe of your own in forty lines and put it through the checks that every recipe of Gossamer passes.

Shows `gossamer.testing`: the recipe promises what it does, the checks hold it to that for masked and truly sparse
weights, and a broken promise is told with the step, the weight, what was expected and what was found.
"""

import functools

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import gossamer as gs
from gossamer import testing
from gossamer.recipes.start import sparse_start
from gossamer.testing.optimizers import adamw
from gossamer.weights import Weight


def grow_by_both(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Choose half of what grows by the dense gradient and the other half at random."""
    closed = weight.closed_rows, weight.closed_columns
    by_gradient = gs.growth.gradient(weight.gradient_tiles(), kept, *closed, count=count // 2)
    taken = torch.cat([kept, by_gradient]).sort().values
    at_random = gs.growth.random(taken, *closed, count=count - count // 2, generator=generator)
    return torch.cat([by_gradient, at_random]).sort().values


def half_and_half(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    update_every: int,
    stop_step: int,
    generator: torch.Generator,
    sparsity: float | None = None,
) -> gs.Sparsifier:
    """Train sparse from the start: drop small weights, grow half by the gradient, half at random."""
    update = gs.updates.Exchange(
        drop=gs.criteria.magnitude,
        grow=grow_by_both,
        drop_fraction=gs.schedules.cosine(0.3, 0.0, stop_step),
        update_every=update_every,
        stop_step=stop_step,
        uses_gradient=True,
    )
    weights = sparse_start(model, optimizer, sparsity=sparsity, budget=gs.budgets.erk, generator=generator)
    return gs.Sparsifier(weights, optimizer, updates=[update], generator=generator)


def main() -> None:
    start = functools.partial(half_and_half, update_every=3, stop_step=12)
    promise = testing.Promise(due=(3, 6, 9))
    for check in testing.CHECKS:
        # This one starts two processes, which takes seconds.
        if check is not testing.check_ranks:
            testing.check_recipe(start, promise=promise, optimizer=adamw, networks=[testing.LINEAR], checks=[check])
            print(f"{check.__name__:<20} kept")
    try:
        testing.check_steps(testing.Trial(start=start, promise=testing.Promise(due=(3, 6))))
    except testing.ConformanceError as error:
        print(f"a promise that is broken: {error}")


if __name__ == "__main__":
    main()
