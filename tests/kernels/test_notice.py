import os
import subprocess
import sys
from pathlib import Path

import pytest

DROPOUT = "import torch, gossamer as gs; gs.nn.Dropout(0.5)(torch.ones(64, 8)); gs.nn.Dropout(0.5)(torch.ones(8, 8))"
OWN = "import gossamer, numba; print(numba.njit(lambda x: x + 1)(1))"
LINE = "gossamer: compiling kernels for this machine, once; the first calls take some seconds longer ...\n"


def errors_of(program: str, cache: Path, *, quiet: str = "") -> str:
    """Return what a fresh process prints to stderr, its compiled kernels kept in a folder."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "GOSSAMER_QUIET": quiet}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stderr


def test_compiling_is_said_in_one_line_and_only_where_nothing_is_on_disk(tmp_path: Path) -> None:
    first, second = (errors_of(DROPOUT, tmp_path) for _ in range(2))

    assert first == LINE
    assert second == ""


@pytest.mark.parametrize(("program", "quiet"), [(DROPOUT, "1"), (OWN, "")])
def test_nothing_is_said_where_it_is_not_wanted_or_nothing_of_ours_is_compiled(
    program: str, quiet: str, tmp_path: Path
) -> None:
    assert errors_of(program, tmp_path, quiet=quiet) == ""
