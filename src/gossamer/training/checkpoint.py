"""What a run needs to go on as if it had never stopped."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from gossamer import atomic
from gossamer.training.build import Setup

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, setup: Setup, progress: dict[str, Any]) -> None:
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
        "progress": progress,
    }
    atomic.write(folder / CHECKPOINT, lambda aside: torch.save(state, aside))


def load_checkpoint(folder: Path, setup: Setup) -> dict[str, Any]:
    """Put the state of a checkpoint into a run and return its progress.

    Sets torch's global random state to what it was.

    Raises:
        ValueError: the file is damaged or of another model.
    """
    path = folder / CHECKPOINT
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged; delete it, or start anew with --overwrite") from error
    try:
        setup.model.load_state_dict(state["model"])
        setup.optimizer.load_state_dict(state["optimizer"])
        if setup.sparsifier:
            setup.sparsifier.load_state_dict(state["sparsifier"])
        progress: dict[str, Any] = state["progress"]
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} is a checkpoint of another model ({reason}); use the same options") from error
    torch.set_rng_state(state["rng"])
    return progress
