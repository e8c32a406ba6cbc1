"""One line where the first call waits for kernels to be compiled: Numba keeps them on disk, so it comes once a machine.

Numba tells listeners of each pass of its compiler, and of nothing where it finds the result on disk. GOSSAMER_QUIET=1
in the environment keeps the line away.
"""

import os
import sys
from functools import cache
from typing import Any, final

from numba.core import event

_LINE = "gossamer: compiling kernels for this machine, once; the first calls take some seconds longer ..."


@final
class _Notice(event.Listener):
    """Says so at the first function of ours that is compiled in this process."""

    def __init__(self) -> None:
        self._said = False

    def on_start(self, event: Any) -> None:
        """Print the line if it was not printed."""
        # Functions of the user's own, and of other packages, are none of our business.
        if self._said or not str((event.data or {}).get("module", "")).startswith("gossamer."):
            return
        self._said = True
        if not os.environ.get("GOSSAMER_QUIET") and sys.stderr is not None:
            print(_LINE, file=sys.stderr, flush=True)

    def on_end(self, event: Any) -> None:
        """Do nothing."""


@cache
def listen() -> None:
    """Print one line when Numba first compiles a kernel in this process, and never where all are on disk."""
    event.register("numba:run_pass", _Notice())  # type: ignore[no-untyped-call]
