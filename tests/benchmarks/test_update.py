"""The benchmark of topology updates runs on a small layer, and an update of a large one stays within its memory."""

import os
import subprocess
import sys

import pytest

from .test_size import ROOT, load

MEMORY = """
import update
print(update.peak_of_update(16_384, 0.0005, batch=8, drop_fraction=0.3)[0])
"""


def test_every_part_of_every_method_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    update = load("benchmarks/update.py", monkeypatch)
    every = update.measure(60, 0.1, batch=4, rounds=2)

    assert set(every) == {"plain", "SET", "RigL", "GSE"}
    for name in ("SET", "RigL", "GSE"):
        assert {part: len(times) for part, times in every[name].times.items()} == dict.fromkeys(
            ("drop", "grow", "move", "update"), 3
        )
        assert every[name].layer.num_active == 360
        assert every[name].median("update") > 0


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="the kernel's count of peak memory is Linux'")
def test_an_update_of_a_large_layer_stays_below_a_fiftieth_of_the_dense_gradient() -> None:
    # Its own process: what others left behind would hide what the update takes. 40,265 of 134,218 weights exchanged.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "benchmarks"), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], env=environment, capture_output=True, text=True, timeout=300, check=True
    )

    assert 0 < int(done.stdout.split()[-1]) < 4 * 16_384**2 / 50
