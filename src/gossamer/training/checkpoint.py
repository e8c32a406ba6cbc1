"""What a run needs to go on as if it had never stopped."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from gossamer import atomic
from gossamer.neurons import fit_
from gossamer.training.build import Setup

CHECKPOINT = "checkpoint.pt"

# What torch.load makes of a file that is cut short, has flipped bits, or is something else altogether.
_DAMAGE = (
    RuntimeError,
    OSError,
    EOFError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    ValueError,
    LookupError,
    AttributeError,
)


def save_checkpoint(folder: Path, setup: Setup, progress: Mapping[str, Any]) -> None:
    """Write the checkpoint of a run, whole or not at all.

    Args:
        folder: of the run.
        setup: model, optimizer and sparsifier between two steps.
        progress: numbers, strings and tensors of the training loop.

    Raises:
        OSError: it could not be written; the one before is still there.
    """
    state = {
        "model": setup.model.state_dict(),
        "optimizer": setup.optimizer.state_dict(),
        "sparsifier": setup.sparsifier.state_dict() if setup.sparsifier else None,
        "rng": torch.get_rng_state(),
        "progress": dict(progress),
    }

    def fill(aside: Path) -> None:
        # Not by its path: torch would keep to itself what the system said of a disk that is full.
        with aside.open("wb") as file:
            torch.save(state, file)

    atomic.write(folder / CHECKPOINT, fill)


def load_checkpoint(folder: Path, setup: Setup) -> dict[str, Any]:
    """Put the state of a checkpoint into a run and return its progress.

    Sets torch's global random state to what it was.

    Raises:
        ValueError: the file is damaged or of another model.
    """
    path = folder / CHECKPOINT
    with path.open("rb") as file:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except _DAMAGE as error:
            raise ValueError(f"{path} is damaged; delete it, then --resume begins this run anew") from error
    try:
        progress: dict[str, Any] = dict(state["progress"])
        if setup.sparsifier and setup.sparsifier.resizes:
            fit_(setup.model, state["model"], weights=setup.sparsifier.weights)
        setup.model.load_state_dict(state["model"])
        _load_optimizer(setup.optimizer, state["optimizer"])
        if setup.sparsifier:
            setup.sparsifier.load_state_dict(state["sparsifier"])
        torch.set_rng_state(state["rng"])
    except (*_DAMAGE, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} is a checkpoint of another model ({reason}); use the same options") from error
    return progress


def _load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    # torch would take the settings of another class, and miss its own at the next step.
    for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True):
        if saved.keys() != group.keys():
            raise ValueError(f"its optimizer is not {type(optimizer).__name__}")
    optimizer.load_state_dict(state)
