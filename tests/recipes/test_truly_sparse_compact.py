import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer import recipes
from gossamer.neurons import fit_
from gossamer.weights import MaskedWeight

from .case import NUM_STEPS, OPTIMIZERS, STORAGES
from .network import SIZES, Run, assert_same, begin, everything, train_step

both = pytest.mark.parametrize("storage", STORAGES)
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)
# Neurons go at steps 4, 8 and 12.
SETTINGS: dict[str, Any] = {
    "update_every": 3,
    "stop_step": 13,
    "prune_start_step": 4,
    "prune_every": 4,
    "neuron_fraction": 0.2,
}


def run_of(storage: str, optimizer: str, *, compact: bool, seed: int = 0) -> Run:
    def start(model: nn.Module, held: torch.optim.Optimizer, **rest: Any) -> gs.Sparsifier:
        # Biases that are not zero, so that a removed neuron leaves something behind.
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.data.copy_(torch.linspace(-0.5, 0.5, parameter.numel()))
        model.double()
        return recipes.truly_sparse(model, held, compact=compact, **SETTINGS, **rest)

    return begin(start, OPTIMIZERS[optimizer], storage, seed)


def sizes(run: Run) -> list[tuple[int, ...]]:
    return [weight.shape for weight in run.sparsifier.weights]


def open_values(run: Run) -> list[Tensor]:
    """Return each weight as a dense tensor without its closed rows and columns."""
    found = []
    for weight in run.sparsifier.weights:
        dense = torch.zeros(weight.shape, dtype=torch.float64)
        dense.view(-1)[weight.indices()] = weight.values()
        found.append(dense[~weight.closed_rows][:, ~weight.closed_columns])
    return found


@both
@every_optimizer
def test_smaller_layers_train_exactly_as_layers_with_closed_neurons(storage: str, optimizer: str) -> None:
    closed, compact = (run_of(storage, optimizer, compact=each) for each in (False, True))
    for step in range(1, NUM_STEPS + 1):
        train_step(closed, step)
        train_step(compact, step)

        for one, other in zip(open_values(closed), open_values(compact), strict=True):
            assert torch.equal(one != 0, other != 0)
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    inputs = torch.randn(9, SIZES[0], dtype=torch.float64)
    torch.testing.assert_close(compact.model(inputs), closed.model(inputs), rtol=1e-9, atol=1e-12)
    # floor(0.2 n) go: 16, 13, 11, 9 and 12, 10, 8, 7
    assert sizes(closed) == [(16, 10), (12, 16), (4, 12)]
    assert sizes(compact) == [(9, 10), (7, 9), (4, 7)]


@both
def test_both_storages_remove_the_same_neurons(storage: str) -> None:
    run = run_of(storage, "SGD", compact=True)
    shapes = [sizes(run)]
    changes = []
    for step in range(1, NUM_STEPS + 1):
        before = run.sparsifier.num_active()
        train_step(run, step)
        shapes.append(sizes(run))
        changes.append(before - run.sparsifier.num_active())

    assert [step for step in range(1, NUM_STEPS + 1) if shapes[step] != shapes[step - 1]] == [4, 8, 12]
    assert [step for step, change in enumerate(changes, start=1) if change] == [4, 8, 12]


@both
@every_optimizer
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(storage: str, optimizer: str, tmp_path: Path) -> None:
    whole = run_of(storage, optimizer, compact=True)
    for step in range(1, NUM_STEPS + 1):
        train_step(whole, step)
        if step in (3, 4, 8):
            torch.save(everything(whole), tmp_path / f"{step}.pt")
    for saved_at in (3, 4, 8):
        resumed = run_of(storage, optimizer, compact=True, seed=saved_at)
        saved = torch.load(tmp_path / f"{saved_at}.pt", weights_only=True)
        fit_(resumed.model, saved["model"], weights=resumed.sparsifier.weights)
        for part in ("model", "optimizer", "sparsifier") if saved_at % 2 else ("sparsifier", "optimizer", "model"):
            getattr(resumed, part).load_state_dict(saved[part])
        assert_same(everything(resumed), saved)
        for step in range(saved_at + 1, NUM_STEPS + 1):
            train_step(resumed, step)

        assert_same(everything(resumed), everything(whole))


@both
def test_a_state_of_other_sizes_is_refused_unless_the_model_is_fitted(storage: str) -> None:
    run, fresh = (run_of(storage, "SGD", compact=True) for _ in range(2))
    for step in range(1, 6):
        train_step(run, step)

    with pytest.raises(RuntimeError, match=r"size mismatch|of a layer with"):
        fresh.model.load_state_dict(run.model.state_dict())
    with pytest.raises(ValueError, match="the saved sparsifier is of another model"):
        fresh.sparsifier.load_state_dict(run.sparsifier.state_dict())


@both
@pytest.mark.parametrize("architecture", ["dense", "truly sparse", "as saved"])
def test_a_file_of_a_smaller_model_is_loaded_into_the_architecture(
    storage: str, architecture: str, tmp_path: Path
) -> None:
    run = run_of(storage, "SGD", compact=True)
    for step in range(1, NUM_STEPS + 1):
        train_step(run, step)
    run.sparsifier.finalize()
    model = run.model if storage == "truly sparse" else gs.to_sparse(run.model)
    gs.save(model, tmp_path / "file")
    given: torch.nn.Module = gs.models.mlp(
        SIZES, sparsity=0.5 if architecture == "truly sparse" else 0.0, alpha=0.5, generator=torch.Generator()
    )
    given = copy.deepcopy(run.model) if architecture == "as saved" else given.double()
    before = [parameter.shape for parameter in given.parameters()]

    loaded = gs.load(tmp_path / "file", given)

    inputs = torch.randn(9, SIZES[0], dtype=torch.float64)
    assert torch.equal(loaded.eval()(inputs), model.eval()(inputs))
    assert [parameter.shape for parameter in given.parameters()] == before


def test_masked_weights_have_their_masks_at_the_new_size() -> None:
    run = run_of("masked", "AdamW", compact=True)
    for step in range(1, NUM_STEPS + 1):
        train_step(run, step)
        for weight in run.sparsifier.weights:
            assert isinstance(weight, MaskedWeight)
            assert weight.mask.shape == weight.parameter.shape == weight.shape
            assert not weight.parameter.detach()[~weight.mask].any()
