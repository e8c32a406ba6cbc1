"""The storages that round: how they round, and what they share with those that do not."""

import copy
import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer import formats
from gossamer.formats.int8 import rounded
from gossamer.nn import SparseLinear

from .cases import MASKS, check, inputs_of, layer_of

NAMES = list(formats.ROUNDED)
BATCHES = [0, 1, 3, 7, 17, 64, 130]


@pytest.fixture(autouse=True)
def _without_derivatives() -> Iterator[None]:
    with torch.no_grad():
        yield


def hold(name: str, layer: nn.Module) -> formats.Bfloat16Linear | formats.Int8Linear:
    """The layer in a format that can hold it."""
    module = formats.ROUNDED[name](layer)
    assert isinstance(module, (formats.Bfloat16Linear, formats.Int8Linear))
    return module


def rounded_weight(name: str, weight: Tensor) -> Tensor:
    """The weight that a format computes with, by another way than its own."""
    if name == "bfloat16":
        return weight.bfloat16().float()
    scale = weight.abs().amax(1, keepdim=True) / 127
    return torch.where(scale > 0, (weight.double() / scale.double()).round() * scale, 0).float()


def rounded_layer(name: str, layer: SparseLinear) -> SparseLinear:
    """A layer of the rounded weight."""
    dense = layer.to_dense()
    dense.weight.copy_(rounded_weight(name, dense.weight))
    return SparseLinear.from_dense(dense)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("name", NAMES)
def test_every_topology_and_batch_equals_the_product_of_the_rounded_weight(name: str, mask: Tensor) -> None:
    layer = layer_of(mask)
    module, oracle = hold(name, layer), rounded_layer(name, layer)

    for batch in BATCHES:
        inputs = inputs_of(layer, batch)
        check(module(inputs), oracle, inputs)


@pytest.mark.parametrize("name", NAMES)
def test_no_bias_is_a_bias_of_zeros(name: str) -> None:
    layer = layer_of(MASKS["ragged"], bias=False)

    for batch in (1, 20):
        inputs = inputs_of(layer, batch)
        check(hold(name, layer)(inputs), rounded_layer(name, layer), inputs)


def test_bfloat16_has_the_bits_of_torch() -> None:
    layer = layer_of(MASKS["tall"])
    module = hold("bfloat16", layer)

    assert torch.equal(module.values, layer.values.bfloat16())


def test_int8_is_never_further_away_than_half_a_scale() -> None:
    layer = layer_of(MASKS["wide"])
    layer.values.mul_(torch.logspace(-6, 6, layer.num_active))
    module = hold("int8", layer)
    assert isinstance(module, formats.Int8Linear)
    assert module.scales is not None
    weight, found = layer.to_dense().weight.double(), module.to_sparse().to_dense().weight.double()

    assert torch.equal(module.scales, layer.to_dense().weight.abs().amax(1) / 127)
    assert bool(((weight - found).abs() <= 0.5 * module.scales[:, None].double() * (1 + 1e-6)).all())
    assert int(module.values.abs().max()) == 127


def test_int8_by_hand() -> None:
    values, rows = torch.tensor([-2.54, 1.0, 0.0, 0.0, 1e-43, -5e-44]), torch.tensor([0, 0, 2, 2, 3, 3])

    whole, scales = rounded(values, rows, 5)

    assert whole.tolist() == [-127, 50, 0, 0, 0, 0]
    assert torch.allclose(scales, torch.tensor([0.02, 0, 0, torch.finfo(torch.float32).tiny, 0]), atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_of_zeros_and_without_weights_are_the_bias(name: str) -> None:
    layer = layer_of(MASKS["ragged"])
    first = int(layer.row_pointers[1])
    layer.values[:first] = 0
    module, inputs = hold(name, layer), inputs_of(layer, 5)

    empty = int(layer.row_pointers.diff().argmin())
    for row in (0, empty):
        assert torch.equal(module(inputs)[:, row], layer.bias[row].expand(5))  # type: ignore[index]


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_is_refused(name: str, wrong: float) -> None:
    layer = layer_of(MASKS["ragged"])
    layer.values[3] = wrong

    with pytest.raises(ValueError, match=r"1 of \d+ weights are NaN or infinite; only finite"):
        hold(name, layer)


def test_what_bfloat16_would_make_infinite_is_refused() -> None:
    layer = layer_of(MASKS["ragged"])
    layer.values[3] = torch.finfo(torch.float32).max

    with pytest.raises(ValueError, match="infinite in bfloat16"):
        hold("bfloat16", layer)
    assert hold("int8", layer).to_sparse().values.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_dense_layers_with_zeros_are_held_too(name: str) -> None:
    layer = layer_of(MASKS["ragged"])
    inputs = inputs_of(layer, 3)

    assert torch.equal(hold(name, layer.to_dense())(inputs), hold(name, layer)(inputs))


class Own(SparseLinear):
    """It might compute something else."""


@pytest.mark.parametrize("name", NAMES)
def test_other_layers_are_left_alone(name: str) -> None:
    own = Own(40, 40, sparsity=0.9, generator=torch.Generator())
    full = layer_of(torch.ones(32, 32).bool())
    others = [nn.Linear(8, 8), nn.Conv2d(3, 3, 3), own, layer_of(MASKS["ragged"], torch.float64)]
    others.append(layer_of(MASKS["ragged"]).bfloat16())

    assert [formats.ROUNDED[name](layer) for layer in others] == [None] * 5
    assert formats.ROUNDED["bfloat16"](full) is None
    assert formats.ROUNDED["int8"](full) is not None


@pytest.mark.parametrize(("inputs", "dtype"), [(65_536, torch.uint16), (65_537, torch.int32)])
@pytest.mark.parametrize("name", NAMES)
def test_indices_are_as_narrow_as_the_inputs_allow(name: str, inputs: int, dtype: torch.dtype) -> None:
    layer = SparseLinear(inputs, 9, sparsity=0.999, generator=torch.Generator().manual_seed(0))
    layer = SparseLinear.from_dense(_with_last_input(layer.to_dense()))
    module = hold(name, layer)
    width = {"bfloat16": 2, "int8": 1}[name]

    assert module.indices.dtype == dtype
    scales = 4 * 9 if name == "int8" else 0
    assert formats.held_bytes(module) == layer.num_active * (width + dtype.itemsize) + 4 * 10 + 4 * 9 + scales
    for batch in (1, 2, 40):
        check(module(inputs_of(layer, batch)), rounded_layer(name, layer), inputs_of(layer, batch))


def _with_last_input(dense: nn.Linear) -> nn.Linear:
    dense.weight[:, -1] = 1
    return dense


@pytest.mark.parametrize("name", NAMES)
def test_inputs_of_any_rank_and_strides(name: str) -> None:
    module, inputs = hold(name, layer_of(MASKS["ragged"])), torch.randn(6, 70, 4).transpose(1, 2)
    expected = module(inputs.reshape(24, 70))

    assert torch.equal(module(inputs), expected.view(6, 4, 53))
    assert torch.equal(module(inputs[0, 0]), module(inputs[0, :1])[0])
    with pytest.raises(ValueError, match=r"float64.*float32"):
        module(torch.zeros(2, 70, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"shape \(2, 69\).*in_features = 70"):
        module(torch.zeros(2, 69))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(inputs.bfloat16()), module(inputs.bfloat16().float()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_a_converted_module_still_computes(name: str, dtype: torch.dtype) -> None:
    module, inputs = hold(name, layer_of(MASKS["ragged"])), torch.ones(2, 70)
    expected = module(inputs)
    outputs = module.to(dtype)(inputs.to(dtype))

    assert outputs.dtype == dtype
    assert torch.allclose(outputs.float(), expected, atol=0.2 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_derivative_is_refused_and_says_what_to_do(name: str) -> None:
    module = hold(name, layer_of(MASKS["ragged"]))
    inputs = torch.randn(2, 70, requires_grad=True)

    with torch.enable_grad():
        results = module(inputs), torch.compile(module, backend="eager")(inputs)
    for each in results:
        with torch.enable_grad(), pytest.raises(RuntimeError, match=r"accelerate.*train the original"):
            each.sum().backward()
    assert list(module.parameters()) == []


@pytest.mark.parametrize("name", NAMES)
def test_copies_files_and_states_have_the_same_bits(name: str) -> None:
    layer = layer_of(MASKS["ragged"])
    module, inputs, file = hold(name, layer), torch.randn(3, 70), io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    other = copy.deepcopy(layer)
    other.values.mul_(-2)
    loaded = hold(name, other)
    loaded.load_state_dict(module.state_dict())

    for copied in (copy.deepcopy(module), torch.load(file, weights_only=False), loaded):
        assert torch.equal(copied(inputs), module(inputs))


@pytest.mark.parametrize("part", ["past the inputs", "twice", "pointers"])
@pytest.mark.parametrize("name", NAMES)
def test_a_state_with_wrong_places_is_refused(name: str, part: str) -> None:
    module = hold(name, layer_of(MASKS["ragged"]))
    state = {key: value.clone() for key, value in module.state_dict().items()}
    match part:
        case "past the inputs":
            state["indices"] = state["indices"].long().index_fill(0, torch.tensor([3]), 70)
        case "twice":
            state["indices"][1] = state["indices"][0]
        case "pointers":
            state["pointers"][-1] += 1
    before = module.indices.long()

    with pytest.raises(RuntimeError, match=r"places run from|places of an output must ascend|pointers must ascend"):
        module.load_state_dict(state)
    assert torch.equal(module.indices.long(), before)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_layer_that_trains_has_the_rounded_weight(name: str, bias: bool) -> None:
    layer = layer_of(MASKS["ragged"], bias=bias)
    back = hold(name, layer).to_sparse()

    assert torch.allclose(back.to_dense().weight, rounded_weight(name, layer.to_dense().weight), rtol=1e-6)
    assert (back.bias is None) == (not bias)
    assert back.values.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_is_truly_sparse_of_rounded_values(name: str, tmp_path: Any) -> None:
    layer = layer_of(MASKS["ragged"])
    model, inputs = nn.Sequential(hold(name, layer)), torch.randn(3, 70)
    gs.save(model, tmp_path / "model.safetensors")
    loaded = gs.load(tmp_path / "model.safetensors", nn.Sequential(nn.Linear(70, 53)))

    assert isinstance(loaded[0], SparseLinear)  # type: ignore[index]
    check(loaded(inputs), rounded_layer(name, layer), inputs)


@pytest.mark.parametrize("name", NAMES)
def test_compiled_exported_and_mapped_they_compute_the_same(name: str) -> None:
    module, inputs = hold(name, layer_of(MASKS["ragged"])), torch.randn(3, 70)
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    exported = torch.export.export(module, (inputs,)).module()

    assert torch.equal(compiled(inputs), module(inputs))
    assert torch.equal(exported(inputs), module(inputs))
    assert torch.allclose(torch.func.vmap(module)(inputs[:, None])[:, 0], module(inputs), atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_mode_is_kept(name: str, training: bool) -> None:
    assert hold(name, layer_of(MASKS["ragged"]).train(training)).training is training
