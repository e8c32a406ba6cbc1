from typing import Any

import numpy as np
import pytest
import torch
from numba import njit

from gossamer.kernels import simd, simd_math
from gossamer.kernels.simd import CHUNK_BYTES

# Numba's types are none that mypy knows.
load: Any = simd.load
store: Any = simd.store
sigmoid: Any = simd_math.sigmoid
tanh: Any = simd_math.tanh
where_positive: Any = simd_math.where_positive


@njit
def _apply(which: int, x: Any, y: Any, width: Any, lanes: int) -> None:
    for column in range(0, x.shape[1], lanes):
        tile = load(x, 0, column, width)
        if which == 0:
            store(y, 0, column, sigmoid(tile))
        elif which == 1:
            store(y, 0, column, tanh(tile))
        else:
            store(y, 0, column, where_positive(tile, tile))


def _result(which: int, x: Any) -> Any:
    y = np.empty_like(x)
    _apply(which, x[None], y[None], (0,), CHUNK_BYTES // x.itemsize)
    return y


def _numbers(dtype: Any) -> Any:
    draws = np.random.default_rng(0).standard_normal(1024)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, -1e-30, 1e30] * 16)
    return np.concatenate([*(draws * scale for scale in (1e-6, 0.1, 1, 5, 30, 1000)), special]).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("which", "name"), [(0, "sigmoid"), (1, "tanh"), (2, "relu")])
def test_activations_are_right_to_a_few_units_in_the_last_place(which: int, name: str, dtype: Any) -> None:
    x = _numbers(dtype)
    expected = getattr(torch, name)(torch.from_numpy(x).double()).numpy()
    found = _result(which, x)
    number = ~np.isnan(x) & np.isfinite(expected)
    # Where the sigmoid is nothing beside 1 it need not have digits: it is cut off at exp(-40) or exp(-80).
    error = np.abs(found[number] - expected[number])
    scale = np.abs(expected[number]) + (1e-10 if which == 0 else 0.0)

    assert np.array_equal(np.isnan(found), np.isnan(x))
    assert bool((error <= 4 * np.finfo(dtype).eps * scale + np.finfo(dtype).tiny).all())
