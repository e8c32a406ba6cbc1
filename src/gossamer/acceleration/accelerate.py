"""Put each layer of a model into the storage in which it is fastest here, and prove that the whole is faster."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gossamer import formats as storages
from gossamer.acceleration import cache as kept
from gossamer.acceleration.calls import run, watched
from gossamer.acceleration.contest import Rival, Verdict, judge, rivals
from gossamer.acceleration.subjects import Subject, layers_of, subject
from gossamer.acceleration.table import Accelerated, LayerTimes
from gossamer.acceleration.whole import Settled, copied, fault, settle

# What of the time goes to the layers; the rest to the whole model.
_FOR_LAYERS = 0.6
# What formats that round may change where they are named and no tolerance is: int8 takes about half of it.
_TOLERANCE = 0.02


class _Outcome(NamedTuple):
    """All that was measured, and all that the cache keeps."""

    verdicts: dict[str, Verdict]
    settled: Settled


def accelerate(
    model: nn.Module,
    example_input: Any,
    *,
    formats: Mapping[str, storages.Hold] | Sequence[str] | None = None,
    cache: bool = True,
    seconds: float = 10.0,
    tolerance: float | None = None,
) -> tuple[nn.Module, Accelerated]:
    """Return a copy of a model that infers faster, and a table of what was measured; never a slower model.

    Each linear layer and convolution with zeros, masked or truly sparse, is timed in every storage that can hold it,
    with inputs of the shapes and strides that the example brings it. One that is 5 % faster than the layer given takes
    its place. Then the whole model is timed against the one given, and what does not make it faster is taken back.

    Args:
        model: any module, which is left as it is. It is measured in evaluation mode; the copy has the modes of the
            model.
        example_input: what the model is called with in use, its batch above all; a tuple or a dict is taken apart into
            arguments.
        formats: names of formats, see `gossamer.formats.LINEAR` and `ROUNDED`; or name -> function that holds a truly
            sparse layer otherwise, or returns None. None: all that compute the same, and with a tolerance those too
            that round the weight.
        cache: whether to use, and to keep, what was measured for the same layers, shapes, threads, versions and
            machine: in $GOSSAMER_CACHE, or else in the user's cache folder.
        seconds: about how long to time, > 0. Compiling kernels for the first time, and five passes of everything, may
            take longer.
        tolerance: difference that is accepted where values are rounded, in (0, 1), as a fraction of a layer's largest
            output; for the outputs of the model it adds up over the layers. None: 0.02 where such formats are named.

    Returns:
        The copy, for inference: its changed layers may have no parameters to train. And the table, to be printed.

    Raises:
        ValueError: seconds is not above 0, tolerance lies outside (0, 1), or no format has a name given.

    Example:
        >>> model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
        >>> model[0].weight.data.view(-1)[torch.arange(256 * 256) % 10 > 0] = 0
        >>> fast, table = accelerate(model, torch.zeros(32, 256), cache=False, seconds=0.1)
        >>> [row.layer for row in table.layers], table.layers[1].reason
        (['0', '2'], 'none of its weights is zero')

    Cost: `seconds`, and the memory of two copies of the model's buffers and of each layer in each storage.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"seconds must be above 0 and finite, got {seconds}; 10 is the default")
    if tolerance is not None and not 0 < tolerance < 1:
        raise ValueError(f"tolerance must be in (0, 1), got {tolerance}; leave it out for results that are not rounded")
    allowed = _allowed(formats, tolerance)
    tolerance = _TOLERANCE if tolerance is None else tolerance
    with torch.random.fork_rng(devices=[]):
        subjects = _subjects(model, example_input)
        open_ = [one for one in subjects if not one.reason]
        others = {one.name: rivals(one, allowed, tolerance=tolerance) for one in open_}
        path = kept.path_of(_question(model, example_input, open_, allowed, tolerance)) if cache and open_ else None
        outcome = _remembered(path, model, others, example_input, open_, tolerance) if path else None
        from_cache = outcome is not None
        if outcome is None:
            outcome = _measured(model, others, example_input, open_, seconds, tolerance)
            if path:
                kept.write(path, _as_json(outcome))
    modules = dict(model.named_modules())
    changed = {
        name: others[name][outcome.verdicts[name].chosen].layer.train(modules[name].training)
        for name in outcome.settled.names
    }
    fast = copied(model, changed, sharing=False)
    return fast, _table(model, fast, subjects, others, outcome, from_cache=from_cache)


def _allowed(
    formats: Mapping[str, storages.Hold] | Sequence[str] | None, tolerance: float | None
) -> Mapping[str, storages.Hold] | None:
    """The formats to try by name; None for those of each layer's kind."""
    if formats is None:
        # Those that round hold linear layers, which any kind of layer that they cannot hold passes by.
        return None if tolerance is None else {**storages.LINEAR, **storages.ROUNDED}
    if isinstance(formats, Mapping):
        return formats
    every = {**storages.LINEAR, **storages.ROUNDED}
    if isinstance(formats, str) or (unknown := [name for name in formats if name not in every]):
        given = formats if isinstance(formats, str) else ", ".join(unknown)
        raise ValueError(f"formats has {given!r}; give some of {', '.join(every)} as a tuple, or functions by name")
    return {name: every[name] for name in formats}


def _subjects(model: nn.Module, example: Any) -> list[Subject]:
    reference = copied(model, {}, sharing=True).eval()
    layers = layers_of(reference)
    # Hooks that are the user's own are told from those that watch here.
    _, calls = watched(reference, layers, example)
    return [subject(reference, name, layer, calls[name]) for name, layer in layers.items()]


def _measured(
    model: nn.Module,
    others: Mapping[str, Mapping[str, Rival]],
    example: Any,
    open_: Sequence[Subject],
    seconds: float,
    tolerance: float,
) -> _Outcome:
    share = _FOR_LAYERS * seconds / max(1, len(open_))
    verdicts = {one.name: judge(one, others[one.name], seconds=share) for one in open_}
    given = {one.name: one.given for one in open_}
    better = {name: verdict for name, verdict in verdicts.items() if verdict.chosen != given[name]}
    chosen = {name: others[name][verdict.chosen] for name, verdict in better.items()}
    layers = {name: rival.layer for name, rival in chosen.items()}
    savings = {name: verdict.saved_ms(given[name]) for name, verdict in better.items()}
    settled = settle(
        model,
        layers,
        savings,
        example,
        seconds=(1 - _FOR_LAYERS) * seconds,
        tolerance=tolerance * _num_rounded(chosen),
    )
    for name in better.keys() - set(settled.names):
        verdicts[name] = verdicts[name]._replace(
            chosen=given[name], reason=f"{verdicts[name].chosen} alone is faster, not in the whole model"
        )
    return _Outcome(verdicts, settled)


def _num_rounded(chosen: Mapping[str, Rival]) -> int:
    return sum(rival.rounds for rival in chosen.values())


def _remembered(
    path: Any,
    model: nn.Module,
    others: Mapping[str, Mapping[str, Rival]],
    example: Any,
    open_: Sequence[Subject],
    tolerance: float,
) -> _Outcome | None:
    """What an earlier call measured, if it is whole and what it chose still computes the same."""
    outcome = _from_json(kept.read(path))
    names = {one.name for one in open_}
    if outcome is None or outcome.verdicts.keys() != names or not names.issuperset(outcome.settled.names):
        return None
    for one in open_:
        chosen = outcome.verdicts[one.name].chosen
        if (one.name in outcome.settled.names) != (chosen != one.given):
            return None
        if chosen != one.given and chosen not in others[one.name]:
            return None
    taken = {name: others[name][outcome.verdicts[name].chosen] for name in outcome.settled.names}
    trial = copied(model, {name: rival.layer for name, rival in taken.items()}, sharing=True).eval()
    expected = run(copied(model, {}, sharing=True).eval(), example)
    return None if fault(trial, example, expected, tolerance=tolerance * _num_rounded(taken)) else outcome


def _question(
    model: nn.Module,
    example: Any,
    open_: Sequence[Subject],
    formats: Mapping[str, storages.Hold] | None,
    tolerance: float,
) -> dict[str, Any]:
    inputs = [leaf for leaf in tree_leaves(example) if isinstance(leaf, Tensor)]
    tried = formats if formats is not None else {}
    return {
        "model": repr(model),
        "parameters": [[name, list(part.shape), str(part.dtype)] for name, part in model.named_parameters()],
        "device": str(next((part.device for part in model.parameters()), "cpu")),
        "inputs": [[list(part.shape), list(part.stride()), str(part.dtype)] for part in inputs],
        "layers": [one.describe() for one in open_],
        "formats": [sorted(one.kind.formats) for one in open_] if formats is None else None,
        "own_formats": {name: f"{hold.__module__}.{hold.__qualname__}" for name, hold in tried.items()},
        "tolerance": tolerance,
    }


def _as_json(outcome: _Outcome) -> dict[str, Any]:
    return {
        "layers": {name: verdict._asdict() for name, verdict in outcome.verdicts.items()},
        "model": outcome.settled._asdict(),
    }


def _from_json(fields: dict[str, Any] | None) -> _Outcome | None:
    """The outcome that a file holds; None where it is anything else."""
    if fields is None:
        return None
    try:
        verdicts = {
            str(name): Verdict(
                str(row["chosen"]), {str(key): float(ms) for key, ms in row["times_ms"].items()}, str(row["reason"])
            )
            for name, row in fields["layers"].items()
        }
        whole = fields["model"]
        given, result = (None if whole[key] is None else float(whole[key]) for key in ("given_ms", "ms"))
        return _Outcome(verdicts, Settled(tuple(map(str, whole["names"])), given, result, str(whole["note"])))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _table(
    model: nn.Module,
    fast: nn.Module,
    subjects: Sequence[Subject],
    others: Mapping[str, Mapping[str, Rival]],
    outcome: _Outcome,
    *,
    from_cache: bool,
) -> Accelerated:
    changed = dict(fast.named_modules())
    rows = []
    for one in subjects:
        verdict = outcome.verdicts.get(one.name, Verdict(one.given, {}, one.reason))
        rival = others.get(one.name, {}).get(verdict.chosen, Rival(one.layer))
        rows.append(
            LayerTimes(
                layer=one.name,
                sparsity=one.sparsity,
                given=one.given,
                chosen=verdict.chosen,
                times_ms=verdict.times_ms,
                given_bytes=storages.held_bytes(one.layer),
                bytes=storages.held_bytes(changed[one.name]),
                reason=verdict.reason,
                rounded=rival.rounds,
                difference=rival.difference,
            )
        )
    note = outcome.settled.note if subjects else f"{type(model).__name__} has no layer that can be held otherwise"
    return Accelerated(
        layers=tuple(rows),
        given_ms=outcome.settled.given_ms,
        ms=outcome.settled.ms,
        given_bytes=storages.held_bytes(model),
        bytes=storages.held_bytes(fast),
        from_cache=from_cache,
        note=note,
    )
