"""The whole suite: every check, over storages and optimizers."""

from collections.abc import Callable, Sequence

from gossamer.testing.agreement import check_storages
from gossamer.testing.failures import check_failures
from gossamer.testing.letting_go import check_finalize
from gossamer.testing.moves import check_updates
from gossamer.testing.networks import CONVOLUTIONAL, LINEAR, Network
from gossamer.testing.optimizers import OPTIMIZERS, MakeOptimizer
from gossamer.testing.presence import check_counts, check_steps, check_zeros
from gossamer.testing.ranks import check_ranks
from gossamer.testing.reruns import check_resume, check_seed, check_skipped_steps
from gossamer.testing.trial import STORAGES, Promise, Start, Trial

Check = Callable[[Trial], None]

CHECKS: tuple[Check, ...] = (
    check_counts,
    check_steps,
    check_zeros,
    check_updates,
    check_resume,
    check_seed,
    check_skipped_steps,
    check_failures,
    check_finalize,
    check_storages,
    check_ranks,
)


def check_recipe(
    start: Start,
    *,
    storage: str | None = None,
    optimizer: MakeOptimizer | None = None,
    promise: Promise | None = None,
    networks: Sequence[Network] = (LINEAR, CONVOLUTIONAL),
    checks: Sequence[Check] = CHECKS,
) -> None:
    """Put a recipe through the checks that all recipes of Gossamer pass.

    Args:
        start: (model, optimizer, *, generator, sparsity) -> sparsifier, with updates within the first 14 steps;
            sparsity is None where the model is truly sparse. `functools.partial` fills in what else a recipe takes.
        storage: "masked" or "truly sparse"; None: both.
        optimizer: model -> optimizer; None: SGD with momentum, AdamW, RMSprop, Adagrad and one that no recipe knows.
        promise: what the recipe says of itself; None: each weight keeps its count, and grown weights start at zero.
        networks: what is trained.
        checks: which of `CHECKS` are made. `check_ranks` starts two processes, so a script needs
            `if __name__ == "__main__":` around the call, and `start` must be defined at the top of a module.

    Raises:
        ConformanceError: the recipe breaks a rule; the message names recipe, storage, optimizer, step and weight.
        ValueError: storage is neither of the two.

    Example:
        >>> import functools
        >>> from gossamer.recipes import rigl
        >>> from gossamer.testing.optimizers import adamw
        >>> start = functools.partial(rigl, update_every=3, stop_step=12)
        >>> check_recipe(start, storage="masked", optimizer=adamw, networks=[LINEAR], checks=[check_counts])
    """
    trials = [
        Trial(start=start, storage=held, optimizer=make, promise=promise or Promise(), network=network)
        for network in networks
        for held in (STORAGES if storage is None else (storage,))
        for make in (OPTIMIZERS if optimizer is None else (optimizer,))
    ]
    for check in checks:
        if check is check_ranks:
            # Two processes for all of them.
            check_ranks(*trials)
            continue
        for trial in trials:
            check(trial)
