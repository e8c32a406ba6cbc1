"""The command line: gossamer train, compare, prune, accelerate, bench, inspect, methods."""

import errno
import os
import sys
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated

import typer

from gossamer.cli.accelerate import accelerate
from gossamer.cli.bench import bench
from gossamer.cli.compare import compare
from gossamer.cli.inspect import inspect
from gossamer.cli.methods import methods
from gossamer.cli.prune import prune
from gossamer.cli.train import train
from gossamer.training import TrainingInterruptedError

app = typer.Typer(
    help="Sparsity that pays: train sparse networks, compare them with dense ones, prune trained ones, look into them.",
    epilog="Start with: gossamer compare --data digits",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (compare, train, prune, accelerate, bench, inspect, methods):
    app.command()(_command)

# Exit code of a program that was stopped by Ctrl-C.
_INTERRUPTED = 130

# What a user's input can raise. Set GOSSAMER_TRACEBACK=1 to see where it came from.
_MISTAKES = (ValueError, TypeError, RuntimeError, OSError, ImportError, MemoryError)


def main() -> None:
    """Run the command line; a mistake is one line on stderr and exit code 2, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal that lacks a letter must not end a training.
            stream.reconfigure(errors="replace")
    try:
        # typer turns Ctrl-C into a number that it returns.
        if app(standalone_mode=False, prog_name="gossamer") == _INTERRUPTED:
            raise KeyboardInterrupt
    except TrainingInterruptedError as stop:
        _exit(str(stop), _INTERRUPTED)
    except (KeyboardInterrupt, typer.Abort):
        _exit(
            "interrupted; if a run had begun, the same command with --resume goes on from its last checkpoint",
            _INTERRUPTED,
        )
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is None and (os.environ.get("GOSSAMER_TRACEBACK") or not isinstance(error, _MISTAKES)):
            raise
        _exit(f"error: {text}" if (text := " ".join(usage().split()) if usage else _one_line(error)) else "", 2)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"gossamer {version('gossamer')}\n")
        raise typer.Exit


_Version = Annotated[
    bool, typer.Option("--version", help="show the version and exit", callback=_show_version, is_eager=True)
]


@app.callback()
def _root(show_version: _Version = False) -> None:
    """Take the options that stand before a command."""


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.filename or 'while writing'}); make room, then --resume goes on"
    notes = getattr(error, "__notes__", [])
    return " ".join(" ".join([str(error) or type(error).__name__, *notes]).split())


def _exit(line: str, code: int) -> None:
    # Nothing to say where the help was shown already.
    if line:
        sys.stderr.write(f"gossamer: {line}\n")
    raise SystemExit(code)
