"""What a result depends on beside the configuration: processor, threads, versions."""

import math
import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch


def describe_machine() -> dict[str, str | int]:
    """Return processor, number of threads and the versions of gossamer and torch; no names, no addresses."""
    return {
        "threads": torch.get_num_threads(),
        "version": version("gossamer"),
        "torch": torch.__version__,
        "machine": f"{_processor()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
    }


def memory_bytes() -> float:
    """Return the size of the machine's memory; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
