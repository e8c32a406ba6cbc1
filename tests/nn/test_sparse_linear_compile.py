import io
import os
import shutil
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from gossamer.nn import AllReLU

from .build import inputs, sparse

_BATCH = torch.export.Dim("batch")


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def _model() -> nn.Module:
    return nn.Sequential(sparse(6, 8), AllReLU(alpha=0.5, layer=1), sparse(8, 3, seed=2, bias=False))


def _gradients(call: Callable[[Tensor], Tensor], model: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    output = call(x)
    return [output, *torch.autograd.grad(output.square().sum(), [x, *model.parameters()])]


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch's own import
def test_a_compiled_layer_equals_the_eager_one_forward_and_backward() -> None:
    layer = sparse()

    found = _gradients(torch.compile(layer, fullgraph=True), layer, inputs(5, 6))

    torch.testing.assert_close(found, _gradients(layer, layer, inputs(5, 6)))


def test_a_traced_model_equals_the_eager_one_at_every_batch() -> None:
    model = _model()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")

    for shape in [(5, 6), (1, 6), (0, 6), (33, 6), (2, 7, 6)]:
        torch.testing.assert_close(
            _gradients(compiled, model, inputs(*shape)), _gradients(model, model, inputs(*shape))
        )


def test_a_traced_model_is_not_traced_again_for_each_batch() -> None:
    compiled = torch.compile(_model(), fullgraph=True, backend="eager", dynamic=True)
    compiled(inputs(5, 6))
    with torch.compiler.set_stance("fail_on_recompile"):
        assert compiled(inputs(9, 6)).shape == (9, 3)


@pytest.mark.parametrize("sparsity", [0.5, 0.25, 0.75])
def test_a_traced_model_follows_its_topology(sparsity: float) -> None:
    layer, other = sparse(), sparse(sparsity=sparsity, seed=4)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    compiled(inputs(5, 6))

    layer.replace_(other.topology, other.values.detach())

    torch.testing.assert_close(_gradients(compiled, layer, inputs(5, 6)), _gradients(layer, layer, inputs(5, 6)))


def test_a_frozen_layer_is_traced_without_the_gradient_of_its_values() -> None:
    layer = sparse()
    layer.values.requires_grad_(False)
    x = inputs(5, 6).requires_grad_()

    output = torch.compile(layer, fullgraph=True, backend="aot_eager")(x)
    (found,) = torch.autograd.grad(output.sum(), x)

    torch.testing.assert_close(found, torch.autograd.grad(layer(x).sum(), x)[0])


def _through_a_file(program: torch.export.ExportedProgram) -> nn.Module:
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file).module()


def test_an_exported_model_equals_the_eager_one_at_every_batch() -> None:
    model = _model()
    program = torch.export.export(model, (inputs(5, 6),), dynamic_shapes=({0: _BATCH},))
    loaded = _through_a_file(program)

    for batch in (1, 2, 5, 64):
        assert torch.equal(loaded(inputs(batch, 6)), model(inputs(batch, 6)))


def test_an_exported_layer_keeps_its_leading_axes_open() -> None:
    layer = sparse()
    axes = {0: _BATCH, 1: torch.export.Dim("time")}
    loaded = _through_a_file(torch.export.export(layer, (inputs(5, 3, 6),), dynamic_shapes=(axes,)))

    for batch, time in ((1, 1), (2, 9), (7, 2)):
        assert torch.equal(loaded(inputs(batch, time, 6)), layer(inputs(batch, time, 6)))
