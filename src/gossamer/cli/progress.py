"""Progress of long work on the terminal, and Ctrl-C that waits for the end of a step."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gossamer.training.steps import TrainingInterruptedError, Watcher


@contextmanager
def progress_bar(*, visible: bool) -> Iterator[Callable[[str], Watcher]]:
    """Show one bar a run on stderr; yields (label) -> what a training run calls after every step."""
    console = Console(file=sys.stderr)
    is_wide = console.width >= 90
    columns = (
        TextColumn("{task.description:<22}" if is_wide else "{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        *((TimeElapsedColumn(),) if is_wide else ()),
        TimeRemainingColumn(),
        *((TextColumn("{task.fields[note]:<24}"),) if is_wide else ()),
    )
    # Redrawn by the training thread alone, a few times a second, so that drawing does not compete with kernels.
    shown = visible and console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown, auto_refresh=False) as progress:

        def begin(label: str) -> Watcher:
            task = progress.add_task(label, total=None, note="")
            last = 0.0

            def watch(step: int, num_steps: int, note: str) -> None:
                nonlocal last
                progress.update(task, completed=step, total=num_steps, note=note)
                now = progress.get_time()
                if now - last > 0.25 or step == num_steps:
                    last = now
                    progress.refresh()

            return watch

        yield begin


@contextmanager
def waiting(text: str, *, visible: bool) -> Iterator[None]:
    """Show on a terminal's stderr that something of unknown length is going on."""
    console = Console(file=sys.stderr)
    with console.status(text) if visible and console.is_terminal else nullcontext():
        yield


@contextmanager
def nothing_written() -> Iterator[None]:
    """Say of a Ctrl-C that it left nothing behind, where that is so."""
    try:
        yield
    except KeyboardInterrupt:
        raise TrainingInterruptedError("interrupted; nothing was written") from None


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C (or SIGTERM) into a flag that is asked between steps; a second one interrupts at once."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
