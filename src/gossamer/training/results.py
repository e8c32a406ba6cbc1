"""What a network reached and what is kept of it: evaluation, the model that is saved, its measures."""

import copy
import statistics
import time
from collections import Counter
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gossamer.data import Dataset, batches
from gossamer.nn.counterparts import can_be_sparse, parts, sparse_of
from gossamer.recipes.seeded_values import finish_seeded_
from gossamer.statistics import has_running_statistics, reestimate_
from gossamer.training.build import Setup
from gossamer.weights import MaskedWeight

# Their plain average is steadier than the exponential one of training, which counts some ten.
_RENEWING_BATCHES = 50


def evaluate(model: nn.Module, dataset: Dataset, *, batch_size: int = 1000) -> tuple[float, float]:
    """Return the mean loss and the accuracy, in [0, 1], over the test rows; the model's mode is restored."""
    was_training = model.training
    model.eval()
    loss_sum, correct, total = 0.0, 0, len(dataset.test_inputs)
    with torch.no_grad():
        for start in range(0, total, batch_size):
            outputs = model(dataset.test_inputs[start : start + batch_size])
            targets = dataset.test_targets[start : start + batch_size]
            loss_sum += float(cross_entropy(outputs, targets, reduction="sum"))
            correct += int((outputs.argmax(1) == targets).sum())
    model.train(was_training)
    return loss_sum / total, correct / total


def renew_statistics_(model: nn.Module, dataset: Dataset, *, batch_size: int, seed: int) -> None:
    """Take the running statistics of batch normalisation anew over some training rows; without any, do nothing.

    Where weights were exchanged they are, for some tens of steps, those of another network, and accuracy may fall to
    chance: a filter that was constant has a variance near zero, and what first comes through it is divided by that.

    Args:
        model: between two steps; its mode is restored.
        dataset: its training rows are looked at.
        batch_size: as in training.
        seed: of the rows that are drawn.
    """
    if has_running_statistics(model):
        order = torch.Generator().manual_seed(seed)
        rows = batches(len(dataset.train_inputs), batch_size=batch_size, generator=order)
        reestimate_(model, (dataset.train_inputs[some] for some in islice(rows, _RENEWING_BATCHES)))


def masks_of(setup: Setup) -> dict[int, Tensor]:
    """Return the masks that leave something out, by the id of the parameter that they mask."""
    weights = setup.sparsifier.weights if setup.sparsifier else []
    return {
        id(weight.parameter): weight.mask
        for weight in weights
        if isinstance(weight, MaskedWeight) and not bool(weight.mask.all())
    }


def latents_of(setup: Setup) -> list[Tensor]:
    """Return what the sparsifier keeps of absent weights beside the model."""
    weights = setup.sparsifier.weights if setup.sparsifier else []
    return [weight.latent for weight in weights if isinstance(weight, MaskedWeight) and weight.latent is not None]


def memories_of(setup: Setup) -> list[Tensor]:
    """Return what the updates remember from one step to the next."""
    states = setup.sparsifier.state_dict()["updates"].values() if setup.sparsifier else []
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]


def kept_model(setup: Setup) -> nn.Module:
    """Return the trained model as it is saved: layers that were masked become truly sparse if they can.

    What a mask lets exist is kept, zeros among it too, so that the counts stay what they were. A layer whose weight
    others share stays dense with zeros. Seeded first values become plain weights, of which none is left out.
    """
    finish_seeded_(setup.model)
    masks, modules = masks_of(setup), list(setup.model.modules())
    owners = Counter(id(own) for module in modules for own in module._parameters.values() if own is not None)
    memo = {}
    for layer in modules:
        if can_be_sparse(layer):
            weights = {own: layer.get_parameter(own) for own in parts(layer)}
            found = {own: masks[id(weight)] for own, weight in weights.items() if id(weight) in masks}
            found = {own: mask for own, mask in found.items() if not bool(weights[own].detach()[~mask].any())}
            if found and all(owners[id(weight)] == 1 for weight in weights.values()):
                whole = {own: torch.ones_like(weight, dtype=torch.bool) for own, weight in weights.items()}
                memo[id(layer)] = sparse_of(layer, whole | found)
    model: nn.Module = copy.deepcopy(setup.model, memo) if memo else setup.model
    return model


def inference_ms(model: nn.Module, dataset: Dataset, batch_size: int) -> float:
    """Return the median time of a forward pass of one batch of test rows, in milliseconds."""
    model.eval()
    inputs = dataset.test_inputs[:batch_size]
    times = []
    with torch.inference_mode():
        for _ in range(25):
            start = time.perf_counter()
            model(inputs)
            times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[5:])
