"""Prune a network before its first step, by what it does on a few rows of the training data."""

import glob

import torch
from torch import Tensor, nn

from gossamer.budgets import Budget
from gossamer.data import Dataset
from gossamer.pruning import PruningMethod, prune
from gossamer.weights import prunable

_ROWS_PER_CLASS = 10


def prune_fresh(
    model: nn.Module,
    method: PruningMethod,
    dataset: Dataset,
    *,
    sparsity: float,
    budget: Budget,
    rounds: int,
    batch_size: int,
    generator: torch.Generator,
) -> nn.Module:
    """Return a copy of a fresh network without the weights that a pruning method finds least useful.

    Judged by the loss of the method on ten training rows of each class, all of them where there are fewer, drawn with
    the generator. What stays keeps its first values: as in the papers, nothing is rescaled.

    Args:
        model: dense and untrained; it is left as it is.
        method: criterion and pattern.
        dataset: its training rows are drawn from.
        sparsity: fraction to remove over all prunable weights together, in [0, 1).
        budget: splits what is kept.
        rounds: how often to score and cut.
        batch_size: rows that are judged at once.
        generator: source of randomness, on the CPU.

    Raises:
        ValueError: a weight cannot be judged, such as one that the loss does not depend on.
    """
    rows = draw_rows(dataset.train_targets, num_classes=dataset.num_classes, generator=generator)
    return prune(
        model,
        sparsity=sparsity,
        criterion=method.rule,
        budget=budget,
        pattern=method.pattern,
        data=[(dataset.train_inputs[part], dataset.train_targets[part]) for part in rows.split(batch_size)],
        loss_fn=method.loss,
        rounds=rounds,
        # What is trained sparse is what is pruned: no frozen weight, no embedding.
        include=[glob.escape(weight.name) for weight in prunable(model)],
        generator=generator,
        reestimate=False,
        returning=method.returning,
    )


def draw_rows(targets: Tensor, *, num_classes: int, generator: torch.Generator) -> Tensor:
    """Return the numbers of ten rows of each class in a random order, of all rows where a class has fewer.

    Args:
        targets: class of each row, shape [rows].
        num_classes: how many there are.
        generator: source of randomness, on the CPU.

    Example:
        >>> draw_rows(torch.tensor([0] * 30 + [1] * 4), num_classes=2, generator=torch.Generator()).numel()
        14
    """
    order = torch.randperm(len(targets), generator=generator, device="cpu")
    shuffled = targets[order]
    taken = [order[shuffled == label][:_ROWS_PER_CLASS] for label in range(num_classes)]
    rows = torch.cat(taken)
    return rows[torch.randperm(len(rows), generator=generator, device="cpu")]
