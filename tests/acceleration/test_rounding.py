"""Formats that round are chosen only where the caller says so, and the table says so too."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn

from gossamer import formats
from gossamer.acceleration import accelerate

from .architectures import chain


@pytest.fixture(autouse=True)
def _rounding_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever rounds is fastest: these tests are not about time."""

    def taken(contenders: Mapping[str, Callable[[], object]], *, keep: str, **_: Any) -> dict[str, float]:
        return {name: 4.0 if name in (keep, "given") else 1.0 + (name in formats.LINEAR) for name in contenders}

    monkeypatch.setattr("gossamer.acceleration.contest.interleaved", taken)
    monkeypatch.setattr("gossamer.acceleration.whole.interleaved", taken)


def model_of() -> nn.Module:
    """Two layers with a tenth of their weights."""
    model, generator = chain(64, 64, 64), torch.Generator().manual_seed(0)
    for layer in (model[0], model[2]):
        assert isinstance(layer, nn.Linear)
        layer.weight.data = torch.randn(64, 64, generator=generator)
        layer.weight.data *= torch.rand(64, 64, generator=generator) > 0.9
    return model


EXAMPLE = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))


def chosen(model: nn.Module, **options: Any) -> list[str]:
    """The storage of each layer."""
    return [row.chosen for row in accelerate(model, EXAMPLE, cache=False, **options)[1].layers]


def test_nothing_is_rounded_unasked() -> None:
    model = model_of()
    fast, table = accelerate(model, EXAMPLE, cache=False)

    assert not {row.chosen for row in table.layers} & formats.ROUNDED.keys()
    assert not any(name in formats.ROUNDED for row in table.layers for name in row.times_ms)
    assert not any(row.rounded for row in table.layers)
    assert torch.allclose(fast(EXAMPLE), model(EXAMPLE), atol=1e-4)


@pytest.mark.parametrize("name", formats.ROUNDED)
def test_a_format_that_is_named_is_taken_and_the_table_tells_the_difference(name: str) -> None:
    model = model_of()
    fast, table = accelerate(model, EXAMPLE, formats=("csr", name), cache=False)
    row = table.layers[0]
    expected = model[0](EXAMPLE)  # type: ignore[index]
    apart = (fast[0](EXAMPLE) - expected).abs().max() / expected.abs().max()  # type: ignore[index]

    assert [each.chosen for each in table.layers] == [name, name]
    assert (row.rounded, row.reason) == (True, "")
    assert 0 < row.difference < 0.02
    assert 0 < apart < 0.02
    assert str(table).count("values are rounded: outputs differ by up to 0.") == 2
    assert row.bytes < row.given_bytes


def test_a_tolerance_opens_the_formats_that_round_and_closes_them() -> None:
    assert set(chosen(model_of(), tolerance=0.05)) <= formats.ROUNDED.keys()
    assert not set(chosen(model_of(), tolerance=1e-6)) & formats.ROUNDED.keys()
    assert chosen(model_of(), formats=("csr", "int8"), tolerance=1e-6) == ["csr", "csr"]


def test_a_tolerance_is_for_formats_that_round_alone() -> None:
    def wrong(layer: nn.Module) -> nn.Module | None:
        held = formats.LINEAR["dense"](layer)
        assert isinstance(held, nn.Linear)
        held.weight.data *= 1.001
        return held

    assert chosen(model_of(), formats={"wrong": wrong}, tolerance=0.5) == ["dense", "dense"]


def test_what_was_measured_is_kept_for_each_tolerance() -> None:
    model, named = model_of(), ("csr", "bfloat16")
    _, first = accelerate(model, EXAMPLE, formats=named)
    _, again = accelerate(model, EXAMPLE, formats=named)
    _, other = accelerate(model, EXAMPLE, formats=named, tolerance=0.1)

    assert (first.from_cache, again.from_cache, other.from_cache) == (False, True, False)
    assert again.layers == first.layers
    assert again.layers[0].rounded


@pytest.mark.parametrize("tolerance", [0.0, -0.1, 1.0, float("nan")])
def test_a_tolerance_that_accepts_nothing_or_everything_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match=r"tolerance must be in \(0, 1\)"):
        accelerate(model_of(), EXAMPLE, tolerance=tolerance)


@pytest.mark.parametrize("names", [("csr", "float8"), "csr", ["float8"]])
def test_formats_that_do_not_exist_are_refused(names: Any) -> None:
    with pytest.raises(ValueError, match=r"formats has .*give some of dense, csr.*bfloat16, int8"):
        accelerate(model_of(), EXAMPLE, formats=names)
