from itertools import pairwise

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer.kernels import blocks, cpu, panels
from gossamer.kernels.simd import width_bytes

from .problem import BATCHES, MASKS, make, ragged

_FEW = settings(deadline=None, max_examples=60, derandomize=True)


@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize(
    ("num_bytes", "tile_bytes"),
    [
        (0, 16),
        (8, 16),
        (16, 16),
        (24, 32),
        (32, 32),
        (40, 64),
        (64, 64),
        (72, 128),
        (136, 256),
        (264, 512),
        (10**6, 512),
    ],
)
def test_a_tile_is_the_narrowest_that_covers_the_batch(num_bytes: int, tile_bytes: int, itemsize: int) -> None:
    assert width_bytes(panels.tile_width(num_bytes // itemsize, itemsize, 8)) == tile_bytes


@pytest.mark.parametrize(
    ("features", "name", "chunks"),
    [("+avx2,+avx512f", None, 8), ("+avx2,-avx512f", None, 4), ("", None, 4), (None, "generic", 4)],
)
def test_the_widest_tile_follows_the_processor(
    features: str | None, name: str | None, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CPU_FEATURES", features)
    monkeypatch.setattr(numba.config, "CPU_NAME", name)

    assert panels.widest_tile() == chunks


@_FEW
@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 9))
def test_blocks_cover_every_row_once_and_share_the_work(entries: list[int], num_blocks: int) -> None:
    pointers = np.concatenate([[0], np.cumsum(entries)]).astype(np.int32)
    starts = [int(blocks.first_row(pointers, block, num_blocks)) for block in range(num_blocks + 1)]
    work = [4 + count for count in entries]

    assert (starts[0], starts[-1]) == (0, len(entries))
    assert starts == sorted(starts)
    for start, stop in pairwise(starts):
        assert sum(work[start:stop]) <= sum(work) / num_blocks + max(work, default=0)


def _cut(monkeypatch: pytest.MonkeyPatch, *, chunks: int, stripe: int, packs: bool) -> None:
    """Make every product be cut like this, whatever its size."""

    def plan(rows: int, gathered: int, active: int, batch: int, x: Tensor, *, rotates: bool = False) -> panels.Plan:
        return panels.Plan(
            width=(0,) * chunks,
            stripe=stripe or max(1, gathered),
            num_stripes=-(-gathered // stripe) if stripe else 1,
            packs=packs,
            num_blocks=3,
            panel_bytes=(stripe or max(1, gathered)) * chunks * 64 if packs else 0,
        )

    monkeypatch.setattr(cpu, "_plan", plan)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("stripe", [0, 1, 5, 16])
@pytest.mark.parametrize("name", ["ragged", "nothing", "no inputs", "no outputs", "one full row", "last entry alone"])
def test_stripes_and_panels_change_no_result(
    name: str, stripe: int, packs: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cut(monkeypatch, chunks=2, stripe=stripe, packs=packs)
    for batch in (0, 1, 16, 17, 40, 63, 64):
        problem = make(MASKS[name], batch, dtype)

        for op in ("sparse_linear", "sparse_linear_backward", "sparse_linear_grad_input"):
            problem.check(op, problem.run(op))


@pytest.mark.parametrize(
    ("sizes", "packs"),
    [
        ({"rows": 4096, "gathered": 1024, "active": 420_000, "batch": 128}, False),  # one tile: nothing to gain
        ({"rows": 4096, "gathered": 1024, "active": 420_000, "batch": 512}, True),
        ({"rows": 4096, "gathered": 1024, "active": 4_200, "batch": 512}, False),  # a row of the panel is hardly used
        ({"rows": 4096, "gathered": 1024, "active": 420_000, "batch": 100}, True),  # instead of masked loads
        ({"rows": 10**7, "gathered": 10**7, "active": 10**8, "batch": 100}, True),
        ({"rows": 10**7, "gathered": 10**7, "active": 10**7, "batch": 100}, False),
    ],
)
def test_a_panel_is_made_where_it_is_used_often(sizes: dict[str, int], packs: bool) -> None:
    assert panels.plan(**sizes, itemsize=4, team=2, widest=8).packs == packs


@_FEW
@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 10**6), st.integers(0, 600), st.sampled_from([4, 8]))
def test_stripes_cover_what_is_gathered(rows: int, gathered: int, active: int, batch: int, itemsize: int) -> None:
    cut = panels.plan(rows=rows, gathered=gathered, active=active, batch=batch, itemsize=itemsize, team=2, widest=8)

    assert (cut.num_stripes - 1) * cut.stripe < max(1, gathered) <= cut.num_stripes * cut.stripe
    assert 2 <= cut.num_blocks <= 8
    assert cut.panel_bytes == (cut.stripe * width_bytes(cut.width) if cut.packs else 0)


@pytest.mark.parametrize("chunks", [1, 4])
def test_nothing_is_written_beside_a_result(chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The next row would hide what spills over its start; behind the last row nothing does.
    monkeypatch.setattr(panels, "WIDEST", chunks)
    for batch in BATCHES:
        problem = make(ragged(), batch, torch.float32)
        assert problem.bias is not None
        pointers, columns, column_pointers, rows, places = problem.index
        values, bias, x, grad = problem.values, problem.bias, problem.x, problem.grad
        y, grad_x = torch.full((25, batch), 7.0), torch.full((19, batch), 7.0)
        grad_values, sampled = torch.full((2, values.numel() + 2), 7.0)

        cpu.multiply(pointers, columns, values, bias, x, y[1:-1])
        cpu.sample(pointers, columns, grad, x, sampled[1:-1])
        cpu.backward(column_pointers, rows, places, values, x, grad, grad_x[1:-1], grad_values[1:-1])

        assert all(bool((part[[0, -1]] == 7).all()) for part in (y, grad_x, grad_values, sampled))


def test_columns_that_begin_with_different_stripes_have_the_same_bits_on_any_number_of_threads() -> None:
    problem = make(torch.ones(400, 40).bool(), 100, torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for team in (1, 2, 3):
            torch.set_num_threads(team)
            results.append(problem.run("sparse_linear_backward"))
    finally:
        torch.set_num_threads(before)

    cut = panels.plan(
        rows=40, gathered=400, active=16_000, batch=100, itemsize=4, team=2, widest=panels.WIDEST, rotates=True
    )
    assert cut.num_stripes == 4
    assert all(torch.equal(*pair) for other in results[1:] for pair in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize(
    "name", ["ragged", "large", "nothing", "one full row", "one full column", "no inputs", "one input"]
)
def test_a_single_sample_that_is_mostly_zero_gives_the_product_too(name: str, share: float, dtype: torch.dtype) -> None:
    mask = torch.rand(300, 200, generator=torch.Generator().manual_seed(2)) < 0.1 if name == "large" else MASKS[name]
    problem = make(mask, 1, dtype)
    problem.x[torch.rand(problem.x.shape, generator=torch.Generator().manual_seed(3)) >= share] = 0.0
    before, results = torch.get_num_threads(), []
    try:
        for team in (1, 2, 3):
            torch.set_num_threads(team)
            results.append(problem.run("sparse_linear"))
    finally:
        torch.set_num_threads(before)

    problem.check("sparse_linear", results[0])
    assert all(torch.equal(results[0][0], other[0]) for other in results[1:])


def test_a_single_sample_that_is_mostly_zero_skips_the_weights_of_zeros() -> None:
    problem = make(torch.ones(30, 40).bool(), 1, torch.float32)
    problem.x[1:] = 0.0
    values = problem.values.view(30, 40)
    values[:, 1:] = float("nan")

    (result,) = problem.run("sparse_linear")

    assert problem.bias is not None
    torch.testing.assert_close(result[:, 0], values[:, 0] * problem.x[0, 0] + problem.bias)
