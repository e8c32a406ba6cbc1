"""What every storage of a linear weight keeps to."""

import copy
import io
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from gossamer import formats
from gossamer.kernels import panels
from gossamer.nn import SparseLinear

from .cases import ALL, BATCHES, HELD, MASKS, check, held, inputs_of, layer_of, neurons, ragged


def mask_for(name: str) -> Tensor:
    """Places that the format can hold."""
    return MASKS["neurons" if name == "compact" else "ragged"]


@pytest.fixture(autouse=True)
def _without_derivatives() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("name", formats.LINEAR)
def test_every_topology_and_batch_equals_the_dense_product(name: str, mask: Tensor) -> None:
    layer = layer_of(mask)
    module = formats.LINEAR[name](layer)

    for batch in BATCHES:
        inputs = inputs_of(layer, batch)
        if module is not None:
            check(module(inputs), layer, inputs)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", [name for name in ALL if name != "lean_csr"])
def test_float64_is_exact(name: str, batch: int) -> None:
    layer = layer_of(mask_for(name), torch.float64)
    inputs = inputs_of(layer, batch)

    check(held(name, layer)(inputs), layer, inputs)


@pytest.mark.parametrize("batch", [1, 20])
@pytest.mark.parametrize("name", ALL)
def test_no_bias_is_a_bias_of_zeros(name: str, batch: int) -> None:
    layer = layer_of(mask_for(name), bias=False)
    inputs = inputs_of(layer, batch)

    check(held(name, layer)(inputs), layer, inputs)


@pytest.mark.parametrize("chunks", [4, 8])
@pytest.mark.parametrize("name", HELD)
def test_every_width_of_register_equals_the_dense_product(
    name: str, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panels, "WIDEST", chunks)
    layer = layer_of(MASKS["blocks 8 x 8"])
    module = held(name, layer)

    assert getattr(module, "shape", (chunks,))[0] == chunks
    for batch in (1, 40, 130, 257):
        inputs = inputs_of(layer, batch)
        check(module(inputs), layer, inputs)


@pytest.mark.parametrize("name", ALL)
def test_inputs_of_any_rank_and_strides(name: str) -> None:
    layer = layer_of(mask_for(name))
    module, inputs = held(name, layer), torch.randn(6, 70, 4).transpose(1, 2)
    expected = module(inputs.reshape(24, 70))

    assert torch.equal(module(inputs), expected.view(6, 4, 53))
    assert torch.equal(module(inputs[0, 0]), module(inputs[0, :1])[0])
    assert torch.equal(module(inputs[:, 0].t().contiguous().t()), module(inputs[:, 0].contiguous()))


@pytest.mark.parametrize("name", HELD)
def test_wrong_inputs_are_refused(name: str) -> None:
    module = held(name, layer_of(MASKS["ragged"]))

    with pytest.raises(ValueError, match=r"shape \(2, 69\).*in_features = 70"):
        module(torch.zeros(2, 69))
    with pytest.raises(ValueError, match=r"float64.*float32"):
        module(torch.zeros(2, 70, dtype=torch.float64))


@pytest.mark.parametrize("name", ALL)
def test_autocast_computes_in_the_dtype_of_the_weight(name: str) -> None:
    module = held(name, layer_of(mask_for(name)))
    inputs = torch.randn(3, 70).bfloat16()

    with torch.autocast("cpu", torch.bfloat16):
        outputs = module(inputs)

    assert torch.equal(outputs, module(inputs.float()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", HELD)
def test_a_narrow_weight_is_left_alone_and_a_narrowed_one_still_computes(name: str, dtype: torch.dtype) -> None:
    layer = layer_of(MASKS["ragged"])
    module = held(name, layer).to(dtype)

    assert HELD[name](copy.deepcopy(layer).to(dtype)) is None
    outputs = module(torch.ones(2, 70, dtype=dtype))
    assert outputs.dtype == dtype
    assert torch.allclose(outputs.float(), layer(torch.ones(2, 70)), rtol=0.05, atol=0.1)


@pytest.mark.parametrize("name", HELD)
def test_a_derivative_is_refused_and_says_what_to_do(name: str) -> None:
    module = held(name, layer_of(MASKS["ragged"]))
    inputs = torch.randn(2, 70, requires_grad=True)

    with torch.enable_grad():
        outputs = module(inputs)
        operated = torch.compile(module, backend="eager")(inputs)
    for each in (outputs, operated):
        with torch.enable_grad(), pytest.raises(RuntimeError, match=r"accelerate.*train the original"):
            each.sum().backward()
    assert list(module.parameters()) == []


@pytest.mark.parametrize("name", ALL)
def test_copies_and_files_have_the_same_bits(name: str) -> None:
    module = held(name, layer_of(mask_for(name)))
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    inputs = torch.randn(3, 70)

    for copied in (copy.deepcopy(module), torch.load(file, weights_only=False)):
        assert torch.equal(copied(inputs), module(inputs))


@pytest.mark.parametrize("name", HELD)
def test_a_state_of_the_same_topology_loads(name: str) -> None:
    layer = layer_of(MASKS["ragged"])
    source, target = held(name, layer), held(name, layer)
    source.values.mul_(2)  # type: ignore[operator]
    inputs = torch.randn(3, 70)

    target.load_state_dict(source.state_dict())

    assert torch.equal(target(inputs), source(inputs))


@pytest.mark.parametrize(
    ("name", "part"),
    [("block", "columns"), ("constant_fan_in", "indices"), ("compact", "columns"), ("lean_csr", "indices")],
)
@pytest.mark.parametrize("place", [-1, 70])
def test_a_state_that_points_outside_of_the_inputs_is_refused(name: str, part: str, place: int) -> None:
    module = held(name, layer_of(mask_for(name)))
    state = {key: value.clone() for key, value in module.state_dict().items()}
    state[part].view(-1)[3] = place
    before = module.state_dict()[part].clone()

    with pytest.raises(RuntimeError, match="places run from"):
        module.load_state_dict(state)
    assert torch.equal(module.state_dict()[part], before)


def test_compact_has_the_derivative_of_torch_and_no_parameter() -> None:
    layer = layer_of(MASKS["neurons"], torch.float64)
    module, inputs = held("compact", layer), torch.randn(3, 70, dtype=torch.float64, requires_grad=True)

    with torch.enable_grad():
        assert torch.autograd.gradcheck(module, (inputs,))
    assert list(module.parameters()) == []


def test_a_state_whose_pointers_pass_its_blocks_is_refused() -> None:
    module = held("block", layer_of(MASKS["ragged"]))
    state = {key: value.clone() for key, value in module.state_dict().items()}
    state["pointers"][-1] += 1

    with pytest.raises(RuntimeError, match="pointers must ascend"):
        module.load_state_dict(state)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("name", ALL)
def test_the_layer_that_trains_comes_back(name: str, mask: Tensor, bias: bool) -> None:
    layer = layer_of(mask, bias=bias)
    module = ALL[name](layer)
    back = layer if module is None else module.to_sparse()  # type: ignore[operator]

    assert isinstance(back, SparseLinear)
    assert torch.equal(back.to_dense().weight, layer.to_dense().weight)
    assert (back.bias is None) == (layer.bias is None)
    if back.bias is not None and layer.bias is not None:
        assert torch.equal(back.bias, layer.bias)


@pytest.mark.parametrize("name", ALL)
def test_two_threads_give_the_bits_of_one(name: str) -> None:
    mask = neurons(200, 70) if name == "compact" else ragged(200, 70)
    module = held(name, layer_of(mask))
    before = torch.get_num_threads()
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append([module(inputs_of(layer_of(mask), batch)) for batch in (1, 65)])
    torch.set_num_threads(before)

    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("name", ALL)
def test_compiled_and_exported_they_compute_the_same(name: str) -> None:
    module, inputs = held(name, layer_of(mask_for(name))), torch.randn(3, 70)
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    exported = torch.export.export(module, (inputs,)).module()

    assert torch.equal(compiled(inputs), module(inputs))
    assert torch.equal(exported(inputs), module(inputs))


@pytest.mark.parametrize("name", ALL)
def test_vmap_computes_the_same(name: str) -> None:
    module, inputs = held(name, layer_of(mask_for(name))), torch.randn(4, 3, 70)

    assert torch.allclose(torch.func.vmap(module)(inputs), module(inputs), atol=1e-5)


@pytest.mark.parametrize("name", formats.LINEAR)
def test_other_layers_are_left_alone(name: str) -> None:
    assert formats.LINEAR[name](nn.Linear(8, 8)) is None


@pytest.mark.parametrize("name", ["csr", *ALL])
def test_what_takes_more_memory_than_dense_is_left_alone(name: str) -> None:
    assert formats.LINEAR[name](layer_of(torch.ones(32, 32).bool())) is None


def test_a_layer_of_50000_x_50000_is_not_made_dense() -> None:
    layer = SparseLinear(50_000, 50_000, sparsity=0.9999, generator=torch.Generator())

    assert formats.LINEAR["dense"](layer) is None
    assert formats.LINEAR["constant_fan_in"](layer) is not None


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ALL)
def test_the_mode_is_kept(name: str, training: bool) -> None:
    assert held(name, layer_of(mask_for(name)).train(training)).training is training
