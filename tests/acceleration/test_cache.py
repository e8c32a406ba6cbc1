import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gossamer import formats
from gossamer.acceleration import accelerate, cache
from gossamer.acceleration.table import Accelerated
from gossamer.machine import describe_machine

from .architectures import chain


class TimedError(Exception):
    """Something was timed."""


def model_of(sparsity: float = 0.9, *, seed: int = 0) -> nn.Module:
    model, generator = chain(64, 64, 64), torch.Generator().manual_seed(seed)
    for layer in (model[0], model[2]):
        assert isinstance(layer, nn.Linear)
        layer.weight.data = torch.randn(64, 64, generator=generator)
        layer.weight.data *= torch.rand(64, 64, generator=generator) > sparsity
    return model


def run(model: nn.Module, batch: int = 4, **options: Any) -> Accelerated:
    return accelerate(model, torch.ones(batch, 64), seconds=0.02, **options)[1]


@pytest.fixture
def no_timing(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, nothing may be timed."""

    def refuse(*_: Any, **__: Any) -> None:
        raise TimedError

    def begin() -> None:
        monkeypatch.setattr("gossamer.acceleration.contest.interleaved", refuse)
        monkeypatch.setattr("gossamer.acceleration.whole.interleaved", refuse)

    return begin


def test_a_second_call_times_nothing_and_says_the_same(no_timing: Callable[[], None]) -> None:
    first = run(model_of())
    no_timing()
    second = run(model_of())

    assert (first.from_cache, second.from_cache) == (False, True)
    assert second.layers == first.layers
    assert (second.given_ms, second.ms, second.bytes, second.note) == (
        *(first.given_ms, first.ms),
        *(first.bytes, first.note),
    )


@pytest.mark.parametrize(
    "other",
    [
        lambda: run(model_of(seed=1)),
        lambda: run(model_of(), batch=5),
        lambda: accelerate(model_of().double(), torch.ones(4, 64).double()),
        lambda: run(model_of(), formats={"csr": formats.LINEAR["csr"]}),
        lambda: run(model_of(), cache=False),
        lambda: run(nn.Sequential(model_of(), nn.ReLU())),
    ],
    ids=["topology", "batch", "dtype", "formats", "no cache", "model"],
)
def test_another_question_is_measured(other: Callable[[], object], no_timing: Callable[[], None]) -> None:
    run(model_of())
    no_timing()

    with pytest.raises(TimedError):
        other()


def test_other_threads_are_another_question(no_timing: Callable[[], None]) -> None:
    run(model_of())
    no_timing()
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)

    with pytest.raises(TimedError):
        run(model_of())
    torch.set_num_threads(before)


@pytest.mark.parametrize("version", ["torch", "version", "machine"])
def test_another_version_or_machine_is_another_question(
    version: str, no_timing: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(model_of())
    no_timing()
    described = describe_machine()
    monkeypatch.setattr(cache, "describe_machine", lambda: {**described, version: "another"})

    with pytest.raises(TimedError):
        run(model_of())


def _first_layer(fields: dict[str, Any], **changes: Any) -> dict[str, Any]:
    fields["layers"]["0"] |= changes
    return fields


BROKEN: dict[str, Callable[[dict[str, Any]], str]] = {
    "empty": lambda fields: "",
    "half": lambda fields: json.dumps(fields)[:50],
    "no object": lambda fields: "[1, 2]",
    "nothing in it": lambda fields: "{}",
    "deep": lambda fields: "[" * 100_000,
    "no layers": lambda fields: json.dumps({**fields, "layers": {}}),
    "another storage": lambda fields: json.dumps(_first_layer(fields, chosen="rubbish")),
    "times that are words": lambda fields: json.dumps(_first_layer(fields, times_ms={"dense": "long"})),
    "times that are none": lambda fields: json.dumps(_first_layer(fields, times_ms=None)),
    "no model": lambda fields: json.dumps({"layers": fields["layers"]}),
    "a layer that is none": lambda fields: json.dumps({**fields, "model": {**fields["model"], "names": ["9"]}}),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_measured_anew_and_replaced(broken: Callable[[dict[str, Any]], str], cache: Path) -> None:
    run(model_of())
    (file,) = cache.iterdir()
    file.write_text(broken(json.loads(file.read_text())))

    again = run(model_of())

    assert not again.from_cache
    assert list(cache.iterdir()) == [file]
    assert run(model_of()).from_cache


def test_bytes_that_are_no_text_are_a_broken_file(cache: Path) -> None:
    run(model_of())
    (file,) = cache.iterdir()
    file.write_bytes(b"\xff\xfe\x00")

    assert not run(model_of()).from_cache


def test_a_folder_that_cannot_be_made_costs_the_cache_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GOSSAMER_CACHE", str(tmp_path / "file" / "below"))

    assert not run(model_of()).from_cache
    assert not run(model_of()).from_cache


def test_a_choice_that_has_become_wrong_is_measured_anew() -> None:
    state = {"factor": 1.0}

    def hold(layer: nn.Module) -> nn.Module:
        return Times(layer, state)

    first = run(model_of(), formats={"times": hold})
    state["factor"] = 2.0
    second = run(model_of(), formats={"times": hold})

    assert {row.chosen for row in second.layers} == {"dense"}
    assert second.from_cache <= all(row.chosen == "dense" for row in first.layers)


def test_a_model_that_has_changed_its_mind_is_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(contenders: dict[str, Any], *, keep: str, **_: Any) -> dict[str, float]:
        return {name: 4.0 if name in (keep, "given") else 1.0 for name in contenders}

    monkeypatch.setattr("gossamer.acceleration.contest.interleaved", quick)
    monkeypatch.setattr("gossamer.acceleration.whole.interleaved", quick)
    model = Reading(model_of())
    first = run(model)
    monkeypatch.setattr(Reading, "reads", True)
    second = run(model)

    assert first.is_faster
    assert not second.from_cache
    assert "AttributeError" in second.note


class Reading(nn.Module):
    """Asks its layer for a weight, sometimes."""

    reads = False

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.reads:
            inputs = inputs * self.layers[0].weight.isfinite().all()  # type: ignore[index]
        return self.layers(inputs)  # type: ignore[no-any-return]


class Times(nn.Module):
    def __init__(self, layer: nn.Module, state: dict[str, float]) -> None:
        super().__init__()
        self.layer, self.state = layer, state

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs) * self.state["factor"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"GOSSAMER_CACHE": "/one"}, "/one"),
        ({"XDG_CACHE_HOME": "/two"}, "/two/gossamer"),
        ({"HOME": "/three"}, "/three/.cache/gossamer"),
    ],
)
def test_where_the_cache_is(variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOSSAMER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert cache.folder() == Path(expected)
