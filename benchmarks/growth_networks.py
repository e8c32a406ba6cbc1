"""The data and the networks of growth.py, and how one of them is made ready for its training."""

import functools
import math
from dataclasses import replace
from typing import NamedTuple

import torch
from criteria_networks import decoded_images, pack_path
from growth_trials import Trial, hidden
from torch import nn
from torch.optim import Optimizer

import gossamer as gs
from gossamer.data import Dataset
from gossamer.data.split import stratified_split
from gossamer.data.standardize import standardize_inputs
from gossamer.models.first_values import draw_
from gossamer.sparsifier import Sparsifier
from gossamer.training import Config, Method, find_method, set_up
from gossamer.training.build import count_steps, make_optimizer
from gossamer.training.plan import Plan

PACKS = {
    "madelon": "madelon/madelon.npz",
    "isolet": "isolet/isolet.npz",
    "higgs": "higgs-7500/higgs-7500.npz",
    "leukemia": "leukemia-allaml/allaml.npz",
}
NETWORKS = ("relu", "all_relu", "convolutions")


class Ready(NamedTuple):
    """A network about to be trained."""

    model: nn.Module
    optimizer: Optimizer
    sparsifier: Sparsifier | None
    num_steps: int


def load(trial: Trial) -> Dataset:
    """Return the data of a trial; of 72 patients each seed tests others."""
    config = trial.config
    dataset = _loaded(config.data, config.train_size)
    if config.data == "leukemia":
        inputs = torch.cat([dataset.train_inputs, dataset.test_inputs])
        targets = torch.cat([dataset.train_targets, dataset.test_targets])
        dataset = _parted(dataset, inputs, targets, seed=config.seed)
    if trial.validation:
        dataset = _parted(dataset, dataset.train_inputs, dataset.train_targets, seed=0)
    return dataset


@functools.lru_cache(maxsize=1)
def _loaded(name: str, train_size: int) -> Dataset:
    if name == "cifar10":
        return _cifar(train_size)
    if name in PACKS:
        return gs.data.load(pack_path(PACKS[name]))
    # Pixels that are seldom lit become very large when standardised; digits have many.
    return gs.data.load(name, standardize=name != "mnist")


def _parted(dataset: Dataset, inputs: torch.Tensor, targets: torch.Tensor, *, seed: int) -> Dataset:
    """Split these rows anew; a fifth is tested."""
    train, test = stratified_split(targets, seed=seed)
    return replace(
        dataset,
        train_inputs=inputs[train],
        train_targets=targets[train],
        test_inputs=inputs[test],
        test_targets=targets[test],
    )


def _cifar(train_size: int) -> Dataset:
    train, train_targets = decoded_images("train", train_size)
    test, test_targets = decoded_images("test", 10_000)
    return standardize_inputs(
        Dataset(
            name="cifar10",
            train_inputs=train.flatten(1),
            train_targets=train_targets,
            test_inputs=test.flatten(1),
            test_targets=test_targets,
            num_classes=10,
            sample_shape=(3, 32, 32),
            source="a pack of recompressed images",
        )
    )


def make_ready(trial: Trial, dataset: Dataset) -> Ready:
    """Return network, optimizer and sparsifier as they stand before the first step."""
    config = trial.config
    if not trial.network:
        made = set_up(config, dataset)
        return Ready(made.model, made.optimizer, made.sparsifier, made.num_steps)
    method = find_method(config.method)
    if method.prune_first:
        raise SystemExit(f"{method.name} prunes a fresh network; take it in experiments of plain MLPs, such as lenet")
    generator = torch.Generator().manual_seed(config.seed)
    model = _network(trial, dataset, method, generator)
    optimizer = make_optimizer(config, model)
    steps_per_epoch, num_steps = count_steps(config, dataset)
    born_sparse = any(isinstance(module, gs.nn.SparseLinear) for module in model.modules())
    plan = Plan(
        sparsity=config.sparsity,
        start_sparsity=None if born_sparse else config.sparsity,
        budget=gs.budgets.erk,
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        drop_fraction=config.drop_fraction,
        update_every=config.update_every or method.update_every(steps_per_epoch, num_steps),
        update_until=config.update_until,
        generator=generator,
    )
    return Ready(model, optimizer, method.make(model, optimizer, plan), num_steps)


def _network(trial: Trial, dataset: Dataset, method: Method, generator: torch.Generator) -> nn.Module:
    if trial.network == "convolutions":
        return _convolutions(dataset.num_classes, generator)
    model = _mlp(trial.config, dataset, method, generator, all_relu=trial.network == "all_relu")
    if trial.scaled_by == "dense fan-in":
        _scale_by_dense_fan_in_(model)
    return model


def _mlp(
    config: Config, dataset: Dataset, method: Method, generator: torch.Generator, *, all_relu: bool
) -> nn.Sequential:
    sizes = [dataset.num_features, *hidden(config.model), dataset.num_classes]
    return gs.models.mlp(
        sizes,
        generator=generator,
        sparsity=config.sparsity if method.truly_sparse and not method.from_dense else 0.0,
        dropout=config.dropout,
        alpha=config.alpha if all_relu else None,
    )


@torch.no_grad()
def _scale_by_dense_fan_in_(model: nn.Module) -> None:
    """Make the first values as small as the program of Truly Sparse draws them, however few inputs a neuron has."""
    for layer in model.modules():
        if isinstance(layer, gs.nn.SparseLinear):
            fan_in = layer.topology.row_pointers.diff()
            scale = (fan_in / layer.in_features).sqrt()
            layer.values.mul_(scale.repeat_interleave(fan_in))


def _convolutions(num_classes: int, generator: torch.Generator) -> nn.Module:
    layers: list[nn.Module] = [nn.Unflatten(1, (3, 32, 32))]
    for inputs, outputs in ((3, 32), (32, 64), (64, 128)):
        convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 4 * 4, num_classes))
    draw_(model, generator=generator)
    return model


def num_weights(model: nn.Module) -> int:
    """Return how many weights the dense network has."""
    return sum(math.prod(weight.shape) for weight in gs.prunable(model))
