"""From a configuration to data, model, optimizer and sparsifier."""

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from gossamer import budgets, data, models
from gossamer.data import Dataset
from gossamer.nn import SparseLinear, sparsify
from gossamer.sparsifier import Sparsifier
from gossamer.training.config import Config
from gossamer.training.methods import Method, Plan, find_method

_MLP = re.compile(r"mlp:(\d+)(?:x(\d+)|((?:-\d+)*))$")
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*$")


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
        num_weights: weights of the dense network, biases not counted.
    """

    method: Method
    storage: str
    model: nn.Module
    optimizer: Optimizer
    sparsifier: Sparsifier | None
    num_steps: int
    steps_per_epoch: int
    num_weights: int


def load_data(config: Config) -> Dataset:
    """Load the data of a configuration; errors as `data.load`."""
    return data.load(
        config.data,
        data_dir=Path(config.data_dir) if config.data_dir else None,
        train_size=config.train_size or None,
        test_size=config.test_size or None,
    )


def set_up(config: Config, dataset: Dataset) -> Setup:
    """Make what a run works on; the same configuration makes the same, bit for bit.

    Draws from torch's global generator where the user's own model function does.

    Raises:
        ValueError: unknown method or model, or a combination that cannot be.
    """
    method = find_method(config.method)
    generator = torch.Generator().manual_seed(config.seed)
    budget = _budget(config, method)
    model, storage = _model(config, dataset, method, budget, generator)
    optimizer = _optimizer(config, model)
    steps_per_epoch = -(-len(dataset.train_inputs) // config.batch_size)
    num_steps = steps_per_epoch * config.epochs
    plan = Plan(
        sparsity=config.sparsity,
        start_sparsity=None if storage == "truly sparse" else config.sparsity,
        budget=budget,
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        drop_fraction=config.drop_fraction,
        update_every=config.update_every or method.update_every(steps_per_epoch),
        generator=generator,
    )
    sparsifier = method.make(model, optimizer, plan)
    return Setup(method, storage, model, optimizer, sparsifier, num_steps, steps_per_epoch, _num_weights(model))


_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _num_weights(model: nn.Module) -> int:
    total = 0
    for module in model.modules():
        if isinstance(module, SparseLinear):
            total += module.out_features * module.in_features
        elif isinstance(module, _WEIGHTED):
            total += module.weight.numel()
    return total


def _model(
    config: Config, dataset: Dataset, method: Method, budget: budgets.Budget, generator: torch.Generator
) -> tuple[nn.Module, str]:
    """The network as it starts, and how its weights are stored."""
    if match := _MLP.match(config.model):
        storage = _storage(config, method, has_convolutions=False)
        sizes = [dataset.num_features, *_hidden_sizes(match), dataset.num_classes]
        alpha = config.alpha if method.all_relu else None
        born_sparse = storage == "truly sparse" and not method.from_dense
        if born_sparse:
            return models.mlp(
                sizes,
                generator=generator,
                sparsity=config.sparsity,
                budget=budget,
                dropout=config.dropout,
                alpha=alpha,
            ), storage
        dense: nn.Module = models.mlp(sizes, generator=generator, dropout=config.dropout, alpha=alpha)
    else:
        dense = _users_model(config, dataset, method)
        storage = _storage(
            config, method, has_convolutions=any(isinstance(module, _WEIGHTED[1:]) for module in dense.modules())
        )
    if storage != "truly sparse":
        return dense, storage
    if method.from_dense:
        # Every weight exists at first, and is stored as it will be when most of them are gone.
        return sparsify(dense, sparsity=0.0, budget=budgets.uniform, generator=generator, rescale=False), storage
    return sparsify(dense, sparsity=config.sparsity, budget=budget, generator=generator), storage


def _hidden_sizes(match: re.Match[str]) -> list[int]:
    first, depth, rest = match.groups()
    return [int(first)] * int(depth) if depth else [int(first), *(int(size) for size in (rest or "").split("-")[1:])]


def _users_model(config: Config, dataset: Dataset, method: Method) -> nn.Module:
    if not _FUNCTION.match(config.model) or config.model.startswith("mlp:"):
        raise ValueError(
            f"unknown model {config.model!r}; give mlp:1000x3, mlp:300-100 or package.module:function, "
            "a function of (num_features, num_classes)"
        )
    if method.all_relu or config.dropout:
        what = "dropout" if config.dropout else f"the All-ReLU of {method.name}"
        raise ValueError(f"{what} has no effect on {config.model}; put it into that function, or use an mlp model")
    model = _function(config.model)(dataset.num_features, dataset.num_classes)
    if not isinstance(model, nn.Module):
        raise TypeError(f"{config.model} returned a {type(model).__name__}, not a torch.nn.Module")
    return model


def _function(text: str) -> Callable[[int, int], object]:
    path, name = text.split(":")
    # As `python -m` does: a module in the folder where the command is given can be named.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        function: Callable[[int, int], object] = getattr(importlib.import_module(path), name)
    except ModuleNotFoundError as error:
        raise ValueError(f"cannot import {path!r} ({error}); run from the folder it is in, or install it") from error
    except AttributeError as error:
        raise ValueError(f"{path!r} has no function {name!r}; check the name after the colon") from error
    return function


def _storage(config: Config, method: Method, *, has_convolutions: bool) -> str:
    if method.name == "dense":
        return "dense"
    if config.storage == "sparse" and has_convolutions:
        raise ValueError("convolutions can only be masked so far; leave out --storage sparse")
    truly = method.truly_sparse and not has_convolutions if config.storage == "auto" else config.storage == "sparse"
    return "truly sparse" if truly else "masked"


def _budget(config: Config, method: Method) -> budgets.Budget:
    if not config.epsilon:
        return method.budget

    def by_epsilon(shapes: dict[str, tuple[int, ...]], *, sparsity: float) -> dict[str, int]:
        return budgets.er_epsilon(shapes, epsilon=config.epsilon)

    return by_epsilon


def _optimizer(config: Config, model: nn.Module) -> Optimizer:
    if config.optimizer == "adamw":
        return AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    return SGD(model.parameters(), lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)


def active_weights(model: nn.Module) -> int:
    """Return how many weights of linear and convolution layers are stored, zeros of masked ones not counted."""
    total = 0
    for module in model.modules():
        if isinstance(module, SparseLinear):
            total += module.num_active
        elif isinstance(module, _WEIGHTED):
            total += int(module.weight.count_nonzero())
    return total
