"""Files that are whole or not there: written aside, flushed to disk, renamed."""

import os
import re
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
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    aside = Path(name)
    try:
        fill(aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes files that nobody else may read; a result is an ordinary file.
        aside.chmod(0o666 & ~_umask())
        aside.replace(path)
    except Exception as error:
        if number := _system_error(error):
            raise OSError(number, os.strerror(number), str(path)) from error
        raise
    finally:
        aside.unlink(missing_ok=True)


def leftovers(path: Path) -> list[Path]:
    """Return what a killed process left aside of `path`; nobody may be writing it now."""
    name = re.compile(rf"\.{re.escape(path.name)}\.\w{{8}}\.part")
    return [found for found in path.parent.glob(".*.part") if name.fullmatch(found.name)]


def _system_error(error: Exception) -> int | None:
    """The number of the system's error: torch and safetensors hide it behind errors of their own."""
    if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
        return error.__context__.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return error.errno if isinstance(error, OSError) else int(found[1]) if found else None


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
