import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

from gossamer import topology
from gossamer.nn import SparseEmbedding

from .build import same, tensors


def _table(
    rows: int = 11, width: int = 6, *, sparsity: float = 0.5, seed: int = 0, padding_idx: int | None = None
) -> SparseEmbedding:
    generator = torch.Generator().manual_seed(seed)
    return SparseEmbedding(
        rows, width, sparsity=sparsity, padding_idx=padding_idx, generator=generator, dtype=torch.float64
    )


@pytest.mark.parametrize("padding_idx", [None, 0, 10, -1])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 5), (2, 0, 3)])
def test_rows_and_gradients_are_those_of_the_dense_table(shape: tuple[int, ...], padding_idx: int | None) -> None:
    table = _table(padding_idx=padding_idx)
    dense = table.to_dense()
    indices = torch.randint(11, shape, generator=torch.Generator().manual_seed(1))

    found, expected = table(indices), dense(indices)
    (found.square() * 3).sum().backward()
    (expected.square() * 3).sum().backward()

    assert torch.equal(found, expected)
    assert table.values.grad is not None
    assert dense.weight.grad is not None
    torch.testing.assert_close(table.values.grad, dense.weight.grad[topology.to_mask(table.topology)])


@pytest.mark.parametrize(("rows", "width"), [(11, 6), (1, 40), (40, 1), (100, 64)])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9])
def test_rows_have_equally_many_entries(rows: int, width: int, sparsity: float) -> None:
    table = _table(rows, width, sparsity=sparsity)
    counts = table.row_pointers.diff()

    assert int(counts.max() - counts.min()) <= 1
    assert table.num_active == round(rows * width * (1 - sparsity))
    topology.check_topology(table.topology)


def test_a_row_has_the_squared_length_that_a_dense_one_has() -> None:
    table = _table(2000, 32, sparsity=0.75)

    length = table.to_dense().weight.detach().square().sum(1).mean()

    assert 30 < float(length) < 34


def test_the_padding_row_is_zero_and_stays_so_in_training() -> None:
    table = _table(padding_idx=3)
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1, momentum=0.9)
    before = table.to_dense().weight.detach()
    for _ in range(3):
        optimizer.zero_grad()
        table(torch.tensor([3, 3, 5])).sum().backward()
        optimizer.step()

    after = table.to_dense().weight.detach()
    assert bool((after[3] == 0).all())
    assert bool((after[5] != before[5]).any())
    assert torch.equal(after[4], before[4])


@pytest.mark.parametrize("padding_idx", [None, 2])
def test_a_dense_table_comes_back_bit_for_bit(padding_idx: int | None) -> None:
    dense = nn.Embedding(5, 4, padding_idx=padding_idx).eval().requires_grad_(False)
    dense.weight[dense.weight.abs() < 0.3] = 0.0
    table = SparseEmbedding.from_dense(dense)
    back = table.to_dense()

    assert torch.equal(back.weight, dense.weight)
    assert (back.padding_idx, back.training, back.weight.requires_grad) == (padding_idx, False, False)
    assert table.num_active == int((dense.weight != 0).sum())
    assert not table.values.requires_grad


def test_a_mask_keeps_zeros_and_leaves_out_the_rest() -> None:
    dense = nn.Embedding.from_pretrained(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    table = SparseEmbedding.from_dense(dense, mask=torch.tensor([[True, False], [False, True]]))

    assert table.values.tolist() == [0.0, 3.0]
    with pytest.raises(ValueError, match=r"mask has shape \(2, 3\), the table \(2, 2\)"):
        SparseEmbedding.from_dense(dense, mask=torch.ones(2, 3).bool())


def test_options_that_a_sparse_table_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match=r"max_norm is 1.0"):
        SparseEmbedding.from_dense(nn.Embedding(3, 2, max_norm=1.0))
    with pytest.raises(ValueError, match="scale_grad_by_freq True"):
        SparseEmbedding.from_dense(nn.Embedding(3, 2, scale_grad_by_freq=True))


@pytest.mark.parametrize("padding_idx", [11, -12])
def test_a_padding_row_outside_of_the_table_is_refused(padding_idx: int) -> None:
    with pytest.raises(ValueError, match=rf"padding_idx is {padding_idx}; it must name one of the 11 rows"):
        _table(padding_idx=padding_idx)


def test_sizes_and_indices_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a table cannot have shape \(-1, 6\)"):
        _table(-1)
    with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\)"):
        _table(sparsity=1.0)
    with pytest.raises(ValueError, match="index 11 names no row of a table of 11"):
        _table()(torch.tensor([11]))


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("sparsity", [0.5, 0.2, 0.9])
def test_a_state_loads_into_a_table_of_another_topology(sparsity: float, assign: bool) -> None:
    saved, table = _table(sparsity=sparsity, seed=5), _table()
    buffer = io.BytesIO()
    torch.save(saved.state_dict(), buffer)
    buffer.seek(0)
    result = table.load_state_dict(torch.load(buffer), assign=assign)
    indices = torch.arange(11)

    table(indices).sum().backward()

    assert not result.missing_keys + result.unexpected_keys
    assert same(tensors(table), tensors(saved))
    assert torch.equal(table(indices), saved(indices))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"size": torch.tensor([11, 7])}, r"of a table of size \[11, 7\], this one has \[11, 6\]"),
        ({"values": torch.zeros(3)}, r"shape \(3,\) for 33 active entries"),
        ({"column_indices": None}, "must come together"),
        ({"column_indices": torch.full((33,), 6).int()}, "column_indices run from 6 to 6 of 6 columns"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change: dict[str, Tensor | None], text: str) -> None:
    table = _table()
    before = tensors(table)
    state = {name: part for name, part in (table.state_dict() | change).items() if part is not None}

    with pytest.raises(RuntimeError, match=text):
        table.load_state_dict(state)
    assert same(tensors(table), before)


def test_copies_share_nothing_and_give_the_same() -> None:
    table = _table(padding_idx=1)
    indices = torch.arange(11)

    for again in (copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
        assert torch.equal(again(indices), table(indices))
        assert again.padding_idx == 1
        again.values.data.zero_()
    assert bool(table(indices).any())


def test_other_entries_take_the_place_of_the_old_in_the_same_parameter() -> None:
    table, other = _table(), _table(sparsity=0.2, seed=3)
    parameter = table.values
    table(torch.tensor([1])).sum().backward()

    table.replace_(other.topology, other.values)

    assert table.values is parameter
    assert parameter.grad is None
    assert torch.equal(table(torch.arange(11)), other(torch.arange(11)))
    with pytest.raises(ValueError, match=r"places of shape \(5, 6\)"):
        table.replace_(_table(5).topology, torch.zeros(15))
    with pytest.raises(ValueError, match="1 values for 53 active entries"):
        table.replace_(other.topology, torch.zeros(1))


def test_a_frozen_table_and_one_without_gradients_look_up() -> None:
    table = _table().requires_grad_(False)

    assert not table(torch.tensor([1])).requires_grad
    with torch.no_grad():
        assert torch.equal(_table()(torch.tensor([1])), table(torch.tensor([1])))


def test_a_compiler_sees_one_operator() -> None:
    table = _table()
    indices = torch.tensor([[1, 2], [2, 3]])
    compiled = torch.compile(table, backend="eager", fullgraph=True)

    found = compiled(indices)
    (grad,) = torch.autograd.grad(found.square().sum(), table.values)
    (expected,) = torch.autograd.grad(table(indices).square().sum(), table.values)

    assert torch.equal(found, table(indices))
    assert torch.equal(grad, expected)


def test_memory_is_what_the_docstring_says() -> None:
    table = SparseEmbedding(10_000, 64, sparsity=0.9, generator=torch.Generator(), dtype=torch.float32)
    held = sum(part.numel() * part.element_size() for part in (*table.parameters(), *table.buffers()))

    assert held == 8 * 64_000 + 4 * 10_001 + 16
    assert "num_active=64000, sparsity=0.9" in repr(table)
