"""Make records of the events of a metrics.jsonl; a wrong value is an error that names its key."""

import math
from collections.abc import Mapping

from gossamer.report.records import Degrees, End, Evaluation, Layer, Start, Update

Event = Mapping[str, object]

_SETUP = {
    "data": "Data",
    "model": "Model",
    "num_steps": "Steps",
    "batch_size": "Batch size",
    "threads": "Threads",
    "machine": "Machine",
    "version": "Gossamer",
    "torch": "PyTorch",
}


def parse_start(event: Event) -> Start:
    """Return the record of a start event."""
    method = _text(event, "method")
    if not method:
        raise ValueError("method is missing in 'start'; it must be the name of a method")
    setup = {title: str(event[key]) for key, title in _SETUP.items() if event.get(key) is not None}
    return Start(
        method=method,
        label=_text(event, "label") or method,
        seed=_count(event, "seed"),
        storage=_text(event, "storage"),
        num_steps=_count(event, "num_steps"),
        num_weights=_count(event, "num_weights"),
        setup=setup,
    )


def parse_evaluation(event: Event) -> Evaluation:
    """Return the record of an evaluation event."""
    return Evaluation(
        step=_required(event, "step"),
        test_accuracy=_number(event, "test_accuracy"),
        seconds=_number(event, "seconds"),
        num_active=_count(event, "num_active"),
    )


def parse_update(event: Event) -> Update:
    """Return the record of an update event."""
    return Update(
        step=_required(event, "step"),
        num_dropped=_required(event, "num_dropped"),
        num_grown=_required(event, "num_grown"),
    )


def parse_layers(event: Event) -> tuple[str, tuple[Layer, ...]]:
    """Return when the layers were looked at, before or after training, and the layers."""
    return _text(event, "when"), tuple(_layer(item) for item in _items(event, "layers"))


def _layer(item: object) -> Layer:
    if not isinstance(item, dict):
        raise ValueError(f"a layer must be an object, not {item!r}")
    shape = tuple(size for size in _items(item, "shape") if isinstance(size, int))
    return Layer(
        name=_text(item, "name"),
        shape=shape,
        num_active=_required(item, "num_active"),
        in_degrees=_degrees(item, "in_degrees"),
        out_degrees=_degrees(item, "out_degrees"),
    )


def _degrees(item: Event, key: str) -> Degrees:
    pairs: list[tuple[int, int]] = []
    for pair in _items(item, key):
        match pair:
            case [int(degree), int(number)]:
                pairs.append((degree, number))
            case _:
                raise ValueError(f"{key} must hold pairs [degree, how many neurons], not {pair!r}")
    return tuple(sorted(pairs))


def parse_end(event: Event) -> End:
    """Return the record of an end event."""
    where = event.get("where")
    parts = where if isinstance(where, dict) else {}
    seconds = {str(part): _number(parts, part) for part in parts}
    return End(
        status=_text(event, "status") or "finished",
        best_accuracy=_number(event, "best_accuracy"),
        final_accuracy=_number(event, "final_accuracy"),
        seconds=_number(event, "seconds"),
        step_ms=_number(event, "step_ms"),
        inference_ms=_number(event, "inference_ms"),
        model_bytes=_number(event, "model_bytes"),
        training_bytes=_number(event, "training_bytes"),
        num_active=_count(event, "num_active"),
        where={part: value for part, value in seconds.items() if value is not None},
        note=_text(event, "note"),
    )


def _number(event: Event, key: str) -> float | None:
    value = event.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} must be a number, not {value!r}")
    # A diverged run writes NaN; it has no accuracy, and a chart leaves a gap.
    return float(value) if math.isfinite(value) else None


def _count(event: Event, key: str) -> int | None:
    value = _number(event, key)
    return None if value is None else int(value)


def _required(event: Event, key: str) -> int:
    value = _count(event, key)
    if value is None:
        raise ValueError(f"{key} is missing in {event.get('event') or 'a layer'!r}; it must be a number")
    return value


def _text(event: Event, key: str) -> str:
    value = event.get(key)
    return "" if value is None else str(value)


def _items(event: Event, key: str) -> list[object]:
    value = event.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{key} must be a list, not {value!r}")
    return value
