"""The folder of a run: free or resumed, locked while it is written, cleared of nothing but results."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Everything that a run writes; only these are ever deleted.
_RESULTS = ("config.toml", "metrics.jsonl", "checkpoint.pt", "model.safetensors", "report.html")
_LOCK = ".lock"


@contextmanager
def claim(folder: Path, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """Make a folder ready for a run and hold it until the run ends, however it ends.

    Args:
        folder: of the results; it is made if need be.
        resume: there must be a run to go on with.
        overwrite: delete the results that are there.

    Raises:
        ValueError: resume and overwrite, another run holds the folder, results are in the way, there is none to
            resume, or the folder cannot be made.
        OSError: the folder cannot be written.
    """
    if resume and overwrite:
        raise ValueError("--resume goes on with a run and --overwrite deletes it; give one of them")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give --out a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot make the folder {folder} ({error.strerror}); give another --out") from error
    with (folder / _LOCK).open("a") as lock:
        try:
            # The system lets go of the lock when the process ends, killed or not.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise ValueError(f"another run is writing to {folder}; wait for it, or give another --out") from error
            raise
        try:
            _prepare(folder, resume=resume, overwrite=overwrite)
            yield
        finally:
            (folder / _LOCK).unlink(missing_ok=True)


def _prepare(folder: Path, *, resume: bool, overwrite: bool) -> None:
    present = [path for path in _results(folder) if path.exists()]
    if resume and not (folder / "config.toml").is_file():
        raise ValueError(f"there is no run to resume in {folder}; leave out --resume, or give the --out of that run")
    if present and not (resume or overwrite):
        raise ValueError(
            f"{folder} holds a run already; --resume goes on with it, --overwrite replaces it, --out takes another"
        )
    if overwrite:
        for path in present:
            path.unlink()
        for path in sorted((folder / "runs").glob("*")):
            if path.is_dir() and not os.listdir(path):
                path.rmdir()


def _results(folder: Path) -> list[Path]:
    return [
        place / name for place in [folder, *sorted((folder / "runs").glob("*"))] for name in _RESULTS if place.is_dir()
    ]
