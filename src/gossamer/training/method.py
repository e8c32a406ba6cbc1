"""What the command line knows of a method."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from gossamer.budgets import Budget, erk
from gossamer.sparsifier import Sparsifier
from gossamer.training.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of `gossamer methods`.

    Attributes:
        name: as given to --method.
        label: as people write it.
        summary: one line.
        paper: where it was published.
        truly_sparse: whether it trains on truly sparse weights unless told otherwise.
        masked_only: whether it has no truly sparse form, as its weights come back as a dense network has them.
        from_dense: whether the network starts dense and becomes sparse.
        prune_first: the row of `gossamer.pruning.PRUNING_METHODS` that prunes the fresh network; empty: none does.
        all_relu: whether its networks use All-ReLU.
        budget: how it splits what is kept unless told otherwise.
        update_every: (steps per epoch, steps in all) -> steps between two updates unless told otherwise.
        make: (model, optimizer, plan) -> sparsifier, or None where nothing is sparse.
    """

    name: str
    label: str
    summary: str
    paper: str
    truly_sparse: bool = True
    masked_only: bool = False
    from_dense: bool = False
    prune_first: str = ""
    all_relu: bool = False
    budget: Budget = erk
    update_every: Callable[[int, int], int] = lambda steps_per_epoch, num_steps: 100
    make: Callable[[nn.Module, Optimizer, Plan], Sparsifier | None]
