"""Sequential: the same bits as torch's, hooks heard, and no step of autograd between the layers of a run."""

import copy
import io
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import gossamer as gs
from gossamer.models import mlp
from gossamer.nn import AllReLU, Dropout, ReLU, Sequential

from .build import inputs, sparse

ACTIVATIONS: dict[str, Any] = {
    "ReLU": lambda layer: [nn.ReLU()],
    "ReLU in place": lambda layer: [nn.ReLU(inplace=True)],
    "ReLU and dropout": lambda layer: [ReLU(dropout=0.3)],
    "ReLU, then dropout": lambda layer: [nn.ReLU(), Dropout(0.25)],
    "dropout, then ReLU": lambda layer: [Dropout(0.25), nn.ReLU()],
    "two slopes": lambda layer: [AllReLU(alpha=0.6, layer=layer), nn.ReLU()],
    "AllReLU": lambda layer: [AllReLU(alpha=0.6, layer=layer)],
    "AllReLU and dropout": lambda layer: [AllReLU(alpha=0.6, layer=layer, dropout=0.2)],
    "dropout": lambda layer: [Dropout(0.5)],
    "nothing": lambda layer: [],
    "another": lambda layer: [nn.Tanh()],
}


def modules(kind: str, *, dtype: torch.dtype = torch.float32, bias: bool = True, last: int = 17) -> list[nn.Module]:
    layers = [sparse(*sizes, dtype=dtype, bias=bias) for sizes in ((37, 50), (50, 41), (41, 33))]
    run = [each for place, layer in enumerate(layers) for each in (layer, *ACTIVATIONS[kind](place + 1))]
    return [*run, nn.Linear(33, last, bias=bias, dtype=dtype)]


def step(model: nn.Module, x: Tensor) -> list[Tensor | None]:
    """The result and all gradients."""
    model.zero_grad()
    x.grad = None
    torch.manual_seed(3)
    y = model(x)
    if y.requires_grad:
        (y * inputs(*y.shape, seed=2, dtype=y.dtype)).sum().backward()
    return [y.detach(), x.grad, *(parameter.grad for parameter in model.parameters())]


def check_same_bits(run: list[nn.Module], x: Tensor) -> None:
    ours, theirs = step(Sequential(*run), x), step(nn.Sequential(*run), x)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None and other is not None:
            torch.testing.assert_close(mine, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("batch", [0, 1, 2, 17, 128, 300])
def test_results_and_gradients_have_the_bits_of_torchs_sequential(kind: str, batch: int) -> None:
    check_same_bits(modules(kind), inputs(batch, 37).requires_grad_())


@pytest.mark.parametrize("kind", ["ReLU", "AllReLU and dropout"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_so_they_have_for_each_dtype_without_biases_and_at_the_end(
    kind: str, dtype: torch.dtype, bias: bool, last: bool
) -> None:
    run = modules(kind, dtype=dtype, bias=bias)
    check_same_bits(run if last else run[:-1], inputs(20, 37, dtype=dtype).requires_grad_())


@pytest.mark.parametrize("kind", ["ReLU", "AllReLU"])
@pytest.mark.parametrize("frozen", [(0,), (2,), (0, 2), (0, 2, 4), "x", "biases", "values"])
def test_so_they_have_where_something_is_frozen(kind: str, frozen: Any) -> None:
    run = modules(kind)
    for place in frozen if isinstance(frozen, tuple) else ():
        run[place].requires_grad_(False)
    for name, parameter in nn.Sequential(*run).named_parameters():
        if (frozen == "biases" and "bias" in name) or (frozen == "values" and "values" in name):
            parameter.requires_grad_(False)
    check_same_bits(run, inputs(9, 37).requires_grad_(frozen != "x"))


@pytest.mark.parametrize("kind", ["ReLU", "AllReLU", "nothing"])
@pytest.mark.parametrize("batch", [0, 1, 2, 17, 300])
@pytest.mark.parametrize("outputs", [1, 5, 16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_dense_layer_of_few_outputs_joins_the_run(kind: str, batch: int, outputs: int, bias: bool) -> None:
    run = modules(kind, dtype=torch.float64, bias=bias, last=outputs)
    x = inputs(batch, 37, dtype=torch.float64).requires_grad_()

    assert type(Sequential(*run)(x).grad_fn).__name__ == "_ChainBackward"
    for mine, other in zip(step(Sequential(*run), x), step(nn.Sequential(*run), x), strict=True):
        assert mine is not None
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("frozen", ["weight", "bias", "both"])
def test_a_dense_layer_at_the_end_may_be_frozen(frozen: str) -> None:
    run = modules("ReLU", dtype=torch.float64, last=3)
    for name in ("weight", "bias") if frozen == "both" else (frozen,):
        run[-1].get_parameter(name).requires_grad_(False)
    x = inputs(9, 37, dtype=torch.float64)

    for mine, other in zip(step(Sequential(*run), x), step(nn.Sequential(*run), x), strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            torch.testing.assert_close(mine, other)


@pytest.mark.parametrize(("features", "outputs"), [(33, 17), (4097, 16)])
def test_a_larger_dense_layer_stays_torchs(features: int, outputs: int) -> None:
    run = [sparse(37, features, sparsity=0.99), nn.ReLU(), nn.Linear(features, outputs)]
    assert type(Sequential(*run)(inputs(4, 37)).grad_fn).__name__ == "AddmmBackward0"


@pytest.mark.parametrize("what", ["hook", "parametrization", "pruned by torch", "subclass"])
def test_a_dense_layer_that_is_more_than_one_is_called_itself(what: str) -> None:
    run, calls = modules("ReLU", last=3), []
    if what == "hook":
        run[-1].register_forward_hook(lambda module, args, output: calls.append(module))
    elif what == "parametrization":
        nn.utils.parametrize.register_parametrization(run[-1], "weight", nn.Tanh())
    elif what == "pruned by torch":
        prune.l1_unstructured(run[-1], "weight", amount=0.5)
    else:
        run[-1] = type("Scaled", (nn.Linear,), {"forward": lambda self, x: 2 * nn.Linear.forward(self, x)})(33, 3)
    x = inputs(9, 37)

    torch.testing.assert_close(Sequential(*run)(x), nn.Sequential(*run)(x), rtol=0, atol=0)
    assert len(calls) == (2 if what == "hook" else 0)


def test_in_evaluation_nothing_is_dropped_and_without_gradients_the_result_is_the_same() -> None:
    run = modules("ReLU and dropout")
    ours, theirs = Sequential(*run).eval(), nn.Sequential(*run).eval()
    with torch.no_grad():
        assert torch.equal(ours(inputs(7, 37)), theirs(inputs(7, 37)))


def test_a_run_is_one_step_of_autograd() -> None:
    y = Sequential(*modules("ReLU")[:-1])(inputs(4, 37).requires_grad_())

    above = {function for function, _ in y.grad_fn.next_functions if function is not None}
    assert type(y.grad_fn).__name__ == "_ChainBackward"
    assert not any("Linear" in type(function).__name__ for function in above)


def test_what_is_no_number_passes_a_relu_as_in_torch() -> None:
    x = inputs(3, 37)
    x[1] = float("nan")
    check_same_bits(modules("ReLU"), x.requires_grad_())


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"])
def test_a_hook_on_any_module_of_a_run_is_called(place: int, kind: str) -> None:
    model, calls = Sequential(*modules("ReLU")), []
    getattr(model[place], kind)(lambda *args: calls.append(args[0]))

    model(inputs(4, 37).requires_grad_()).sum().backward()

    assert calls == [model[place]]


def test_a_global_hook_is_called_for_each_module() -> None:
    model, calls = Sequential(*modules("ReLU")), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, output: calls.append(module))
    try:
        model(inputs(4, 37))
    finally:
        handle.remove()

    assert calls == [*model, model]


def test_rigl_sees_the_gradients_that_it_sees_in_torchs_sequential() -> None:
    masks, run = [], modules("ReLU")
    for kind in (Sequential, nn.Sequential):
        model = kind(*copy.deepcopy(run))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        generator = torch.Generator().manual_seed(0)
        sparsifier = gs.recipes.rigl(model, optimizer, stop_step=9, update_every=2, generator=generator)
        for number in range(8):
            optimizer.zero_grad()
            model(inputs(16, 37, seed=number)).square().sum().backward()
            optimizer.step()
            sparsifier.step()
        masks.append([weight.indices() for weight in sparsifier.weights])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*masks, strict=True))


@pytest.mark.parametrize("kind", ["ReLU", "AllReLU", "nothing"])
@pytest.mark.parametrize("joined", [True, False])
def test_gradients_can_be_differentiated_again(kind: str, joined: bool) -> None:
    run = modules(kind, dtype=torch.float64, last=4)
    model = Sequential(*(run if joined else run[:-1]))
    x = inputs(3, 37, dtype=torch.float64).requires_grad_()
    values = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def penalty(run: nn.Module) -> list[Tensor]:
        grads = torch.autograd.grad(run(x).square().sum(), [x, *values], create_graph=True)
        return list(torch.autograd.grad(sum(grad.square().sum() for grad in grads), [x, *values]))  # type: ignore[arg-type]

    for ours, theirs in zip(penalty(model), penalty(nn.Sequential(*model.children())), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_sizes_that_do_not_fit_are_named_as_ever() -> None:
    with pytest.raises(ValueError, match="in_features = 50"):
        Sequential(sparse(37, 40), nn.ReLU(), sparse(50, 41))(inputs(4, 37))
    with pytest.raises(ValueError, match="in_features = 37"):
        Sequential(sparse(37, 40), nn.ReLU())(inputs(4, 36))


def test_other_inputs_are_taken_as_by_torchs_sequential() -> None:
    run = modules("ReLU")
    for x in (inputs(2, 3, 37), inputs(37)):
        assert torch.equal(Sequential(*run)(x), nn.Sequential(*run)(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(Sequential(*run)(inputs(4, 37)), nn.Sequential(*run)(inputs(4, 37)))


def test_values_exchanged_before_the_backward_pass_are_refused() -> None:
    model = Sequential(*modules("ReLU"))
    y = model(inputs(4, 37).requires_grad_())
    values = model.get_parameter("2.values")
    values.data = values.data[:-1]

    with pytest.raises(ValueError, match="must agree"):
        y.sum().backward()


def test_a_result_may_be_changed_in_place_where_no_activation_keeps_it() -> None:
    model = Sequential(*modules("nothing")[:-1])
    model(inputs(4, 37)).add_(1.0).sum().backward()

    assert model[0].values.grad is not None


def test_it_is_a_sequential_to_all_the_world() -> None:
    model = Sequential(OrderedDict(zip("abcd", modules("ReLU"), strict=False)))
    x = inputs(4, 37)

    assert isinstance(model, nn.Sequential)
    assert list(model.state_dict()) == list(nn.Sequential(OrderedDict(model.named_children())).state_dict())
    assert torch.equal(model[:2](x), nn.Sequential(*model.children())[:2](x))
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer, weights_only=False)(x), model(x))


def test_sparse_models_are_made_of_it() -> None:
    model = mlp([9, 8, 7], sparsity=0.5, generator=torch.Generator())
    dense = nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 7), nn.ReLU()))
    found = gs.sparsify(dense, sparsity=0.5, generator=torch.Generator())

    assert type(model) is type(found) is type(found.get_submodule("2")) is Sequential
    assert type(dense) is type(dense[2]) is nn.Sequential
