from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from gossamer import topology
from gossamer.kernels import lookup

from .problem import MASKS, ragged

Table = tuple[Tensor, Tensor]


@pytest.fixture(autouse=True)
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch.set_num_threads
    torch.set_num_threads(before)


def _table(mask: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Table, Tensor]:
    """Values, topology and the dense table."""
    places = topology.from_mask(mask)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(places.num_active, generator=generator, dtype=torch.float64).to(dtype)
    dense = torch.zeros(mask.shape, dtype=dtype)
    dense[mask] = values
    return values, (places.row_pointers, places.column_indices), dense


def _indices(rows: int, count: int) -> Tensor:
    return torch.randint(max(rows, 1), (count if rows else 0,), generator=torch.Generator().manual_seed(count))


def _both(mask: Tensor, indices: Tensor, dtype: torch.dtype, padding: int = -1) -> list[tuple[Tensor, Tensor]]:
    """Result and gradient of the values: of the kernel, the registered operator, plain PyTorch and the dense table."""
    values, index, dense = _table(mask, dtype)
    width = mask.shape[1]
    grad = torch.randn(len(indices), width, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda values: lookup.look_up(indices, values, index, width=width, padding=padding),
        lambda values: torch.ops.gossamer.sparse_embedding(indices.long(), values, *index, width, padding),
        lambda values: lookup.plain(indices.long(), values, *index, width, padding),
    ]
    results = []
    for function in functions:
        leaf = values.clone().requires_grad_()
        result = function(leaf)
        results.append((result.detach(), torch.autograd.grad(result, leaf, grad)[0]))
    expected = torch.zeros(mask.shape, dtype=torch.float64).index_add(0, indices.long(), grad.double())
    if padding >= 0:
        expected[padding] = 0
    return [*results, (dense[indices.long()], expected[mask])]


@pytest.mark.parametrize("count", [0, 1, 5, 64, 65, 300])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_every_table_gives_what_the_dense_one_gives(mask: Tensor, count: int) -> None:
    *found, (rows, grads) = _both(mask, _indices(mask.shape[0], count), torch.float64)

    for result, grad in found:
        assert torch.equal(result, rows)
        torch.testing.assert_close(grad, grads, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype_moves_the_bits_and_adds_in_float32_at_least(dtype: torch.dtype) -> None:
    found, registered, _, (rows, grads) = _both(ragged(), _indices(23, 300), dtype)

    for result, grad in (found, registered):
        assert torch.equal(result, rows)
        assert grad.dtype == dtype
        scale = torch.finfo(dtype).eps * float(grads.abs().max())
        assert bool(((grad.double() - grads).abs() <= 4 * scale).all())


@pytest.mark.parametrize("padding", [0, 9, 22])
def test_the_padding_row_comes_out_and_gets_no_gradient(padding: int) -> None:
    *found, (rows, grads) = _both(ragged(), _indices(23, 300), torch.float64, padding)

    for result, grad in found:
        assert torch.equal(result, rows)
        torch.testing.assert_close(grad, grads, rtol=1e-12, atol=1e-12)


def test_indices_of_both_widths_give_the_same_bits() -> None:
    narrow, wide = (_both(ragged(), _indices(23, 65).to(kind), torch.float32) for kind in (torch.int32, torch.int64))

    assert all(
        torch.equal(*pair) for one, other in zip(narrow, wide, strict=True) for pair in zip(one, other, strict=True)
    )


def test_a_topology_of_64_bits_gives_the_same_bits() -> None:
    values, index, _ = _table(ragged(), torch.float32)
    wide = (index[0].long(), index[1].long())
    indices = _indices(23, 65)
    leaves = [values.clone().requires_grad_() for _ in range(2)]

    results = [
        lookup.look_up(indices, leaf, table, width=17) for leaf, table in zip(leaves, (index, wide), strict=True)
    ]
    grads = [torch.autograd.grad(out.square().sum(), leaf)[0] for out, leaf in zip(results, leaves, strict=True)]

    assert torch.equal(*results)
    assert torch.equal(*grads)


def test_the_number_of_threads_changes_no_bit(threads: Callable[[int], None]) -> None:
    results = []
    for count in (1, 2, 3, 1):
        threads(count)
        results.append(_both(ragged(61, 47), _indices(61, 1000), torch.float32)[0])

    assert all(torch.equal(*pair) for other in results[1:] for pair in zip(results[0], other, strict=True))


def test_operands_need_not_be_contiguous() -> None:
    values, index, dense = _table(ragged())
    indices = _indices(23, 60)[::2]
    leaf = values.repeat_interleave(2)[::2].requires_grad_()

    result = lookup.look_up(indices, leaf, index, width=17)
    (grad,) = torch.autograd.grad(result.sum(), leaf)

    assert torch.equal(result, dense[indices])
    assert torch.equal(grad, torch.bincount(indices, minlength=23).double()[:, None].expand(23, 17)[ragged()])


@pytest.mark.parametrize("padding", [-1, 2])
def test_gradients_are_right_to_second_order(padding: int) -> None:
    values, index, _ = _table(ragged()[:6, :5])
    indices = torch.tensor([2, 5, 2, 0])

    def function(leaf: Tensor) -> Tensor:
        return lookup.look_up(indices, leaf, index, width=5, padding=padding).pow(2)

    kept = torch.repeat_interleave(index[0].diff().long()) != padding
    numeric = torch.autograd.functional.jacobian(function, values)
    assert bool((numeric[..., ~kept] == 0).all())
    if padding < 0:  # a row without a gradient is no true derivative
        assert torch.autograd.gradcheck(function, values.requires_grad_())
        assert torch.autograd.gradgradcheck(function, values)


def test_torch_finds_no_fault_in_the_registration() -> None:
    values, index, _ = _table(ragged(), torch.float32)
    indices = _indices(23, 7)

    torch.library.opcheck(
        torch.ops.gossamer.sparse_embedding.default, (indices, values.requires_grad_(), *index, 17, -1)
    )
    torch.library.opcheck(
        torch.ops.gossamer.sparse_embedding_grad.default,
        (torch.randn(7, 17, requires_grad=True), indices, *index, -1),
    )


def test_transforms_of_functions_work() -> None:
    values, index, _ = _table(ragged())
    indices = _indices(23, 7)
    leaf = values.clone().requires_grad_()
    lookup.look_up(indices, leaf, index, width=17).square().sum().backward()

    found = torch.func.grad(lambda part: lookup.look_up(indices, part, index, width=17).square().sum())(values)
    stacked = torch.func.vmap(lambda part: lookup.look_up(indices, part, index, width=17))(
        torch.stack([values, 2 * values])
    )

    torch.testing.assert_close(found, leaf.grad)
    assert torch.equal(stacked[1], 2 * stacked[0])


@pytest.mark.parametrize("wrong", [-1, 23, 2**40])
@pytest.mark.parametrize("road", [0, 1, 2])
def test_an_index_outside_of_the_table_is_named(wrong: int, road: int) -> None:
    values, index, _ = _table(ragged())
    indices = torch.tensor([3, wrong, 4])
    functions: list[Callable[[], Tensor]] = [
        lambda: lookup.look_up(indices, values, index, width=17),
        lambda: torch.ops.gossamer.sparse_embedding(indices, values, *index, 17, -1),
        lambda: lookup.plain(indices, values, *index, 17, -1),
    ]

    with pytest.raises(ValueError, match=rf"index {wrong} names no row of a table of 23"):
        functions[road]()


def test_indices_that_are_no_integers_and_values_that_do_not_fit_are_refused() -> None:
    values, index, _ = _table(ragged())

    with pytest.raises(ValueError, match=r"indices are torch.float32"):
        lookup.look_up(torch.zeros(2), values, index, width=17)
    with pytest.raises(ValueError, match=r"\d+ values for a topology of \d+"):
        lookup.look_up(torch.zeros(2).long(), values[:-1], index, width=17)
