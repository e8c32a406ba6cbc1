"""From a configuration to data, model, optimizer and sparsifier."""

import math
import re
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from gossamer import budgets, data, models
from gossamer.data import Dataset
from gossamer.machine import memory_bytes
from gossamer.nn import sparsify, to_sparse
from gossamer.nn.counterparts import SPARSE_LAYERS, can_be_sparse, parts
from gossamer.pruning import find_pruning_method
from gossamer.sparsifier import Sparsifier
from gossamer.training.config import Config
from gossamer.training.first_cut import prune_fresh
from gossamer.training.method import Method
from gossamer.training.methods import find_method
from gossamer.training.own_model import own_architecture, own_model
from gossamer.training.plan import Plan
from gossamer.weights import prunable

_MLP = re.compile(r"mlp:(\d+)(?:x(\d+)|((?:-\d+)*))$")
_MOST_LAYERS = 10_000
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
# A value, its gradient, its momentum and its place: four bytes each.
_BYTES_PER_WEIGHT = 16


class Setup(NamedTuple):
    """What a training run works on.

    Attributes:
        method: the row of `gossamer methods`.
        storage: dense, masked or truly sparse.
        model: to be trained.
        optimizer: holds its parameters.
        sparsifier: None for dense.
        num_steps: optimizer steps in all.
        steps_per_epoch: optimizer steps in one pass over the data.
        num_weights: weights of the dense network that could be sparse; no biases, a shared weight once.
        pruning_seconds: what it took to prune the fresh network, where the method does.
    """

    method: Method
    storage: str
    model: nn.Module
    optimizer: Optimizer
    sparsifier: Sparsifier | None
    num_steps: int
    steps_per_epoch: int
    num_weights: int
    pruning_seconds: float = 0.0


def load_data(config: Config) -> Dataset:
    """Load the data of a configuration; errors as `data.load`."""
    return data.load(
        config.data,
        data_dir=Path(config.data_dir) if config.data_dir else None,
        train_size=config.train_size or None,
        test_size=config.test_size or None,
    )


def set_up(config: Config, dataset: Dataset, *, rounds: int = 0) -> Setup:
    """Make what a run works on; the same configuration makes the same, bit for bit.

    Draws from torch's global generator where the user's own model function does.

    Args:
        config: of the run.
        dataset: from `load_data(config)`.
        rounds: how often a method that prunes the fresh network scores and cuts; 0: the method's own.

    Raises:
        ValueError: unknown method or model, or a combination that cannot be.
    """
    method = find_method(config.method)
    generator = torch.Generator().manual_seed(config.seed)
    budget = _budget(config, method)
    model, storage = _model(config, dataset, method, budget, generator)
    num_weights = sum(math.prod(weight.shape) for weight in prunable(model))
    start = time.perf_counter()
    if method.prune_first:
        model, storage = _first_cut(config, dataset, method, model, storage, generator, rounds)
    pruning_seconds = time.perf_counter() - start if method.prune_first else 0.0
    optimizer = make_optimizer(config, model)
    steps_per_epoch, num_steps = count_steps(config, dataset)
    plan = Plan(
        sparsity=config.sparsity,
        start_sparsity=None if storage == "truly sparse" else config.sparsity,
        budget=budget,
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        drop_fraction=config.drop_fraction,
        update_every=config.update_every or method.update_every(steps_per_epoch, num_steps),
        update_until=config.update_until,
        generator=generator,
    )
    sparsifier = method.make(model, optimizer, plan)
    return Setup(
        method, storage, model, optimizer, sparsifier, num_steps, steps_per_epoch, num_weights, pruning_seconds
    )


def count_steps(config: Config, dataset: Dataset) -> tuple[int, int]:
    """Return the optimizer steps of one pass over the data, and those of the whole run."""
    steps_per_epoch = -(-len(dataset.train_inputs) // config.batch_size)
    return steps_per_epoch, steps_per_epoch * config.epochs


def build_model(name: str, dataset: Dataset | None, *, seed: int) -> nn.Module:
    """Make the dense network that a checkpoint fills.

    Args:
        name: mlp:1000x3 with a data set, or package.module:function.
        dataset: what the model is for; None where its function needs no sizes.
        seed: of the first values, which the checkpoint replaces.

    Raises:
        ValueError: no such model, or an mlp without data.
        TypeError: the user's function returned no module.
    """
    if not _MLP.match(name):
        return own_architecture(name, dataset)
    if dataset is None:
        raise ValueError(f"{name} needs the sizes of its data; give --data")
    sizes = [dataset.num_features, *_hidden_sizes(name), dataset.num_classes]
    return models.mlp(sizes, generator=torch.Generator().manual_seed(seed))


def _model(
    config: Config, dataset: Dataset, method: Method, budget: budgets.Budget, generator: torch.Generator
) -> tuple[nn.Module, str]:
    """The network as it starts, and how its weights are stored."""
    own = None if _MLP.match(config.model) else _own(config, dataset, method)
    storage = _storage(config, method, own)
    born_sparse = storage == "truly sparse" and not method.from_dense
    if own is None:
        model = _mlp(config, dataset, method, budget if born_sparse else None, generator)
    else:
        model = sparsify(own, sparsity=config.sparsity, budget=budget, generator=generator) if born_sparse else own
    if method.prune_first:
        return model, storage
    if storage == "truly sparse" and method.from_dense:
        # Every weight exists at first, and is stored as it will be when most of them are gone.
        model = sparsify(model, sparsity=0.0, budget=budgets.uniform, generator=generator, rescale=False)
    return model, _found(model, storage)


def _first_cut(
    config: Config,
    dataset: Dataset,
    method: Method,
    model: nn.Module,
    storage: str,
    generator: torch.Generator,
    rounds: int,
) -> tuple[nn.Module, str]:
    """The dense network without what its method prunes before the first step, and how its weights are stored."""
    by = find_pruning_method(method.prune_first)
    pruned = prune_fresh(
        model,
        by,
        dataset,
        sparsity=config.sparsity,
        budget=method.budget,
        rounds=rounds or by.rounds,
        batch_size=config.batch_size,
        generator=generator,
    )
    layers = [module for module in pruned.modules() if can_be_sparse(module) and not isinstance(module, nn.Embedding)]
    weights = [layer.get_parameter(own) for layer in layers for own in parts(layer)]
    if storage == "truly sparse" and any(not bool(weight.all()) for weight in weights):
        pruned = to_sparse(pruned)
    return pruned, _found(pruned, storage)


def _found(model: nn.Module, storage: str) -> str:
    """The storage that is there: at a sparsity of zero, or near it, no layer leaves anything out."""
    if any(isinstance(module, SPARSE_LAYERS) for module in model.modules()):
        return storage
    return "dense" if storage == "dense" else "masked"


def _own(config: Config, dataset: Dataset, method: Method) -> nn.Module:
    model = own_model(config.model, dataset)
    if method.all_relu or config.dropout:
        what = "--dropout" if config.dropout else f"the All-ReLU of {method.name}"
        raise ValueError(f"{what} has no effect on {config.model}; put it into that function, or use an mlp model")
    return model


def _mlp(
    config: Config, dataset: Dataset, method: Method, budget: budgets.Budget | None, generator: torch.Generator
) -> nn.Module:
    """An MLP, truly sparse if there is a budget."""
    sizes = [dataset.num_features, *_hidden_sizes(config.model), dataset.num_classes]
    sparsity, budget = (config.sparsity, budget) if budget else (0.0, budgets.uniform)
    _check_memory(f"{config.model} as {method.name}", sizes, sparsity, budget)
    alpha = config.alpha if method.all_relu else None
    return models.mlp(sizes, generator=generator, sparsity=sparsity, budget=budget, dropout=config.dropout, alpha=alpha)


def _hidden_sizes(model: str) -> list[int]:
    match = _MLP.match(model)
    first, depth, rest = match.groups() if match else ("0", None, None)
    sizes = [int(first)] * min(int(depth), _MOST_LAYERS + 1) if depth else [int(first)]
    sizes += [int(size) for size in (rest or "").split("-")[1:]]
    if not 1 <= len(sizes) <= _MOST_LAYERS or min(sizes) < 1:
        raise ValueError(f"the model {model} has a size of zero, or more than {_MOST_LAYERS} layers; give mlp:1000x3")
    return sizes


def _check_memory(what: str, sizes: list[int], sparsity: float, budget: budgets.Budget) -> None:
    """Raise if the smallest conceivable training is beyond this machine: the system would kill it, unheard."""
    here, needed = memory_bytes(), _BYTES_PER_WEIGHT * sum(sizes)
    if needed <= here:
        shapes = {str(depth): (outputs, inputs) for depth, (inputs, outputs) in enumerate(pairwise(sizes))}
        needed += _BYTES_PER_WEIGHT * sum(budget(shapes, sparsity=sparsity).values())
    if needed > here:
        raise ValueError(
            f"{what} takes {needed / 1e9:,.0f} GB or more to train, this machine has {here / 1e9:,.0f} GB; give fewer "
            "neurons, or truly sparse storage and a higher sparsity"
        )


def _storage(config: Config, method: Method, own: nn.Module | None) -> str:
    if method.name == "dense":
        return "dense"
    convolutions = [] if own is None else [module for module in own.modules() if isinstance(module, _CONVOLUTIONS)]
    if config.storage == "sparse" and method.masked_only:
        raise ValueError(
            f"{method.name} can only be masked, as its weights come back as a dense network has them; leave out "
            "--storage sparse"
        )
    if config.storage == "sparse" and (other := [module for module in convolutions if not can_be_sparse(module)]):
        raise ValueError(f"a {type(other[0]).__name__} like this can only be masked; leave out --storage sparse")
    # Which of the two trains convolutions faster depends on their shapes: truly sparse ones only where asked for.
    truly = method.truly_sparse and not convolutions if config.storage == "auto" else config.storage == "sparse"
    return "truly sparse" if truly else "masked"


def _budget(config: Config, method: Method) -> budgets.Budget:
    if not config.epsilon:
        return method.budget
    if method.from_dense:
        raise ValueError(f"--epsilon has no place in {method.name}, which starts dense; give --sparsity")

    def by_epsilon(shapes: dict[str, tuple[int, ...]], *, sparsity: float) -> dict[str, int]:
        return budgets.er_epsilon(shapes, epsilon=config.epsilon)

    return by_epsilon


def make_optimizer(config: Config, model: nn.Module) -> Optimizer:
    """Make the optimizer of a configuration for a model's parameters."""
    if config.optimizer == "adamw":
        return AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    return SGD(
        model.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=True,  # one pass over values, gradients and momentum: beside a sparse step the others' several tell
    )
