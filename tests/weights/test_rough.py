"""The rough gradient: its bound holds, and a search through it finds what one through the exact gradient does."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gossamer as gs
from gossamer.growth import gradient, search_loops
from gossamer.nn import SparseLinear
from gossamer.weights import rough, tiles
from gossamer.weights.rough import RoughGradient, rough_gradient
from gossamer.weights.tiles import GradientTiles

KINDS = ["normal", "positive", "heavy", "mostly zero", "columns of all sizes", "tiny", "huge"]


def operands(kind: str, *, samples: int = 40, outputs: int = 83, features: int = 130, seed: int = 0) -> list[Tensor]:
    """Inputs and output gradients."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for size in (features, outputs):
        part = torch.randn(samples, size, generator=generator)
        if kind == "positive":
            part = part.abs()
        elif kind == "heavy":
            part = part * (3 * torch.randn(samples, size, generator=generator)).exp()
        elif kind == "mostly zero":
            part = part * (torch.rand(samples, size, generator=generator) < 0.05)
        elif kind == "columns of all sizes":
            part = part * (6 * torch.randn(size, generator=generator)).exp()
        elif kind in ("tiny", "huge"):
            part = part * (1e-19 if kind == "tiny" else 1e17)
        found.append(part)
    return found


def search(inputs: Tensor, output_grad: Tensor, *, count: int, filtered: bool, seed: int = 0) -> Tensor:
    """Grow with some rows and columns closed."""
    outputs, features = output_grad.shape[1], inputs.shape[1]
    generator = torch.Generator().manual_seed(seed)
    kept = torch.randperm(outputs * features, generator=generator)[: outputs * features // 20].sort().values
    closed = [torch.rand(size, generator=generator) < 0.1 for size in (outputs, features)]
    source = GradientTiles(
        lambda: iter([(0, output_grad.t() @ inputs)]),
        lambda rows, columns: output_grad[:, rows].t() @ inputs[:, columns],
        (outputs, features),
        (lambda: RoughGradient(inputs, output_grad)) if filtered else None,
    )
    return gradient(source, kept, *closed, count=count)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(83, 130), (1, 64), (300, 1), (70, 2050)])
def test_no_number_is_above_its_bound(kind: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rough, "TILE_BYTES", 2 * 16 * 1024)
    inputs, output_grad = operands(kind, outputs=shape[0], features=shape[1])
    exact = (output_grad.double().t() @ inputs.double()).abs()
    found = RoughGradient(inputs, output_grad)

    seen = torch.zeros(shape, dtype=torch.int64)
    for rows in found.rows():
        for left, tile in rows.tiles:
            here = slice(rows.start, rows.start + len(tile)), slice(left, left + tile.shape[1])
            errors = rows.errors[:, None].double() * found.column_errors[left : left + tile.shape[1]]
            assert bool((exact[here] <= 1.004 * tile.abs().double() + errors + 1e-30).all())
            seen[here] += 1
        places = torch.arange(0, len(rows.errors) * shape[1], 3)
        torch.testing.assert_close(
            rows.exact(places).abs().double(),
            exact[rows.start : rows.start + len(rows.errors)].flatten()[places],
            rtol=1e-4,
            atol=float(1e-5 * exact.max()),
        )
    assert bool((seen == 1).all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 40, 700, 6000])
def test_a_search_finds_what_the_exact_one_does(kind: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # In float32 equals are found in one order; powers of two, so that no sum is rounded.
    inputs, output_grad = (part.sign() * part.abs().log2().round().clamp(-8, 8).exp2() for part in operands(kind))
    inputs, output_grad = inputs.nan_to_num(), output_grad.nan_to_num()
    monkeypatch.setattr(tiles, "_LINES", 64)
    monkeypatch.setattr("gossamer.growth.search._UNSURE", 2048)

    found = [search(inputs, output_grad, count=count, filtered=filtered) for filtered in (True, False)]
    assert torch.equal(*found)


@pytest.mark.parametrize("kind", ["normal", "heavy", "columns of all sizes"])
@pytest.mark.parametrize("count", [40, 700])
def test_a_search_among_rounded_sums_finds_what_the_exact_one_does(
    kind: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, output_grad = operands(kind, samples=64, outputs=200, features=300)
    monkeypatch.setattr(tiles, "_LINES", 64)
    kept = torch.arange(0, 200 * 300, 23)
    exact = (output_grad.double().t() @ inputs.double()).abs().flatten()
    exact[kept] = -1.0
    order = exact.argsort(descending=True)
    # Only where rounding in float32 cannot exchange the last one that is wanted with the next.
    while exact[order[count - 1]] - exact[order[count]] < 1e-5 * exact[order[count]]:
        count += 1

    source = GradientTiles(
        lambda: iter([(0, output_grad.t() @ inputs)]),
        lambda rows, columns: output_grad[:, rows].t() @ inputs[:, columns],
        (200, 300),
        lambda: RoughGradient(inputs, output_grad),
    )
    open_rows, open_columns = torch.zeros(200, dtype=torch.bool), torch.zeros(300, dtype=torch.bool)
    found = gradient(source, kept, open_rows, open_columns, count=count)
    assert torch.equal(found, order[:count].sort().values)


# Nothing closed, nothing kept, of 60 rows and 200 columns.
ALL_OPEN: tuple[Any, Any, Any] = np.zeros(60, np.bool_), np.zeros(200, np.bool_), np.empty(0, np.int64)


def low(errors: Tensor, exact: Tensor) -> Tensor:
    """Return a bfloat16 tile with each number as far below the exact one as the bound allows, or a little less."""
    allowed = (exact.abs() - errors).clamp(min=0) / 1.004
    lowest = allowed.bfloat16()
    # Rounded up, so that the bound holds.
    return torch.where(lowest.double() < allowed, lowest.nextafter(torch.full_like(lowest, torch.inf)), lowest)


@pytest.mark.parametrize("kind", KINDS)
def test_the_filter_lists_all_that_may_reach_the_bar(kind: str) -> None:
    inputs, output_grad = operands(kind, outputs=60, features=200)
    exact = (output_grad.double().t() @ inputs.double()).abs()
    bound = RoughGradient(inputs, output_grad)
    groups = [part.max() for part in bound.column_errors.split(search_loops.GROUP)]
    row_errors = torch.cat([rows.errors for rows in bound.rows()])
    column_errors = torch.stack(groups).repeat_interleave(search_loops.GROUP)[:200]
    tile = low(row_errors[:, None].double() * column_errors.double(), exact)
    places = np.empty(60 * 200, np.int64)

    bars = exact.flatten().sort().values[[1, 6000, 11_000, 11_900, 11_990, -1]].float()
    for bar in bars:
        listed: set[int] = set()
        for left, right in ((0, 128), (128, 200)):
            numbers = tile[:, left:right].contiguous().view(torch.uint16).numpy()
            errors = row_errors.numpy(), torch.stack(groups).numpy()
            found, place = search_loops.scan_rough(numbers, 0, left, *errors, *ALL_OPEN, np.float32(bar), places, 0)
            assert place == numbers.size
            listed |= set(places[:found].tolist())
        assert set((exact.flatten() >= float(bar)).nonzero().flatten().tolist()) <= listed


def test_the_filter_rules_out_most_of_what_is_small() -> None:
    inputs, output_grad = operands("normal", samples=128, outputs=60, features=200)
    bound = RoughGradient(inputs, output_grad)
    [rows] = bound.rows()
    [(_, tile)] = rows.tiles
    errors = np.maximum.reduceat(bound.column_errors.numpy(), np.arange(0, 200, search_loops.GROUP))
    bar = (output_grad.t() @ inputs).abs().flatten().sort().values[-120]

    numbers = tile.view(torch.uint16).numpy(), 0, 0, rows.errors.numpy(), errors
    found, _ = search_loops.scan_rough(*numbers, *ALL_OPEN, np.float32(bar), np.empty(60 * 200, np.int64), 0)
    assert 120 <= found < 600


def test_a_nan_is_refused_through_the_filter_too() -> None:
    inputs, output_grad = operands("normal", outputs=200, features=300)
    output_grad[3, 150] = float("nan")

    with pytest.raises(ValueError, match="NaN"):
        search(inputs, output_grad, count=50, filtered=True)
    assert not RoughGradient(inputs, output_grad).is_bounded


@pytest.mark.parametrize("why", ["few samples", "few entries", "float64", "no bound", "no hardware"])
def test_where_it_would_not_be_sooner_or_has_no_bound_there_is_none(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rough, "has_matrix_units", lambda: why != "no hardware")
    monkeypatch.setattr(rough, "_FEW_ENTRIES", 100_000 if why == "few entries" else 100)
    inputs, output_grad = operands("normal", samples=31 if why == "few samples" else 32)
    if why == "float64":
        inputs, output_grad = inputs.double(), output_grad.double()
    elif why == "no bound":
        inputs[2, 7] = float("inf")
    assert rough_gradient(inputs, output_grad) is None

    monkeypatch.setattr(rough, "has_matrix_units", lambda: True)
    monkeypatch.setattr(rough, "_FEW_ENTRIES", 100)
    assert rough_gradient(*operands("normal", samples=32)) is not None


@pytest.mark.parametrize("calls", [1, 2])
def test_rigl_grows_the_same_weights_with_it(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[Tensor] = []
    used: list[object] = []
    monkeypatch.setattr(rough, "_FEW_ENTRIES", 100)
    monkeypatch.setattr(rough.RoughGradient, "rows", watched(rough.RoughGradient.rows, used))
    for filtered in (True, False):
        monkeypatch.setattr(rough, "has_matrix_units", lambda filtered=filtered: filtered)
        layer = SparseLinear(90, 110, sparsity=0.9, generator=torch.Generator().manual_seed(0))
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
        sparsifier = gs.recipes.rigl(layer, optimizer, update_every=2, stop_step=9, generator=torch.Generator())
        for number in range(8):
            optimizer.zero_grad()
            generator = torch.Generator().manual_seed(number)
            for _ in range(calls):
                layer(torch.randn(40, 90, generator=generator)).square().sum().backward()
            optimizer.step()
            sparsifier.step()
        masks.append(sparsifier.weights[0].indices())
    assert torch.equal(*masks)
    # The sum of several passes is searched tile by tile.
    assert bool(used) == (calls == 1)


def watched(method: Any, used: list[object]) -> Any:
    def call(self: Any) -> Any:
        used.append(self)
        return method(self)

    return call
