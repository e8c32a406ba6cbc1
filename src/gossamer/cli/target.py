"""The file that a command writes a model to."""

import errno
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from gossamer import files


def write_model(model: nn.Module, target: Path, metadata: dict[str, str]) -> None:
    """Save a model.

    Args:
        model: any.
        target: the file.
        metadata: texts to keep in it.

    Raises:
        ValueError: it could not be written; the error says why.
    """
    try:
        files.save(model, target, metadata=metadata)
    except OSError as error:
        # There is nothing to resume, as there is after a run.
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise ValueError(f"cannot write {target}: {reason}; nothing was written, give another --out") from error


def check_target(target: Path, read: Sequence[Path | None], *, overwrite: bool) -> None:
    """Raise unless a model can be written to a file, before any work is done.

    Args:
        target: the file.
        read: files that the command reads.
        overwrite: whether it may be replaced.

    Raises:
        ValueError: no .safetensors file, one that is read, or one that is there already.
        FileNotFoundError: its folder is missing.
    """
    if target.is_dir() or target.suffix != ".safetensors":
        raise ValueError(f"--out must be a file that ends in .safetensors, got {target}")
    for path in read:
        if path and target.exists() and path.exists() and target.samefile(path):
            raise ValueError(f"{target} is read here; give another --out")
    if target.exists() and not overwrite:
        raise ValueError(f"{target} exists; give --overwrite, or another --out")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent}; make it, or give another --out")
