from itertools import pairwise

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.kernels import cpu

from .problem import BATCHES, make, ragged

_FEW = settings(deadline=None, max_examples=60, derandomize=True)


@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize(
    ("num_bytes", "chunks"), [(0, 1), (8, 1), (64, 1), (72, 2), (128, 2), (136, 4), (256, 4), (264, 8), (10**6, 8)]
)
def test_a_tile_is_the_narrowest_that_covers_the_batch(
    num_bytes: int, chunks: int, itemsize: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "_WIDEST", 8)

    assert len(cpu.tile_width(num_bytes // itemsize, itemsize)) == chunks


@pytest.mark.parametrize(
    ("features", "name", "chunks"),
    [("+avx2,+avx512f", None, 8), ("+avx2,-avx512f", None, 4), ("", None, 4), (None, "generic", 4)],
)
def test_the_widest_tile_follows_the_processor(
    features: str | None, name: str | None, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CPU_FEATURES", features)
    monkeypatch.setattr(numba.config, "CPU_NAME", name)

    assert cpu._widest() == chunks


@_FEW
@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 9))
def test_blocks_cover_every_row_once_and_share_the_work(entries: list[int], num_blocks: int) -> None:
    pointers = np.concatenate([[0], np.cumsum(entries)]).astype(np.int32)
    starts = [int(cpu.first_row(pointers, block, num_blocks)) for block in range(num_blocks + 1)]
    work = [4 + count for count in entries]

    assert (starts[0], starts[-1]) == (0, len(entries))
    assert starts == sorted(starts)
    for start, stop in pairwise(starts):
        assert sum(work[start:stop]) <= sum(work) / num_blocks + max(work, default=0)


@pytest.mark.parametrize("chunks", [1, 4])
def test_nothing_is_written_beside_a_result(chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The next row would hide what spills over its start; behind the last row nothing does.
    monkeypatch.setattr(cpu, "_WIDEST", chunks)
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
