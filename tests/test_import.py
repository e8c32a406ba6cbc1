import json
import os
import resource
import subprocess
import sys

# What importing gossamer may take beside torch, in seconds of processor time; of a slow run there are two more tries.
_SECONDS = 1.0


def processor_seconds(statement: str) -> float:
    """Return the processor time of a fresh process that does this and no more."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_gossamer_is_imported_in_a_second_more_than_torch() -> None:
    extra = []
    for _ in range(3):
        extra.append(processor_seconds("import gossamer") - processor_seconds("import torch"))
        if extra[-1] < _SECONDS:
            break

    assert min(extra) < _SECONDS, extra


def test_importing_gossamer_brings_in_neither_the_command_line_nor_what_draws() -> None:
    heavy = ("typer", "rich", "plotly", "sklearn", "pandas", "matplotlib", "pooch")
    program = f"import sys, json, gossamer; print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert json.loads(done.stdout) == []
