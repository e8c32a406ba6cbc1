"""Layers on the CPU where new tensors are made elsewhere: the kernels' own memory lies where they read it."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gossamer.kernels import chain, conv_on_cpu, cpu
from gossamer.nn import (
    Sequential,
    SparseConv1d,
    SparseConv2d,
    SparseEmbedding,
    SparseGRU,
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
