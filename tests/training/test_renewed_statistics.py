"""Running statistics of batch normalisation follow the topology."""

from pathlib import Path

import pytest
import torch
from torch import nn

from gossamer.data import Dataset
from gossamer.training import TrainingInterruptedError, renew_statistics_, train
from gossamer.training.checkpoint import CHECKPOINT

from .small import config, digits
from .test_loop import assert_same, steps

DATA = digits()
MODEL = f"{__name__}:normed"


def normed(num_features: int, num_classes: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(num_features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, num_classes))


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    model: dict[str, torch.Tensor] = torch.load(folder / CHECKPOINT, weights_only=True)["model"]
    return model


def settled(model: nn.Module, dataset: Dataset, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of what the normalisation sees, averaged over the batches."""
    order = torch.randperm(200, generator=torch.Generator().manual_seed(seed))
    hidden = [model.get_submodule("0")(dataset.train_inputs[rows]).detach().double() for rows in order.split(40)]
    means, variances = torch.stack([part.mean(0) for part in hidden]), torch.stack([part.var(0) for part in hidden])
    return means.mean(0), variances.mean(0)


def test_statistics_are_the_averages_over_training_batches_and_nothing_else_changes() -> None:
    model = normed(64, 10)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    random = torch.get_rng_state()

    renew_statistics_(model, DATA, batch_size=40, seed=3)

    mean, variance = settled(model, DATA, seed=3)
    torch.testing.assert_close(model.get_buffer("1.running_mean").double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.get_buffer("1.running_var").double(), variance, rtol=1e-5, atol=1e-6)
    assert_same({name: value.detach() for name, value in model.named_parameters()}, before)
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training


def test_without_running_statistics_nothing_is_read() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8, track_running_stats=False))

    # A layer of three inputs could not take these rows.
    renew_statistics_(model, DATA, batch_size=40, seed=0)

    assert dict(model.named_buffers()) == {}


@pytest.mark.parametrize("method", ["set", "rigl", "gmp"])
def test_an_epoch_that_ends_with_an_exchange_is_evaluated_with_statistics_of_the_new_topology(
    tmp_path: Path, method: str
) -> None:
    with pytest.raises(TrainingInterruptedError):
        train(
            config(method=method, model=MODEL, update_every=5, storage="masked"), DATA, tmp_path, should_stop=steps(5)
        )

    model = normed(64, 10)
    model.load_state_dict(state_of(tmp_path))
    mean, variance = settled(model, DATA, seed=0)
    torch.testing.assert_close(model.get_buffer("1.running_mean").double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.get_buffer("1.running_var").double(), variance, rtol=1e-5, atol=1e-6)


def test_where_nothing_changed_statistics_stay_those_of_training(tmp_path: Path) -> None:
    train(config(method="static", model=MODEL, storage="masked"), DATA, tmp_path)

    assert int(state_of(tmp_path)["1.num_batches_tracked"]) == 15


def test_a_run_stopped_between_exchange_and_evaluation_goes_on_to_the_same_statistics(tmp_path: Path) -> None:
    settings = config(method="set", model=MODEL, update_every=3, storage="masked")
    for name, stops in (("whole", [6]), ("resumed", [3, 1, 2])):
        (tmp_path / name).mkdir()
        for number in stops:
            with pytest.raises(TrainingInterruptedError):
                train(settings, DATA, tmp_path / name, resume=True, should_stop=steps(number))

    assert_same(state_of(tmp_path / "resumed"), state_of(tmp_path / "whole"))
