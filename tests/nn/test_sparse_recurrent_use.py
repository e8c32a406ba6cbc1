"""Conversion, refusals, copies, compiled calls and cells of the recurrent layers."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer.nn import (
    SparseGRU,
    SparseGRUCell,
    SparseLinear,
    SparseLSTM,
    SparseRNN,
)

from .recurrent import (
    CELLS,
    CLASSES,
    KINDS,
    OPTIONS,
    flat,
    normal,
    pair,
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_dense_and_sparse_convert_both_ways_bit_for_bit(kind: str, options: dict[str, Any]) -> None:
    dense, sparse, masks = pair(kind, options)
    dense.eval()
    again = type(sparse).from_dense(dense)
    back = again.to_dense()

    assert {name: part.tolist() for name, part in back.state_dict().items()} == {
        name: part.tolist() for name, part in dense.state_dict().items()
    }
    assert repr(back) == repr(dense)
    assert not back.training
    assert sum(part.num_active for part in sparse.modules() if isinstance(part, SparseLinear)) == sum(
        int(mask.sum()) for mask in masks.values()
    )
    torch.testing.assert_close(back(normal(4, 3, 5))[0], dense(normal(4, 3, 5))[0])


def test_what_a_sparse_layer_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="proj_size is 2"):
        SparseLSTM.from_dense(nn.LSTM(3, 4, proj_size=2))
    with pytest.raises(ValueError, match="masks name 'weight_hh_l1'; the layer's weights are weight_ih_l0, weight_hh"):
        SparseGRU.from_dense(nn.GRU(3, 4), masks={"weight_hh_l1": torch.ones(12, 4).bool()})
    with pytest.raises(ValueError, match=r"mask has shape \(4, 12\), the weight \(12, 4\)"):
        SparseGRU.from_dense(nn.GRU(3, 4), masks={"weight_hh_l0": torch.ones(4, 12).bool()})


@pytest.mark.parametrize(
    ("inputs", "states", "text"),
    [
        (torch.zeros(4, 3, 6), None, r"input has shape \(4, 3, 6\); the layer takes \[T, B, input_size\] or"),
        (torch.zeros(5), None, r"input has shape \(5,\)"),
        (torch.zeros(0, 3, 5), None, r"input has shape \(0, 3, 5\), no step at all"),
        (torch.zeros(4, 3, 5), torch.zeros(1, 2, 37), r"a first state has shape \(1, 2, 37\); .* must be \(1, 3, 37\)"),
        (torch.zeros(4, 5), torch.zeros(1, 3, 37), r"must be \(1, 37\)"),
        (torch.zeros(4, 3, 5), torch.zeros(1, 3, 37).double(), "a first state is torch.float64 but the input torch.fl"),
        (torch.zeros(4, 3, 5).double(), None, "input is torch.float64 but the weight is torch.float32"),
    ],
)
def test_what_does_not_fit_is_refused_by_value(inputs: Tensor, states: Tensor | None, text: str) -> None:
    sparse = pair("gru", {}, dtype=torch.float32)[1]

    with pytest.raises(ValueError, match=text):
        sparse(inputs, states)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hidden_size": 0}, "hidden_size 0"),
        ({"num_layers": 0}, "num_layers 0"),
        ({"dropout": 1.5}, r"dropout must lie in \[0, 1\], got 1.5"),
        ({"sparsity": 1.0}, r"sparsity must lie in \[0, 1\), got 1.0"),
        ({"nonlinearity": "sin"}, "nonlinearity is 'sin'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any], text: str) -> None:
    settings: dict[str, Any] = {
        "input_size": 3,
        "hidden_size": 4,
        "sparsity": 0.5,
        "generator": torch.Generator(),
    } | change

    with pytest.raises(ValueError, match=text):
        SparseRNN(**settings | change)


@pytest.mark.parametrize("kind", KINDS)
def test_first_values_keep_the_scale_of_the_dense_layer(kind: str) -> None:
    dense_class, sparse_class, extra = CLASSES[kind]
    generator = torch.Generator().manual_seed(0)
    sparse = sparse_class(64, 128, sparsity=0.9, generator=generator, dtype=torch.float64, **extra)
    torch.manual_seed(0)
    dense = dense_class(64, 128, dtype=torch.float64, **extra)
    inputs = normal(6, 64, 64)

    assert sparse.hidden_0.sparsity == pytest.approx(0.9, abs=1e-4)
    spread = [float(layer(inputs)[0].detach().std()) for layer in (sparse, dense)]
    assert 0.9 < spread[0] / spread[1] < 1.1


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_states_give_the_same(kind: str) -> None:
    _, sparse, _ = pair(kind, {"num_layers": 2})
    sparse_class, extra = CLASSES[kind][1:]
    other = sparse_class(
        5, 37, num_layers=2, sparsity=0.3, generator=torch.Generator().manual_seed(9), dtype=torch.float64, **extra
    )
    inputs = normal(4, 3, 5)
    expected = sparse(inputs)[0]
    other.load_state_dict(sparse.state_dict())

    for again in (other, copy.deepcopy(sparse), pickle.loads(pickle.dumps(sparse))):
        assert torch.equal(again(inputs)[0], expected)
        again.hidden_0.values.data.zero_()
    assert torch.equal(sparse(inputs)[0], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiler_takes_the_layer(kind: str) -> None:
    _, sparse, _ = pair(kind, {"bidirectional": True}, dtype=torch.float32)
    inputs = normal(3, 4, 5, dtype=torch.float32)
    compiled = torch.compile(sparse, backend="eager")

    torch.testing.assert_close(compiled(inputs)[0], sparse(inputs)[0])


def test_narrow_numbers_and_autocast_are_taken() -> None:
    _, sparse, _ = pair("lstm", {}, dtype=torch.float32)
    inputs = normal(3, 4, 5, dtype=torch.float32)
    expected = sparse(inputs)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sparse(inputs.bfloat16().float())[0]
        narrow_inputs = sparse(inputs.bfloat16())[0]
    narrow = copy.deepcopy(sparse).bfloat16()(inputs.bfloat16())[0]

    assert found.dtype == torch.float32
    assert torch.equal(found, narrow_inputs)
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.float(), expected, rtol=0.1, atol=0.05)


def test_a_weight_may_be_made_dense_inside_the_layer() -> None:
    _, sparse, _ = pair("gru", {})
    expected = sparse(normal(4, 3, 5))[0]
    sparse.hidden_0 = sparse.hidden_0.to_dense()

    torch.testing.assert_close(sparse(normal(4, 3, 5))[0], expected)
    torch.testing.assert_close(sparse.to_dense()(normal(4, 3, 5))[0], expected)


def test_an_operand_changed_before_the_backward_pass_is_noticed() -> None:
    _, sparse, _ = pair("lstm", {})
    outputs = sparse(normal(4, 3, 5))[0]
    with torch.no_grad():
        sparse.hidden_0.values.mul_(2)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


@pytest.mark.parametrize("scale", [1e3, 1e30])
@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
def test_large_inputs_saturate_and_what_is_no_number_stays_so(kind: str, scale: float) -> None:
    dense, sparse, _ = pair(kind, {}, dtype=torch.float32)
    inputs = normal(2, 3, 5, dtype=torch.float32) * scale
    inputs[0, 1] = torch.nan
    found, expected = sparse(inputs)[0], dense(inputs)[0]

    torch.testing.assert_close(found[:, [0, 2]], expected[:, [0, 2]], rtol=1e-4, atol=1e-5)
    # torch multiplies NaN with zeros too; an output without inputs reads none.
    fed = sparse.input_0.row_pointers.diff().view(-1, 37).bool().any(0)
    assert torch.equal(found[0, 1].isnan(), fed)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3, 5), (5,), (0, 5)])
@pytest.mark.parametrize("kind", KINDS)
def test_cells_are_torchs(kind: str, shape: tuple[int, ...], bias: bool) -> None:
    dense_class, sparse_class, extra = CELLS[kind]
    dense = dense_class(5, 7, bias=bias, dtype=torch.float64, **extra)
    masks = {name: normal(*getattr(dense, name).shape) > 0 for name in ("weight_ih", "weight_hh")}
    for name, mask in masks.items():
        getattr(dense, name).data.mul_(mask)
    cell = sparse_class.from_dense(dense, masks=masks)
    states = tuple(normal(*shape[:-1], 7, seed=seed) for seed in ((1, 2) if kind == "lstm" else (1,)))
    given = states if kind == "lstm" else states[0]

    for arguments in ((normal(*shape),), (normal(*shape), given)):
        found, expected = cell(*arguments), dense(*arguments)
        for ours, theirs in zip(flat(found), flat(expected), strict=True):
            torch.testing.assert_close(ours, theirs)
    for one, other in zip(cell.to_dense().parameters(), dense.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_cell_refuses_what_does_not_fit() -> None:
    cell: Any = SparseGRUCell(5, 7, sparsity=0.5, generator=torch.Generator())

    assert cell.hidden.num_active == 74
    with pytest.raises(ValueError, match=r"input has shape \(3, 6\); the cell takes \[B, input_size\]"):
        cell(torch.zeros(3, 6))
    with pytest.raises(ValueError, match=r"a state has shape \(2, 7\); for this input it must be \(3, 7\)"):
        cell(torch.zeros(3, 5), torch.zeros(2, 7))
    with pytest.raises(ValueError, match="hidden_size 0"):
        SparseGRUCell(5, 0, sparsity=0.5, generator=torch.Generator())


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [SparseRNN, SparseGRU, SparseLSTM])
def test_a_batch_of_none_gives_results_of_none(kind: Any, batch_first: bool) -> None:
    layer = kind(4, 6, sparsity=0.5, batch_first=batch_first, generator=torch.Generator().manual_seed(0))
    inputs = torch.zeros((0, 5, 4) if batch_first else (5, 0, 4), requires_grad=True)

    outputs, _ = layer(inputs)
    outputs.sum().backward()

    assert outputs.shape == ((0, 5, 6) if batch_first else (5, 0, 6))
    assert inputs.grad is not None
    assert inputs.grad.shape == inputs.shape
