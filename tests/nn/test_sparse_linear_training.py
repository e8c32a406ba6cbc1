from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn, optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gossamer.nn import AllReLU

from .build import inputs, live, masked, same, sparse, tensors, train

_Optimizer = Callable[[Iterable[Tensor]], optim.Optimizer]
_OPTIMIZERS: dict[str, _Optimizer] = {
    "sgd": lambda parameters: optim.SGD(parameters, lr=0.01),
    "sgd momentum": lambda parameters: optim.SGD(
        parameters, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1, foreach=False
    ),
    "sgd foreach": lambda parameters: optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=0.1, foreach=True),
    "sgd fused": lambda parameters: optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=0.1, fused=True),
    "adamw": lambda parameters: optim.AdamW(parameters, lr=0.01, weight_decay=0.1, foreach=False),
    "adamw foreach": lambda parameters: optim.AdamW(parameters, lr=0.01, amsgrad=True, foreach=True),
    "adamw fused": lambda parameters: optim.AdamW(parameters, lr=0.01, fused=True),
    "rmsprop": lambda parameters: optim.RMSprop(parameters, lr=0.01, momentum=0.9, centered=True),
    "rmsprop foreach": lambda parameters: optim.RMSprop(parameters, lr=0.01, foreach=True),
    "adagrad": lambda parameters: optim.Adagrad(parameters, lr=0.01),
    "adagrad foreach": lambda parameters: optim.Adagrad(parameters, lr=0.01, foreach=True),
    "adagrad fused": lambda parameters: optim.Adagrad(parameters, lr=0.01, fused=True),
}


@pytest.mark.parametrize("make", _OPTIMIZERS.values(), ids=_OPTIMIZERS.keys())
def test_every_optimizer_trains_it_as_it_trains_the_masked_dense_layer(make: _Optimizer) -> None:
    layer = sparse(dtype=torch.float64)
    dense, before = masked(layer), tensors(layer)
    optimizer = make(layer.parameters())

    train(layer, optimizer)
    train(dense, make(dense.parameters()))

    assert int((layer.values != before["values"]).sum()) == layer.num_active
    torch.testing.assert_close(layer.values, live(layer, dense.weight), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(layer.bias, dense.bias, rtol=1e-9, atol=1e-12)
    assert {tuple(part.shape) for part in optimizer.state[layer.values].values() if part is not None} <= {(12,), ()}


def test_training_leaves_the_topology_alone() -> None:
    layer = sparse(dtype=torch.float64)
    before = tensors(layer)

    train(layer, optim.SGD(layer.parameters(), lr=0.1))

    after = tensors(layer)
    for name in ("values", "bias"):
        del before[name], after[name]
    assert same(after, before)


@pytest.mark.parametrize("foreach", [False, True])
def test_clipping_scales_its_gradient_by_the_norm_over_active_weights(foreach: bool) -> None:
    layer = sparse(dtype=torch.float64)
    dense = masked(layer)
    for model in (layer, dense):
        model(inputs(5, 6, dtype=torch.float64)).square().sum().backward()
    assert dense.weight.grad is not None

    norms = [nn.utils.clip_grad_norm_(model.parameters(), 0.5, foreach=foreach) for model in (layer, dense)]

    torch.testing.assert_close(norms[0], norms[1])
    torch.testing.assert_close(layer.values.grad, live(layer, dense.weight.grad))


def test_the_average_of_models_averages_the_values() -> None:
    layer = sparse()
    average = AveragedModel(layer)
    values = []
    for step in range(3):
        layer.values.data.fill_(float(step))
        values.append(layer.values.detach().clone())
        average.update_parameters(layer)

    torch.testing.assert_close(average.module.values, torch.stack(values).mean(0))
    assert average.module.values is not layer.values


def test_an_exponential_average_can_be_run_saved_and_loaded() -> None:
    layer = sparse()
    start = layer.values.detach().clone()
    average = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(0.75), use_buffers=True)
    average.update_parameters(layer)
    layer.values.data.fill_(1.0)
    average.update_parameters(layer)
    again = AveragedModel(sparse(sparsity=0.25, seed=3))
    again.load_state_dict(average.state_dict())

    torch.testing.assert_close(average.module.values, 0.75 * start + 0.25)
    assert same(tensors(again.module), tensors(average.module))
    assert torch.equal(again(inputs(5, 6)), average(inputs(5, 6)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_takes_any_input_and_multiplies_in_float32(dtype: torch.dtype) -> None:
    layer = sparse()
    with torch.autocast("cpu", dtype):
        narrow = layer(inputs(5, 6).to(dtype))
        wide = layer(inputs(5, 6))

    assert (narrow.dtype, wide.dtype) == (torch.float32, torch.float32)
    assert torch.equal(narrow, layer(inputs(5, 6).to(dtype).float()))
    assert torch.equal(wide, layer(inputs(5, 6)))


def test_autocast_trains_between_dense_layers() -> None:
    model = nn.Sequential(nn.Linear(6, 6), sparse(6, 6), AllReLU(alpha=0.5, layer=1), nn.Linear(6, 2))
    x = inputs(5, 6).requires_grad_()

    with torch.autocast("cpu", torch.bfloat16):
        loss = model(x).square().sum()
    loss.backward()
    reference = torch.autograd.grad(model(x).square().sum(), [x, *model.parameters()])

    found = [x.grad, *(parameter.grad for parameter in model.parameters())]
    for gradient, expected in zip(found, reference, strict=True):
        assert gradient is not None
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, expected, rtol=0.1, atol=0.05 * float(expected.abs().max()))


def test_a_scaled_loss_trains_as_an_unscaled_one() -> None:
    layers = sparse(), sparse()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizers = [optim.SGD(layer.parameters(), lr=0.1) for layer in layers]

    scaler.scale(layers[0](inputs(5, 6)).square().sum()).backward()
    scaler.step(optimizers[0])
    scaler.update()
    layers[1](inputs(5, 6)).square().sum().backward()
    optimizers[1].step()

    assert same(tensors(layers[0]), tensors(layers[1]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_narrow_layer_computes_what_it_holds(dtype: torch.dtype) -> None:
    layer = sparse().to(dtype)
    twin, x = sparse(), inputs(5, 6).to(dtype)
    twin.load_state_dict(layer.state_dict())

    output = layer(x)
    output.sum().backward()
    wide = twin(x.float())
    wide.sum().backward()

    assert output.dtype == dtype
    assert layer.row_pointers.dtype == torch.int32
    assert torch.equal(output, wide.to(dtype))
    assert layer.values.grad is not None
    assert twin.values.grad is not None
    assert torch.equal(layer.values.grad, twin.values.grad.to(dtype))


def test_other_parameters_can_be_put_in_for_one_call() -> None:
    layer, x = sparse(), inputs(5, 6)
    values = torch.ones(12, requires_grad=True)

    output = torch.func.functional_call(layer, {"values": values}, (x,))
    (found,) = torch.autograd.grad(output.square().sum(), values)
    layer.values.data.fill_(1.0)
    (expected,) = torch.autograd.grad(layer(x).square().sum(), layer.values)

    assert torch.equal(found, expected)
