"""Fetch one file so that it is either whole and checked or not there at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


def fetch(url: str, target: Path, *, check: Callable[[Path], object]) -> None:
    """Download a file, check it, and only then give it its name.

    The bytes arrive in a temporary folder beside the target and are moved in one step, so an interrupted or
    damaged download is never taken for the file, and two processes cannot disturb each other.

    Args:
        url: http or https address.
        target: where the file goes; its folder is made.
        check: raises if the file, given by its temporary path, is not what it should be.

    Raises:
        ImportError: pooch is not installed.
        OSError: the download failed, or the file cannot be written.
        ValueError: what `check` raised.
    """
    pooch = import_pooch()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as folder:
        part = Path(folder, target.name)
        with _Bar(target.name) as bar:
            pooch.HTTPDownloader(progressbar=bar)(url, str(part), None)
        check(part)
        part.replace(target)


def import_pooch() -> ModuleType:
    """Import pooch, which only downloads need.

    Returns:
        The module.

    Raises:
        ImportError: it is not installed; the text says how to install it.
    """
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            'downloads need pooch, which is not installed; run: pip install "gossamer[data]", '
            "or give a folder that holds the files as data_dir"
        ) from error
    module: ModuleType = pooch
    return module


class _Bar:
    """A progress bar on standard error with the methods that pooch calls."""

    def __init__(self, name: str) -> None:
        # Here, so that who downloads nothing does not wait for them.
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        columns = TextColumn("Downloading {task.description}"), BarColumn(), DownloadColumn()
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task(name, total=None)
        self.total = 0  # pooch sets it once it knows

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, num_bytes: int) -> None:
        self._progress.update(self._task, advance=num_bytes, total=self.total or None)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        pass  # leaving the with block stops it, on success and on failure
