"""The folder of a run: free or resumed, locked while it is written, cleared of nothing but results."""

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from gossamer import atomic
from gossamer.training.record import MODEL

# Everything that a run writes; only these are ever deleted.
_RESULTS = ("config.toml", "metrics.jsonl", "checkpoint.pt", "model.safetensors", "report.html")
_LOCK = ".lock"
# The runs of a comparison. Other folders in runs/ are other people's: it is where results go unless --out is given.
_RUN = re.compile(r"[a-z_]+-seed\d+$")


@contextmanager
def claim(folder: Path, *, resume: bool, overwrite: bool, comparison: bool = False) -> Iterator[None]:
    """Make a folder ready for a run and hold it until the run ends, however it ends.

    Args:
        folder: of the results; it is made if need be.
        resume: there must be a run to go on with.
        overwrite: delete the results that are there.
        comparison: the folder is that of several runs.

    Raises:
        ValueError: resume and overwrite, another run holds the folder, results are in the way, there is none to
            resume or one of the other kind, or the folder cannot be made or written.
        OSError: the system failed otherwise.
    """
    if resume and overwrite:
        raise ValueError("--resume goes on with a run and --overwrite deletes it; give one of them")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give --out a folder")
    if resume:
        _check_resumable(folder, comparison=comparison)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
    except OSError as error:
        raise ValueError(f"cannot write to the folder {folder} ({error.strerror}); give another --out") from error
    try:
        _prepare(folder, resume=resume, overwrite=overwrite)
        yield
    finally:
        (folder / _LOCK).unlink(missing_ok=True)
        lock.close()
        if is_new:
            # Of a run that failed before it wrote anything nothing stays.
            with suppress(OSError):
                folder.rmdir()


def runs_in(folder: Path) -> list[Path]:
    """Return the folders of the runs of a comparison, by name; none if it is no comparison."""
    return [place for place in sorted((folder / "runs").glob("*")) if place.is_dir() and _RUN.match(place.name)]


def model_of(folder: Path) -> Path:
    """Return the model.safetensors of a run.

    Args:
        folder: of the run.

    Raises:
        ValueError: it is the folder of a comparison, or of a run that is not finished.
        FileNotFoundError: it holds no run.
    """
    path = folder / MODEL
    if path.is_file():
        return path
    if models := [place.name for place in runs_in(folder) if (place / path.name).is_file()]:
        raise ValueError(f"{folder} is a comparison; give one of its runs, in {folder / 'runs'}: {', '.join(models)}")
    if (folder / "config.toml").is_file():
        raise ValueError(f"the run in {folder} has no model yet; its command with --resume finishes it")
    raise FileNotFoundError(f"there is no {path.name} in {folder}; give the folder of a run, or a .safetensors file")


def _lock(folder: Path) -> TextIOWrapper:
    """Lock a folder; the system lets go when the process ends, killed or not."""
    while True:
        lock = (folder / _LOCK).open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it before may have deleted it meanwhile; then the next one would lock another file.
            if os.path.samestat(os.fstat(lock.fileno()), (folder / _LOCK).stat()):
                return lock
        except FileNotFoundError:
            pass
        except OSError as error:
            lock.close()
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise ValueError(f"another run is writing to {folder}; wait for it, or give another --out") from error
            raise
        lock.close()


def _check_resumable(folder: Path, *, comparison: bool) -> None:
    if not (folder / "config.toml").is_file():
        raise ValueError(f"there is no run to resume in {folder}; leave out --resume, or give the --out of that run")
    if comparison and (folder / "metrics.jsonl").exists():
        raise ValueError(f"{folder} holds a single run; resume it with gossamer train")
    if not comparison and any((place / "config.toml").exists() for place in runs_in(folder)):
        raise ValueError(f"{folder} holds a comparison; resume it with gossamer compare")


def _prepare(folder: Path, *, resume: bool, overwrite: bool) -> None:
    results = [place / name for place in [folder, *runs_in(folder)] for name in _RESULTS]
    present = [path for path in results if path.exists()]
    if present and not (resume or overwrite):
        raise ValueError(
            f"{folder} holds a run already; --resume goes on with it, --overwrite replaces it, --out takes another"
        )
    for path in results:
        for leftover in atomic.leftovers(path):
            leftover.unlink()
    if overwrite:
        for path in present:
            path.unlink()
        for place in runs_in(folder):
            if not os.listdir(place):
                place.rmdir()
