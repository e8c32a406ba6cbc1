import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from gossamer import recipes
from gossamer.kernels import unroll
from gossamer.nn import (
    SparseGRU,
    SparseGRUCell,
    SparseLinear,
    SparseLSTM,
    SparseLSTMCell,
    SparseRNN,
    SparseRNNCell,
    recurrent_weights,
)

# Submodules and parameters of a type that mypy cannot know.
Sparse = Any
CLASSES: dict[str, tuple[type[Any], type[Any], dict[str, Any]]] = {
    "tanh": (nn.RNN, SparseRNN, {"nonlinearity": "tanh"}),
    "relu": (nn.RNN, SparseRNN, {"nonlinearity": "relu"}),
    "gru": (nn.GRU, SparseGRU, {}),
    "lstm": (nn.LSTM, SparseLSTM, {}),
}
CELLS: dict[str, tuple[type[Any], type[Any], dict[str, Any]]] = {
    "tanh": (nn.RNNCell, SparseRNNCell, {"nonlinearity": "tanh"}),
    "relu": (nn.RNNCell, SparseRNNCell, {"nonlinearity": "relu"}),
    "gru": (nn.GRUCell, SparseGRUCell, {}),
    "lstm": (nn.LSTMCell, SparseLSTMCell, {}),
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"num_layers": 3},
]
KINDS = sorted(CLASSES)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _pair(
    kind: str, options: dict[str, Any], *, dtype: torch.dtype = torch.float64, hidden: int = 37
) -> tuple[Any, Sparse, dict[str, Tensor]]:
    """A dense layer with zeros, the sparse one that computes the same, and the masks by parameter."""
    dense_class, sparse_class, extra = CLASSES[kind]
    dense = dense_class(5, hidden, dtype=dtype, **extra, **options)
    masks = {}
    for seed, (name, parameter) in enumerate(dense.named_parameters()):
        parameter.data = _normal(*parameter.shape, seed=seed, dtype=dtype) / 3
        if "weight" in name:
            masks[name] = _normal(*parameter.shape, seed=seed + 100) > 0.5
            masks[name][2] = False  # an output without inputs
            parameter.data.mul_(masks[name])
    return dense, sparse_class.from_dense(dense, masks=masks), masks


def _states(layer: Any, kind: str, *batch: int) -> Any:
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    dtype = next(layer.parameters()).dtype
    hidden, cell = (
        _normal(rows, *batch, layer.hidden_size, seed=seed, dtype=dtype).requires_grad_() for seed in (7, 8)
    )
    return (hidden, cell) if kind == "lstm" else hidden


def _flat(states: Any) -> list[Tensor]:
    return list(states) if isinstance(states, tuple) else [states]


def _outcome(layer: nn.Module, inputs: Tensor, states: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and last states; gradients of inputs and first states."""
    layer.zero_grad()
    leaf = inputs.detach().clone().requires_grad_()
    firsts = [] if states is None else _flat(states)
    for part in firsts:
        part.grad = None
    outputs, last = layer(leaf) if states is None else layer(leaf, states)
    results = [outputs, *_flat(last)]
    total = sum((part * _normal(*part.shape, seed=20, dtype=part.dtype)).sum() for part in results)
    assert isinstance(total, Tensor)
    total.backward()
    grads = [part.grad.clone() for part in (leaf, *firsts) if part.grad is not None]
    return [part.detach() for part in results], grads


def _weight_grads(dense: Any, sparse: Sparse, masks: dict[str, Tensor]) -> list[tuple[Tensor | None, Tensor]]:
    pairs = []
    for end, theirs in recurrent_weights.names(dense.num_layers, dense.bidirectional):
        for part, short in (("input", "ih"), ("hidden", "hh")):
            ours, name = sparse.get_submodule(f"{part}_{end}"), f"weight_{short}_{theirs}"
            assert isinstance(ours, SparseLinear)
            pairs.append((ours.values.grad, dense.get_parameter(name).grad[masks[name]]))
            if ours.bias is not None:
                pairs.append((ours.bias.grad, dense.get_parameter(f"bias_{short}_{theirs}").grad))
    return pairs


def _compare(dense: Any, sparse: Sparse, masks: dict[str, Tensor], inputs: Tensor, states: Any) -> None:
    rtol, atol = (1e-9, 1e-11) if inputs.dtype == torch.float64 else (1e-3, 2e-4)
    expected, found = (_outcome(layer, inputs, states) for layer in (dense, sparse))

    for theirs, ours in zip((*expected[0], *expected[1]), (*found[0], *found[1]), strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)
    for grad, wanted in _weight_grads(dense, sparse, masks):
        assert grad is not None
        torch.testing.assert_close(grad, wanted, rtol=rtol, atol=atol)


@pytest.mark.parametrize("road", ["kernel", "hooks", "steps"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_results_and_all_gradients_are_torchs(
    kind: str, options: dict[str, Any], road: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, sparse, masks = _pair(kind, options)
    shape = (3, 4, 5) if options.get("batch_first") else (4, 3, 5)
    if road == "steps":
        monkeypatch.setattr(unroll, "is_plain", lambda *tensors: False)
    if road == "hooks":
        for module in sparse.modules():
            if isinstance(module, SparseLinear):
                module.register_forward_hook(lambda *args: None)

    _compare(dense, sparse, masks, _normal(*shape), _states(dense, kind, 3))


@pytest.mark.parametrize("options", OPTIONS[:3], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_without_a_batch_and_states_of_zeros(kind: str, options: dict[str, Any]) -> None:
    dense, sparse, masks = _pair(kind, options)

    _compare(dense, sparse, masks, _normal(4, 5), _states(dense, kind))
    _compare(dense, sparse, masks, _normal(4, 5), None)
    _compare(dense, sparse, masks, _normal(4, 3, 5), None)


@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 8), (2, 9), (3, 16), (5, 41)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_length_and_batch_equals_torchs(kind: str, steps: int, batch: int) -> None:
    dense, sparse, masks = _pair(kind, {"bidirectional": True})

    _compare(dense, sparse, masks, _normal(steps, batch, 5), _states(dense, kind, batch))


@pytest.mark.parametrize("batch", [1, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_is_as_good_as_torchs(kind: str, batch: int) -> None:
    dense, sparse, masks = _pair(kind, {}, dtype=torch.float32)

    _compare(dense, sparse, masks, _normal(4, batch, 5, dtype=torch.float32), None)


@pytest.mark.parametrize("hidden", [1, 31, 32, 33])
@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_units_is_cut_into_blocks(kind: str, hidden: int) -> None:
    dense_class, sparse_class, extra = CLASSES[kind]
    dense = dense_class(5, hidden, dtype=torch.float64, **extra)
    masks = {name: torch.ones_like(part).bool() for name, part in dense.named_parameters() if "weight" in name}

    _compare(dense, sparse_class.from_dense(dense), masks, _normal(3, 2, 5), None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_none_gives_none(kind: str) -> None:
    _, sparse, _ = _pair(kind, {"num_layers": 2})
    outputs, states = sparse(_normal(4, 0, 5))
    outputs.sum().backward()

    assert outputs.shape == (4, 0, 37)
    assert all(part.shape == (2, 0, 37) for part in _flat(states))
    assert sparse.hidden_0.values.grad is not None
    assert not bool(sparse.hidden_0.values.grad.any())


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_right_to_second_order(kind: str) -> None:
    dense, sparse, _ = _pair(kind, {}, hidden=3)
    leaves = [_normal(2, 2, 5).requires_grad_(), *_flat(_states(dense, kind, 2))]
    weights = [part.requires_grad_() for part in sparse.parameters()]

    def function(*parts: Tensor) -> tuple[Tensor, ...]:
        states = parts[1:3] if kind == "lstm" else parts[1]
        outputs, last = sparse(parts[0], states)
        return outputs, *_flat(last)

    assert torch.autograd.gradcheck(function, [*leaves, *weights])
    assert torch.autograd.gradgradcheck(function, [*leaves, *weights], fast_mode=True)


def test_a_state_that_depends_on_the_weight_is_not_counted_twice() -> None:
    _, sparse, _ = _pair("gru", {}, hidden=3)
    weight = sparse.hidden_0.values

    def loss() -> Tensor:
        first = weight.sum().tanh().expand(1, 2, 3)
        outputs: Tensor = sparse(_normal(2, 2, 5), first)[0]
        return outputs.pow(3).sum()

    (plain,) = torch.autograd.grad(loss(), weight)
    (graph,) = torch.autograd.grad(loss(), weight, create_graph=True)

    torch.testing.assert_close(graph.detach(), plain)


def test_second_derivatives_through_a_watched_weight_are_refused() -> None:
    _, sparse, _ = _pair("gru", {})
    sparse.hidden_0.register_forward_hook(lambda *args: None)
    inputs = _normal(2, 2, 5).requires_grad_()

    with pytest.raises(RuntimeError, match="second derivatives of a recurrent layer whose recurrent weight has hooks"):
        torch.autograd.grad(sparse(inputs)[0].sum(), inputs, create_graph=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_sees_what_the_recurrent_weight_is_multiplied_with(kind: str) -> None:
    dense, sparse, masks = _pair(kind, {"bidirectional": True})
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def record(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        output.register_hook(lambda grad: seen.update({names[module]: (args[0], grad)}))

    names = {module: name for name, module in sparse.named_modules() if name.startswith("hidden")}
    for module in names:
        module.register_forward_hook(record)
    _compare(dense, sparse, masks, _normal(4, 3, 5), _states(dense, kind, 3))

    for name, theirs in (("hidden_0", "weight_hh_l0"), ("hidden_0_reverse", "weight_hh_l0_reverse")):
        inputs, grad = seen[name]
        assert inputs.shape == (12, 37)
        expected = dense.get_parameter(theirs).grad
        torch.testing.assert_close(grad.t() @ inputs, expected, rtol=1e-9, atol=1e-11)


def test_dynamic_sparse_training_finds_and_moves_the_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    layer: Any = SparseGRU(5, 12, sparsity=0.8, generator=generator)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    before = [part.clone() for part in (layer.input_0.column_indices, layer.hidden_0.column_indices)]
    sparsifier = recipes.rigl(layer, optimizer, stop_step=8, update_every=2, generator=generator)
    for step in range(6):
        optimizer.zero_grad()
        layer(_normal(4, 3, 5, seed=step, dtype=torch.float32))[0].square().sum().backward()
        optimizer.step()
        sparsifier.step()

    assert (layer.input_0.num_active, layer.hidden_0.num_active) == (36, 86)
    assert not torch.equal(layer.input_0.column_indices, before[0])
    assert not torch.equal(layer.hidden_0.column_indices, before[1])


@pytest.mark.parametrize("frozen", ["values", "bias", "all"])
def test_frozen_weights_get_no_gradient_and_change_no_other(frozen: str) -> None:
    _dense, sparse, _masks = _pair("lstm", {})
    _outcome(sparse, _normal(4, 3, 5), None)
    free = {name: part.grad for name, part in sparse.named_parameters()}
    for name, part in sparse.named_parameters():
        part.grad = None
        part.requires_grad_(frozen != "all" and not name.endswith(frozen))

    _outcome(sparse, _normal(4, 3, 5), None)

    for name, part in sparse.named_parameters():
        if part.requires_grad:
            torch.testing.assert_close(part.grad, free[name])
        else:
            assert part.grad is None


def test_without_gradients_the_bits_are_the_same_and_evaluation_drops_nothing() -> None:
    _, sparse, _ = _pair("lstm", {"num_layers": 2, "dropout": 0.5})
    inputs = _normal(4, 3, 5)
    with torch.no_grad():
        silent = sparse.eval()(inputs)[0]

    assert torch.equal(sparse(inputs)[0], silent)
    assert not torch.equal(sparse.train()(inputs)[0], silent)


def test_dropout_falls_between_layers_alone() -> None:
    _, one, _ = _pair("gru", {"dropout": 0.0})
    _, two, _ = _pair("gru", {"num_layers": 2, "dropout": 1.0})
    one.dropout = 1.0
    inputs = _normal(4, 3, 5)

    assert bool(one(inputs)[0].any())
    assert torch.equal(two(inputs)[0], two(-inputs)[0])  # nothing of the first layer arrives


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_threads_changes_no_bit(kind: str) -> None:
    _, sparse, _ = _pair(kind, {"num_layers": 2}, dtype=torch.float32, hidden=70)
    inputs = _normal(4, 17, 5, dtype=torch.float32)
    runs = []
    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        found = _outcome(sparse, inputs, None)
        runs.append([*found[0], *found[1], sparse.hidden_0.values.grad])

    assert all(torch.equal(*pair) for run in runs[1:] for pair in zip(runs[0], run, strict=True))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_dense_and_sparse_convert_both_ways_bit_for_bit(kind: str, options: dict[str, Any]) -> None:
    dense, sparse, masks = _pair(kind, options)
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
    torch.testing.assert_close(back(_normal(4, 3, 5))[0], dense(_normal(4, 3, 5))[0])


def test_what_a_sparse_layer_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="proj_size is 2"):
        SparseLSTM.from_dense(nn.LSTM(3, 4, proj_size=2))
    with pytest.raises(ValueError, match="masks name 'weight_hh_l1'; the layer's weights are weight_ih_l0, weight_hh"):
        SparseGRU.from_dense(nn.GRU(3, 4), masks={"weight_hh_l1": torch.ones(12, 4).bool()})
    with pytest.raises(ValueError, match=r"mask has shape \(4, 12\), the weight \(12, 4\)"):
        SparseGRU.from_dense(nn.GRU(3, 4), masks={"weight_hh_l0": torch.ones(4, 12).bool()})
    with pytest.raises(TypeError, match="a packed sequence was given"):
        _pair("gru", {})[1](pack_sequence([_normal(3, 5), _normal(2, 5)]))


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
    sparse = _pair("gru", {}, dtype=torch.float32)[1]

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
    inputs = _normal(6, 64, 64)

    assert sparse.hidden_0.sparsity == pytest.approx(0.9, abs=1e-4)
    spread = [float(layer(inputs)[0].detach().std()) for layer in (sparse, dense)]
    assert 0.9 < spread[0] / spread[1] < 1.1


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_states_give_the_same(kind: str) -> None:
    _, sparse, _ = _pair(kind, {"num_layers": 2})
    sparse_class, extra = CLASSES[kind][1:]
    other = sparse_class(
        5, 37, num_layers=2, sparsity=0.3, generator=torch.Generator().manual_seed(9), dtype=torch.float64, **extra
    )
    inputs = _normal(4, 3, 5)
    expected = sparse(inputs)[0]
    other.load_state_dict(sparse.state_dict())

    for again in (other, copy.deepcopy(sparse), pickle.loads(pickle.dumps(sparse))):
        assert torch.equal(again(inputs)[0], expected)
        again.hidden_0.values.data.zero_()
    assert torch.equal(sparse(inputs)[0], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiler_takes_the_layer(kind: str) -> None:
    _, sparse, _ = _pair(kind, {"bidirectional": True}, dtype=torch.float32)
    inputs = _normal(3, 4, 5, dtype=torch.float32)
    compiled = torch.compile(sparse, backend="eager")

    torch.testing.assert_close(compiled(inputs)[0], sparse(inputs)[0])


def test_narrow_numbers_and_autocast_are_taken() -> None:
    _, sparse, _ = _pair("lstm", {}, dtype=torch.float32)
    inputs = _normal(3, 4, 5, dtype=torch.float32)
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
    _, sparse, _ = _pair("gru", {})
    expected = sparse(_normal(4, 3, 5))[0]
    sparse.hidden_0 = sparse.hidden_0.to_dense()

    torch.testing.assert_close(sparse(_normal(4, 3, 5))[0], expected)
    torch.testing.assert_close(sparse.to_dense()(_normal(4, 3, 5))[0], expected)


def test_an_operand_changed_before_the_backward_pass_is_noticed() -> None:
    _, sparse, _ = _pair("lstm", {})
    outputs = sparse(_normal(4, 3, 5))[0]
    with torch.no_grad():
        sparse.hidden_0.values.mul_(2)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


@pytest.mark.parametrize("scale", [1e3, 1e30])
@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
def test_large_inputs_saturate_and_what_is_no_number_stays_so(kind: str, scale: float) -> None:
    dense, sparse, _ = _pair(kind, {}, dtype=torch.float32)
    inputs = _normal(2, 3, 5, dtype=torch.float32) * scale
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
    masks = {name: _normal(*getattr(dense, name).shape) > 0 for name in ("weight_ih", "weight_hh")}
    for name, mask in masks.items():
        getattr(dense, name).data.mul_(mask)
    cell = sparse_class.from_dense(dense, masks=masks)
    states = tuple(_normal(*shape[:-1], 7, seed=seed) for seed in ((1, 2) if kind == "lstm" else (1,)))
    given = states if kind == "lstm" else states[0]

    for arguments in ((_normal(*shape),), (_normal(*shape), given)):
        found, expected = cell(*arguments), dense(*arguments)
        for ours, theirs in zip(_flat(found), _flat(expected), strict=True):
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
