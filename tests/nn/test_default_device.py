"""Layers on the CPU where new tensors are made elsewhere: the kernels' own memory lies where they read it."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer.kernels import chain, conv_on_cpu, cpu
from gossamer.nn import (
    Sequential,
    SparseConv1d,
    SparseConv2d,
    SparseEmbedding,
    SparseGRU,
    SparseGRUCell,
    SparseLinear,
    SparseLSTM,
    SparseRNN,
)

from .build import inputs

# (generator) -> layer; shape of its input
LAYERS: dict[str, tuple[Callable[[torch.Generator], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda g: SparseLinear(40, 30, sparsity=0.8, generator=g), (7, 40)),
    "linear, one row": (lambda g: SparseLinear(40, 30, sparsity=0.8, generator=g), (1, 40)),
    "conv1d": (lambda g: SparseConv1d(4, 8, 3, sparsity=0.8, generator=g), (3, 4, 9)),
    "conv2d": (lambda g: SparseConv2d(4, 8, 3, stride=2, sparsity=0.8, generator=g), (3, 4, 9, 9)),
    "rnn": (lambda g: SparseRNN(8, 9, sparsity=0.8, generator=g), (3, 4, 8)),
    "gru": (lambda g: SparseGRU(8, 9, sparsity=0.8, generator=g), (3, 4, 8)),
    "lstm": (lambda g: SparseLSTM(8, 9, sparsity=0.8, generator=g), (3, 4, 8)),
    "embedding": (lambda g: SparseEmbedding(50, 9, sparsity=0.8, generator=g), (3, 4)),
    "run": (
        lambda g: Sequential(SparseLinear(40, 50, sparsity=0.8, generator=g), nn.ReLU(), nn.Linear(50, 3)),
        (7, 40),
    ),
}


def forget() -> None:
    """Drop what is kept from earlier calls."""
    chain.all_places.cache_clear()
    conv_on_cpu.forget_plans()


def step(layer: nn.Module, x: Tensor) -> list[Tensor | None]:
    layer.zero_grad()
    result = layer(x)
    result = result[0] if isinstance(result, tuple) else result
    result.square().sum().backward()
    return [result.detach(), *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("kind", LAYERS)
def test_a_default_device_changes_nothing_for_what_lies_on_the_cpu(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_arenas", threading.local())
    make, shape = LAYERS[kind]
    layer = make(torch.Generator().manual_seed(0))
    x = torch.arange(12).view(shape) if kind == "embedding" else inputs(*shape)
    forget()
    with torch.device("meta"):
        elsewhere = step(layer, x)
    forget()

    for found, expected in zip(elsewhere, step(layer, x), strict=True):
        assert found is not None
        assert expected is not None
        assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_first_call_in_inference_mode_leaves_nothing_that_training_cannot_use(kind: str) -> None:
    make, shape = LAYERS[kind]
    layer = make(torch.Generator().manual_seed(0))
    x = torch.arange(12).view(shape) if kind == "embedding" else inputs(*shape)
    forget()
    with torch.inference_mode():
        layer(x)
    result = layer(x)
    result = result[0] if isinstance(result, tuple) else result
    parameters = list(layer.parameters())
    grads = torch.autograd.grad(result.square().sum(), parameters, create_graph=True)
    again = torch.autograd.grad(sum(grad.square().sum() for grad in grads), parameters, allow_unused=True)  # type: ignore[arg-type]
    assert any(grad is not None and bool(grad.any()) for grad in again)


@pytest.mark.parametrize("kind", [*LAYERS, "cell", "dense mlp", "sparse mlp"])
def test_what_is_made_lies_on_the_default_device(kind: str) -> None:
    others: dict[str, Callable[[torch.Generator], nn.Module]] = {
        "cell": lambda g: SparseGRUCell(8, 9, sparsity=0.8, generator=g),
        "dense mlp": lambda g: gs.models.mlp([8, 9, 3], generator=g),
        "sparse mlp": lambda g: gs.models.mlp([8, 9, 3], sparsity=0.5, generator=g),
    }
    make = others[kind] if kind in others else LAYERS[kind][0]
    expected = make(torch.Generator().manual_seed(0))
    with torch.device("meta"):
        made = make(torch.Generator().manual_seed(0))

    found = [*made.parameters(), *made.buffers()]
    assert {part.device.type for part in found} == {"meta"}
    wanted = [*expected.parameters(), *expected.buffers()]
    assert [(part.shape, part.dtype) for part in found] == [(part.shape, part.dtype) for part in wanted]


def test_a_model_is_made_sparse_and_updated_whatever_the_default_device_is() -> None:
    sparse, masks, x = [], [], inputs(6, 20)
    for where in ("cpu", "meta"):
        dense = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
        for part in dense.parameters():
            part.data = inputs(*part.shape)
        with torch.device(where):
            generator = torch.Generator("cpu").manual_seed(0)
            model = gs.sparsify(dense, sparsity=0.7, generator=generator)
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
            sparsifier = gs.recipes.set_(model, optimizer, update_every=2, stop_step=9, generator=generator)
            for _ in range(5):
                optimizer.zero_grad()
                model(x).square().sum().backward()
                optimizer.step()
                sparsifier.step()
        sparse.append([part.detach() for part in model.parameters()])
        masks.append([weight.indices() for weight in sparsifier.weights])
    for one, other in zip(sparse[0] + masks[0], sparse[1] + masks[1], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", LAYERS)
def test_without_numbers_the_shapes_come_out(kind: str) -> None:
    make, shape = LAYERS[kind]
    layer = make(torch.Generator().manual_seed(0))
    x = torch.arange(12).view(shape) if kind == "embedding" else inputs(*shape)
    expected, found = layer(x), layer.to("meta")(x.to("meta"))
    if isinstance(expected, tuple):
        expected, found = expected[0], found[0]

    assert (found.shape, found.dtype, found.device.type) == (expected.shape, expected.dtype, "meta")
