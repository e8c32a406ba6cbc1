"""Files that are whole or not there: written aside, flushed to disk, renamed."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write(path: Path, fill: Callable[[Path], object]) -> None:
    """Write a file so that at every moment `path` is the whole old one, the whole new one, or absent.

    Args:
        path: where the file shall stand.
        fill: writes the content to the path that it is given, in the same folder.

    Raises:
        OSError: it could not be written; what stood at `path` before still does.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    aside = Path(name)
    try:
        fill(aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes files that nobody else may read; a result is an ordinary file.
        aside.chmod(0o666 & ~_umask())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
