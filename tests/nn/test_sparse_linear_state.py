import copy
import io
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer.nn import SparseLinear

from .build import inputs, same, sparse, tensors

State = dict[str, Any]


def _state(**changes: Any) -> State:
    """The state of a layer of 18 active weights, some parts changed; None takes a part out."""
    state: State = {name: part.clone() for name, part in sparse(sparsity=0.25, seed=5).state_dict().items()}
    return {name: part for name, part in (state | changes).items() if part is not None}


def _same_result(one: nn.Module, other: nn.Module) -> bool:
    return torch.equal(one(inputs(5, 6)), other(inputs(5, 6)))


def test_the_state_holds_values_bias_and_topology_alone() -> None:
    assert list(sparse().state_dict()) == ["values", "bias", "row_pointers", "column_indices", "column_pointers"]
    assert list(sparse(bias=False).state_dict()) == ["values", "row_pointers", "column_indices", "column_pointers"]


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("sparsity", [0.5, 0.25, 0.75, 0.0, 0.99])
def test_a_state_loads_into_a_layer_of_another_topology(sparsity: float, assign: bool) -> None:
    saved, layer = sparse(sparsity=sparsity, seed=5), sparse()
    before = tensors(saved)

    result = layer.load_state_dict(saved.state_dict(), assign=assign)

    assert not result.missing_keys
    assert not result.unexpected_keys
    assert same(tensors(layer), tensors(saved))
    assert same(tensors(saved), before)
    assert _same_result(layer, saved)


@pytest.mark.parametrize("assign", [False, True])
def test_a_state_loads_inside_a_model(assign: bool) -> None:
    saved = nn.Sequential(sparse(6, 8, sparsity=0.2, seed=7), nn.ReLU(), nn.Sequential(sparse(8, 3, seed=8)))
    model = nn.Sequential(sparse(6, 8), nn.ReLU(), nn.Sequential(sparse(8, 3, sparsity=0.1)))

    model.load_state_dict(saved.state_dict(), assign=assign)

    assert same(tensors(model), tensors(saved))
    assert _same_result(model, saved)


def test_a_loaded_layer_trains_on() -> None:
    saved, layer = sparse(sparsity=0.25, seed=5), sparse()
    layer(inputs(5, 6)).sum().backward()
    layer.load_state_dict(saved.state_dict())
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)

    optimizer.step()  # a gradient of the old length would fail here
    for one in (layer, saved):
        one.zero_grad()
        one(inputs(5, 6)).square().sum().backward()

    assert layer.values.grad is not None
    assert layer.values.grad.shape == (18,)


def test_the_optimizer_still_holds_the_parameter_after_loading() -> None:
    layer = sparse()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    held = optimizer.param_groups[0]["params"][0]

    layer.load_state_dict(_state())
    layer(inputs(5, 6)).sum().backward()
    before = layer.values.detach().clone()
    optimizer.step()

    assert held is layer.values
    assert held.shape == (18,)
    assert not torch.equal(layer.values, before)


def test_a_loaded_layer_keeps_what_was_frozen() -> None:
    layer = sparse()
    layer.values.requires_grad_(False)

    layer.load_state_dict(_state())

    assert not layer.values.requires_grad


def test_loading_leaves_a_layer_of_the_same_topology_alone() -> None:
    layer = sparse()
    twin = SparseLinear.from_topology(layer.topology, layer.values, layer.bias)
    before = tensors(layer)

    twin.load_state_dict(sparse(seed=5).state_dict())

    assert same(tensors(layer), before)


@pytest.mark.parametrize("assign", [False, True])
def test_indices_of_64_bits_and_with_gaps_load(assign: bool) -> None:
    wide = {name: _state()[name].long().repeat_interleave(2)[::2] for name in ("row_pointers", "column_indices")}
    layer = sparse()

    layer.load_state_dict(_state(**wide), assign=assign)

    assert _same_result(layer, sparse(sparsity=0.25, seed=5))


def test_a_state_of_another_dtype_is_converted() -> None:
    layer = sparse()

    layer.load_state_dict(sparse(sparsity=0.25, seed=5).double().state_dict())

    assert layer.values.dtype == torch.float32
    assert _same_result(layer, sparse(sparsity=0.25, seed=5))


def test_a_layer_on_the_meta_device_takes_a_state_in() -> None:
    layer = sparse().to("meta")

    layer.load_state_dict(_state(), assign=True)

    assert _same_result(layer, sparse(sparsity=0.25, seed=5))


def _ints(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


_PRESENT = _state()
_CORRUPT: dict[str, tuple[State, str]] = {
    "a column past the end": (
        {"column_indices": _PRESENT["column_indices"] + 1},
        "column_indices run from 1 to 6 of 6",
    ),
    "a negative column": ({"column_indices": _PRESENT["column_indices"] - 1}, "column_indices run from -1 to 4 of 6"),
    "columns in disorder": ({"column_indices": _PRESENT["column_indices"].flip(0)}, "must ascend within each row"),
    "columns twice": ({"column_indices": _ints(*[0] * 18)}, "must ascend within each row without repeats"),
    "columns that are no integers": ({"column_indices": _PRESENT["column_indices"] + 0.5}, "vectors of int32"),
    "columns and values as matrices": (
        {"column_indices": _PRESENT["column_indices"][None], "values": _PRESENT["values"][None]},
        "vectors of int32",
    ),
    "too few columns": ({"column_indices": _PRESENT["column_indices"][:-1]}, "ascend from 0 to 17"),
    "too few values": ({"values": _PRESENT["values"][:-1]}, "18 active weights"),
    "values as a matrix": ({"values": _PRESENT["values"].view(2, 9)}, "18 active weights"),
    "pointers that fall": ({"row_pointers": _ints(0, 9, 4, 12, 18)}, "ascend from 0 to 18"),
    "pointers that wrap around": ({"row_pointers": _ints(0, 2**31 - 1, -2, 5, 18)}, "ascend from 0 to 18"),
    "pointers of another height": ({"row_pointers": _ints(0, 9, 18)}, "4 rows need"),
    "a pointer that is no number": (
        {"row_pointers": torch.tensor([0, math.nan, 4, 5, 18])},
        "vectors of int32",
    ),
}
_HALF: dict[str, tuple[State, str]] = {
    "a bias of another size": ({"bias": torch.zeros(9)}, "bias"),
    "no pointers": ({"row_pointers": None}, "row_pointers"),
    "no pointers and wild columns": ({"row_pointers": None, "column_indices": _ints(*[10**6] * 12)}, "row_pointers"),
    "no columns": ({"column_indices": None}, "column_indices"),
    "no values": ({"values": None}, "values"),
    "no values and wild columns": ({"values": None, "column_indices": _ints(*[10**6] * 12)}, "values"),
    "a list of values": ({"values": [1.0, 2.0]}, "values"),
    "a list of pointers": ({"row_pointers": [0, 18]}, "row_pointers"),
}


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize(("changes", "text"), _CORRUPT.values(), ids=_CORRUPT.keys())
def test_a_corrupt_state_is_refused_and_the_layer_left_as_it_was(changes: State, text: str, assign: bool) -> None:
    layer = sparse()
    before = tensors(layer)

    with pytest.raises(RuntimeError, match=text):
        layer.load_state_dict(_state(**changes), assign=assign)

    assert same(tensors(layer), before)
    layer(inputs(5, 6)).sum().backward()


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize(("changes", "text"), _HALF.values(), ids=_HALF.keys())
def test_a_state_that_lacks_a_part_is_refused_and_the_layer_left_as_it_was(
    changes: State, text: str, assign: bool
) -> None:
    layer = sparse()
    before = tensors(layer)

    with pytest.raises(RuntimeError, match=text):
        layer.load_state_dict(_state(**changes), assign=assign)

    assert same(tensors(layer), before)
    layer(inputs(5, 6)).sum().backward()


@pytest.mark.parametrize("name", ["values", "row_pointers", "column_indices", "column_pointers"])
def test_half_a_topology_is_refused_even_where_keys_may_be_missing(name: str) -> None:
    layer = sparse()
    before = tensors(layer)

    with pytest.raises(RuntimeError, match=name):
        layer.load_state_dict(_state(**{name: None}), strict=False)

    assert same(tensors(layer), before)


def test_a_state_without_the_layer_may_be_loaded_where_keys_may_be_missing() -> None:
    layer = sparse()
    before = tensors(layer)

    layer.load_state_dict({}, strict=False)

    assert same(tensors(layer), before)


def test_a_state_of_other_in_features_is_refused() -> None:
    # Every column of the state exists in the wider layer too.
    with pytest.raises(RuntimeError, match="8"):
        sparse(8, 4).load_state_dict(_state())


def test_a_dense_state_is_refused() -> None:
    layer = sparse()
    before = tensors(layer)

    with pytest.raises(RuntimeError, match=r"Missing key.* \"values\""):
        layer.load_state_dict(nn.Linear(6, 4, bias=False).state_dict())

    assert same(tensors(layer), before)


def _through_a_file(layer: SparseLinear) -> SparseLinear:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    loaded: SparseLinear = torch.load(file, weights_only=False)
    return loaded


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer)), _through_a_file])
def test_a_copy_is_equal_and_apart(copied: Any) -> None:
    layer = sparse().eval()
    layer.values.requires_grad_(False)
    before = tensors(layer)
    other = copied(layer)

    assert same(tensors(other), before)
    assert _same_result(layer, other)
    assert (other.training, other.values.requires_grad) == (False, False)
    other.values.data.fill_(7.0)
    other.load_state_dict(_state())
    assert same(tensors(layer), before)


def test_a_state_survives_a_file_that_holds_only_tensors() -> None:
    layer, other, file = sparse(), sparse(sparsity=0.1, seed=9), io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)

    other.load_state_dict(torch.load(file, weights_only=True))

    assert same(tensors(other), tensors(layer))


def test_a_copy_keeps_what_is_shared_shared() -> None:
    layer = sparse(6, 6)
    model = copy.deepcopy(nn.Sequential(layer, nn.ReLU(), layer))

    assert model[0] is model[2]
    assert len(list(model.parameters())) == 2
