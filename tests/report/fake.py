"""Run folders as the command line writes them, made up for the tests of the report."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

Event = Mapping[str, object]

SHAPES = ((1000, 64), (1000, 1000), (1000, 1000), (10, 1000))
NUM_WEIGHTS = sum(rows * columns for rows, columns in SHAPES)
LABELS = {"dense": "Dense", "rigl": "RigL", "set": "SET", "static": "Static sparse"}
COMMAND = "gossamer compare --data digits --methods dense,static,set,rigl --sparsity 0.95 --seeds 3"


def write_run(folder: Path, events: Sequence[Event], *, tail: str = "") -> Path:
    """Write one metrics.jsonl and return its path; `tail` is appended as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events) + tail)
    return path


def write_comparison(folder: Path, methods: Sequence[str] = tuple(LABELS), num_seeds: int = 3) -> Path:
    """Write a folder as `gossamer compare` does and return it."""
    for method in methods:
        for seed in range(num_seeds):
            write_run(folder / "runs" / f"{method}-seed{seed}", run_events(method, seed))
    settings = "[settings]\nsparsity = 0.95\nupdate_every = 100\n"
    (folder / "config.toml").write_text(f'command = "{COMMAND}"\n{settings}')
    return folder


def run_events(method: str, seed: int, *, label: str | None = None) -> list[Event]:
    """Return the events of one finished run."""
    noise = random.Random(f"{method} {seed}")
    density = 1.0 if method == "dense" else 0.05
    moves = method in ("set", "rigl")
    events: list[Event] = [start(method, seed, label=label), layers("before", density, noise, hubs=False)]
    plateau = {"dense": 0.981, "rigl": 0.978, "set": 0.973}.get(method, 0.951) + noise.gauss(0, 0.003)
    step_ms = {"dense": 13.0, "rigl": 14.1}.get(method, 4.0) + noise.gauss(0, 0.1)
    for step in range(0, 5001, 250):
        accuracy = plateau - (plateau - 0.1) * math.exp(-step / 500) + noise.gauss(0, 0.002)
        events.append(evaluation(step, accuracy, step * step_ms / 1000, round(density * NUM_WEIGHTS)))
        if moves and 0 < step < 4000:
            events.append({"event": "update", "step": step, "num_dropped": 4000 - step, "num_grown": 4000 - step})
    events.append(layers("after", density, noise, hubs=moves))
    events.append(end(plateau, step_ms, density))
    return events


def start(method: str, seed: int = 0, *, label: str | None = None) -> Event:
    """Return a start event."""
    storage = {"dense": "dense", "rigl": "masked"}.get(method, "truly sparse")
    return {
        "event": "start",
        "method": method,
        "label": label or LABELS.get(method, method),
        "seed": seed,
        "storage": storage,
        "data": "digits",
        "model": "mlp:1000x3",
        "num_steps": 5000,
        "num_weights": NUM_WEIGHTS,
        "batch_size": 128,
        "threads": 2,
        "version": "0.1.0",
        "torch": "2.13.0",
        "machine": "a laptop",
    }


def evaluation(step: int, accuracy: float, seconds: float = 0.0, num_active: int | None = None) -> Event:
    """Return an evaluation event."""
    return {
        "event": "evaluation",
        "step": step,
        "epoch": step / 100,
        "train_loss": None if step == 0 else 1 - accuracy,
        "test_loss": 1 - accuracy,
        "test_accuracy": accuracy,
        "num_active": num_active,
        "seconds": seconds,
    }


def layers(when: str, density: float, noise: random.Random, *, hubs: bool) -> Event:
    """Return a layers event with degrees around their mean, and a few hubs among the inputs."""
    found = [_layer(name, shape, density, noise, hubs) for name, shape in enumerate(SHAPES)]
    return {"event": "layers", "when": when, "layers": found}


def _layer(name: int, shape: tuple[int, int], density: float, noise: random.Random, hubs: bool) -> dict[str, object]:
    rows, columns = shape
    share = density if density == 1 or rows > 10 else 6 * density
    factor = 1.3 if hubs and name == 0 else 1.0
    return {
        "name": str(name),
        "shape": list(shape),
        "num_active": min(rows * columns, round(share * factor * rows * columns)),
        "bytes": 8 * round(share * rows * columns),
        "in_degrees": _degrees(rows, columns, share, noise, hubs=False),
        "out_degrees": _degrees(columns, rows, share, noise, hubs=hubs),
    }


def _degrees(count: int, largest: int, share: float, noise: random.Random, *, hubs: bool) -> list[list[int]]:
    if share == 1:
        return [[largest, count]]
    found: dict[int, int] = {}
    for _ in range(count):
        stretch = noise.paretovariate(3) if hubs else 1.0
        degree = round(stretch * noise.gauss(share * largest, (share * largest) ** 0.5))
        degree = min(largest, max(0, degree))
        found[degree] = found.get(degree, 0) + 1
    return [[degree, found[degree]] for degree in sorted(found)]


def end(accuracy: float, step_ms: float, density: float, *, status: str = "finished", note: str = "") -> Event:
    """Return an end event."""
    seconds = 5 * step_ms
    parts = {"forward": 0.3, "backward": 0.42, "optimizer": 0.15, "topology": 0.02, "data": 0.04}
    return {
        "event": "end",
        "status": status,
        "best_accuracy": accuracy + 0.002,
        "final_accuracy": accuracy,
        "seconds": seconds,
        "step_ms": step_ms,
        "inference_ms": step_ms / 4,
        "model_bytes": 4 * NUM_WEIGHTS * min(1, 2 * density),
        "training_bytes": 16 * NUM_WEIGHTS * min(1, 2 * density),
        "peak_rss_bytes": 400_000_000,
        "num_active": round(density * NUM_WEIGHTS),
        "where": {part: share * seconds for part, share in parts.items()},
        "note": note,
    }
