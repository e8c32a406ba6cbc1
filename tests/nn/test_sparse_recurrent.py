from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer import recipes
from gossamer.kernels import unroll
from gossamer.nn import (
    SparseGRU,
    SparseLinear,
)

from .recurrent import CLASSES, KINDS, OPTIONS, compare, flat, normal, outcome, pair, states


@pytest.mark.parametrize("road", ["kernel", "hooks", "steps"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_results_and_all_gradients_are_torchs(
    kind: str, options: dict[str, Any], road: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, sparse, masks = pair(kind, options)
    shape = (3, 4, 5) if options.get("batch_first") else (4, 3, 5)
    if road == "steps":
        monkeypatch.setattr(unroll, "is_plain", lambda *tensors: False)
    if road == "hooks":
        for module in sparse.modules():
            if isinstance(module, SparseLinear):
                module.register_forward_hook(lambda *args: None)

    compare(dense, sparse, masks, normal(*shape), states(dense, kind, 3))


@pytest.mark.parametrize("options", OPTIONS[:3], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_without_a_batch_and_states_of_zeros(kind: str, options: dict[str, Any]) -> None:
    dense, sparse, masks = pair(kind, options)

    compare(dense, sparse, masks, normal(4, 5), states(dense, kind))
    compare(dense, sparse, masks, normal(4, 5), None)
    compare(dense, sparse, masks, normal(4, 3, 5), None)


@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 8), (2, 9), (3, 16), (5, 41)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_length_and_batch_equals_torchs(kind: str, steps: int, batch: int) -> None:
    dense, sparse, masks = pair(kind, {"bidirectional": True})

    compare(dense, sparse, masks, normal(steps, batch, 5), states(dense, kind, batch))


@pytest.mark.parametrize("batch", [1, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_is_as_good_as_torchs(kind: str, batch: int) -> None:
    dense, sparse, masks = pair(kind, {}, dtype=torch.float32)

    compare(dense, sparse, masks, normal(4, batch, 5, dtype=torch.float32), None)


@pytest.mark.parametrize("hidden", [1, 31, 32, 33])
@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_units_is_cut_into_blocks(kind: str, hidden: int) -> None:
    dense_class, sparse_class, extra = CLASSES[kind]
    dense = dense_class(5, hidden, dtype=torch.float64, **extra)
    masks = {name: torch.ones_like(part).bool() for name, part in dense.named_parameters() if "weight" in name}

    compare(dense, sparse_class.from_dense(dense), masks, normal(3, 2, 5), None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_none_gives_none(kind: str) -> None:
    _, sparse, _ = pair(kind, {"num_layers": 2})
    outputs, states = sparse(normal(4, 0, 5))
    outputs.sum().backward()

    assert outputs.shape == (4, 0, 37)
    assert all(part.shape == (2, 0, 37) for part in flat(states))
    assert sparse.hidden_0.values.grad is not None
    assert not bool(sparse.hidden_0.values.grad.any())


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_right_to_second_order(kind: str) -> None:
    dense, sparse, _ = pair(kind, {}, hidden=3)
    leaves = [normal(2, 2, 5).requires_grad_(), *flat(states(dense, kind, 2))]
    weights = [part.requires_grad_() for part in sparse.parameters()]

    def function(*parts: Tensor) -> tuple[Tensor, ...]:
        states = parts[1:3] if kind == "lstm" else parts[1]
        outputs, last = sparse(parts[0], states)
        return outputs, *flat(last)

    assert torch.autograd.gradcheck(function, [*leaves, *weights])
    assert torch.autograd.gradgradcheck(function, [*leaves, *weights], fast_mode=True)


def test_a_state_that_depends_on_the_weight_is_not_counted_twice() -> None:
    _, sparse, _ = pair("gru", {}, hidden=3)
    weight = sparse.hidden_0.values

    def loss() -> Tensor:
        first = weight.sum().tanh().expand(1, 2, 3)
        outputs: Tensor = sparse(normal(2, 2, 5), first)[0]
        return outputs.pow(3).sum()

    (plain,) = torch.autograd.grad(loss(), weight)
    (graph,) = torch.autograd.grad(loss(), weight, create_graph=True)

    torch.testing.assert_close(graph.detach(), plain)


def test_second_derivatives_through_a_watched_weight_are_refused() -> None:
    _, sparse, _ = pair("gru", {})
    sparse.hidden_0.register_forward_hook(lambda *args: None)
    inputs = normal(2, 2, 5).requires_grad_()

    with pytest.raises(RuntimeError, match="second derivatives of a recurrent layer whose recurrent weight has hooks"):
        torch.autograd.grad(sparse(inputs)[0].sum(), inputs, create_graph=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_sees_what_the_recurrent_weight_is_multiplied_with(kind: str) -> None:
    dense, sparse, masks = pair(kind, {"bidirectional": True})
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def record(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        output.register_hook(lambda grad: seen.update({names[module]: (args[0], grad)}))

    names = {module: name for name, module in sparse.named_modules() if name.startswith("hidden")}
    for module in names:
        module.register_forward_hook(record)
    compare(dense, sparse, masks, normal(4, 3, 5), states(dense, kind, 3))

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
        layer(normal(4, 3, 5, seed=step, dtype=torch.float32))[0].square().sum().backward()
        optimizer.step()
        sparsifier.step()

    assert (layer.input_0.num_active, layer.hidden_0.num_active) == (36, 86)
    assert not torch.equal(layer.input_0.column_indices, before[0])
    assert not torch.equal(layer.hidden_0.column_indices, before[1])


@pytest.mark.parametrize("frozen", ["values", "bias", "all"])
def test_frozen_weights_get_no_gradient_and_change_no_other(frozen: str) -> None:
    _dense, sparse, _masks = pair("lstm", {})
    outcome(sparse, normal(4, 3, 5), None)
    free = {name: part.grad for name, part in sparse.named_parameters()}
    for name, part in sparse.named_parameters():
        part.grad = None
        part.requires_grad_(frozen != "all" and not name.endswith(frozen))

    outcome(sparse, normal(4, 3, 5), None)

    for name, part in sparse.named_parameters():
        if part.requires_grad:
            torch.testing.assert_close(part.grad, free[name])
        else:
            assert part.grad is None


def test_without_gradients_the_bits_are_the_same_and_evaluation_drops_nothing() -> None:
    _, sparse, _ = pair("lstm", {"num_layers": 2, "dropout": 0.5})
    inputs = normal(4, 3, 5)
    with torch.no_grad():
        silent = sparse.eval()(inputs)[0]

    assert torch.equal(sparse(inputs)[0], silent)
    assert not torch.equal(sparse.train()(inputs)[0], silent)


def test_dropout_falls_between_layers_alone() -> None:
    _, one, _ = pair("gru", {"dropout": 0.0})
    _, two, _ = pair("gru", {"num_layers": 2, "dropout": 1.0})
    one.dropout = 1.0
    inputs = normal(4, 3, 5)

    assert bool(one(inputs)[0].any())
    assert torch.equal(two(inputs)[0], two(-inputs)[0])  # nothing of the first layer arrives


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_threads_changes_no_bit(kind: str) -> None:
    _, sparse, _ = pair(kind, {"num_layers": 2}, dtype=torch.float32, hidden=70)
    inputs = normal(4, 17, 5, dtype=torch.float32)
    runs = []
    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        found = outcome(sparse, inputs, None)
        runs.append([*found[0], *found[1], sparse.hidden_0.values.grad])

    assert all(torch.equal(*pair) for run in runs[1:] for pair in zip(runs[0], run, strict=True))
