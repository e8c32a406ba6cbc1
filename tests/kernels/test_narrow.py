"""Products of narrow values against plain float64, however the product is cut."""

import numpy as np
import pytest
import torch
from torch import Tensor

from gossamer import topology
from gossamer.kernels import narrow, panels

from .problem import MASKS

DTYPES = [torch.bfloat16, torch.int8]
BATCHES = [1, 2, 3, 7, 16, 17, 63, 64, 130]


def mask_of(rows: int = 40, columns: int = 150) -> Tensor:
    """Rows of every length from none to full, so that every remainder of a vector occurs."""
    lengths = torch.arange(rows) * columns // (rows - 1)
    order = torch.rand(rows, columns, generator=torch.Generator().manual_seed(1)).argsort(1).argsort(1)
    return order < lengths[:, None]


class Narrow:
    """Operands, and the product in float64."""

    def __init__(self, mask: Tensor, dtype: torch.dtype, batch: int, places: torch.dtype = torch.uint16) -> None:
        generator = torch.Generator().manual_seed(batch)
        found = topology.from_mask(mask)
        self.pointers, self.indices = found.row_pointers, found.column_indices.to(places)
        self.values = torch.randint(-127, 128, (found.num_active,), generator=generator, dtype=torch.int8)
        if dtype != torch.int8:
            self.values = torch.randn(found.num_active, generator=generator).to(dtype)
        self.scales = torch.rand(mask.shape[0], generator=generator) if dtype == torch.int8 else None
        self.bias = torch.randn(mask.shape[0], generator=generator)
        self.x = torch.randn(mask.shape[1], batch, generator=generator)
        self.weight = torch.zeros(mask.shape, dtype=torch.float64)
        self.weight[mask] = self.values.double()
        if self.scales is not None:
            self.weight *= self.scales[:, None].double()

    def product(self) -> Tensor:
        y = torch.full((self.bias.numel(), self.x.shape[1]), torch.nan)
        narrow.multiply(self.pointers, self.indices, self.values, self.scales, self.bias, self.x, y)
        return y

    def check(self, y: Tensor) -> None:
        x, bias = self.x.double(), self.bias.double()[:, None]
        scale = self.weight.abs() @ x.abs() + bias.abs()
        assert bool(((y.double() - (self.weight @ x + bias)).abs() <= 2e-6 * scale).all())


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_every_length_equal_the_plain_product(dtype: torch.dtype, batch: int) -> None:
    problem = Narrow(mask_of(), dtype, batch)

    problem.check(problem.product())


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_odd_shapes_equal_the_plain_product(dtype: torch.dtype, name: str) -> None:
    for batch in (0, 1, 3):
        problem = Narrow(MASKS[name], dtype, batch)
        problem.check(problem.product())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "places"), [(torch.bfloat16, torch.int32), (torch.int8, torch.int64), (torch.float32, torch.uint16)]
)
def test_indices_and_values_of_other_widths_equal_the_plain_product(
    dtype: torch.dtype, places: torch.dtype, batch: int
) -> None:
    problem = Narrow(mask_of(), dtype, batch, places)
    if places == torch.int64:
        problem.pointers = problem.pointers.long()

    problem.check(problem.product())


@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("stripe", [1, 16, 150])
@pytest.mark.parametrize("dtype", DTYPES)
def test_stripes_and_panels_change_no_result(
    dtype: torch.dtype, stripe: int, packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = panels.Plan(
        width=(0, 0),
        stripe=stripe,
        num_stripes=-(-150 // stripe),
        packs=packs,
        num_blocks=3,
        panel_bytes=stripe * 128 if packs else 0,
    )
    monkeypatch.setattr(panels, "plan", lambda **_: cut)

    for batch in (5, 32, 70):
        problem = Narrow(mask_of(), dtype, batch)
        problem.check(problem.product())


@pytest.mark.parametrize("batch", [1, 8, 130])
@pytest.mark.parametrize("dtype", DTYPES)
def test_two_threads_give_the_bits_of_one(dtype: torch.dtype, batch: int) -> None:
    before, results = torch.get_num_threads(), []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append(Narrow(mask_of(200, 300), dtype, batch).product())
    torch.set_num_threads(before)

    assert torch.equal(*results)


@pytest.mark.parametrize("batch", [1, 3, 40])
def test_every_number_of_8_and_of_16_bits_is_widened_exactly(batch: int) -> None:
    whole = torch.arange(-128, 128).to(torch.int8)
    floats = torch.from_numpy(np.arange(1 << 16, dtype=np.uint16)).view(torch.bfloat16)
    for values in (whole, floats[floats.isfinite()]):
        count = values.numel()
        pointers, indices = torch.arange(count + 1, dtype=torch.int32), torch.zeros(count, dtype=torch.uint16)
        y = torch.empty(count, batch)
        narrow.multiply(pointers, indices, values, None, torch.zeros(count), torch.ones(1, batch), y)

        assert torch.equal(y, values.float()[:, None].expand(count, batch))


@pytest.mark.parametrize("batch", [1, 2, 8, 17])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_before_and_behind_the_operands_takes_part(dtype: torch.dtype, batch: int) -> None:
    problem = Narrow(mask_of(), dtype, batch)
    expected = problem.product()
    # Numbers that would show in every sum: those that surround the values in memory.
    filled = torch.full((problem.values.numel() + 64,), 100, dtype=dtype)
    filled[32:-32] = problem.values
    problem.values = filled[32:-32]
    y = torch.full((problem.bias.numel() + 2, batch), 7.0)

    narrow.multiply(problem.pointers, problem.indices, problem.values, problem.scales, problem.bias, problem.x, y[1:-1])
    assert torch.equal(y[1:-1], expected)
    assert bool((y[[0, -1]] == 7).all())
