from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer import statistics, to_sparse

from .conftest import Mixed

Data = list[tuple[Tensor, Tensor]]
IMAGES = [torch.linspace(-1, 1, 2 * 3 * 6 * 6).view(2, 3, 6, 6)]
ROWS = [torch.linspace(-1, 1, 12).view(4, 3)]


class _Calls(nn.Module):
    """Layers by name, and a forward pass made of them."""

    def __init__(self, run: Callable[[Any, Tensor], object], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, inputs: Tensor) -> object:
        return self.run(self, inputs)


def calls(run: Callable[[Any, Tensor], object], **layers: nn.Module) -> Any:
    return _Calls(run, **layers)


def outgoing(model: nn.Module, layer: nn.Module, data: list[Tensor]) -> Tensor:
    return statistics.outgoing_weights(model, {"layer": layer}, data)["layer"]


def scale(model: nn.Module, layer: nn.Module, data: list[Tensor]) -> Tensor:
    return statistics.norm_scales(model, {"layer": layer}, data)["layer"]


def test_a_linear_layer_is_read_by_the_columns_of_the_next() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 5), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(5, 2))

    assert torch.equal(outgoing(model, model[0], ROWS), model[3].weight)


def test_a_flattened_convolution_is_read_by_as_many_columns_as_it_has_positions() -> None:
    head = nn.Linear(4, 1)
    head.weight.data = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    model: Any = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), head)

    assert outgoing(model, model[0], [torch.ones(1, 1, 1, 2)]).tolist() == [[[1.0, 2.0], [3.0, 4.0]]]


def test_columns_are_regrouped_where_channels_come_last() -> None:
    head = nn.Linear(4, 1)
    head.weight.data = torch.tensor([[1.0, 2.0, 3.0, 4.0]])

    def run(model: Any, inputs: Tensor) -> Tensor:
        # In this layout of the memory a view of the permuted tensor is possible, but not of one with other strides.
        found = model.conv(inputs).contiguous(memory_format=torch.channels_last)
        result: Tensor = model.head(found.permute(0, 2, 3, 1).view(len(inputs), -1))
        return result

    model = calls(run, conv=nn.Conv2d(1, 2, 1), head=head)

    assert outgoing(model, model.conv, [torch.ones(3, 1, 1, 2)]).tolist() == [[[1.0, 3.0], [2.0, 4.0]]]


def test_a_convolution_is_read_by_the_kernels_of_the_next_through_norm_pool_and_padding() -> None:
    model: Any = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3, padding=1,
        padding_mode="reflect"), nn.AdaptiveAvgPool2d(1), nn.Conv2d(5, 2, 1),
    )  # fmt: skip

    assert torch.equal(outgoing(model, model[0], IMAGES), model[4].weight)
    assert torch.equal(outgoing(model, model[4], IMAGES), model[6].weight)


@pytest.mark.parametrize("dims", [(2, 3), (3, 2), (-2, -1)])
def test_a_mean_over_positions_leaves_each_unit_one_column(dims: tuple[int, int]) -> None:
    def run(own: Any, inputs: Tensor) -> object:
        return own.head(F.interpolate(own.conv(inputs), scale_factor=2).mean(dims, dtype=torch.float32))

    model = calls(run, conv=nn.Conv2d(3, 4, 3), head=nn.Linear(4, 2))

    assert torch.equal(outgoing(model, model.conv, IMAGES), model.head.weight)


def test_what_the_reader_computes_is_the_sum_over_units_of_their_outgoing_weights(model: Mixed, data: Data) -> None:
    found = statistics.outgoing_weights(model, {"conv": model.conv}, data)["conv"]
    model.eval()
    activation = model.act(model.norm(model.conv(data[0][0])))
    by_unit = torch.einsum("oup,nup->no", found, activation.flatten(2)) + model.hidden.bias

    assert found.shape == (6, 4, 9)
    assert torch.allclose(by_unit, model.hidden(activation.flatten(1)), rtol=1e-12)


@pytest.mark.parametrize(("shape", "make"), [((2, 3, 7), nn.Conv1d), ((2, 3, 4, 4, 4), nn.Conv3d), ((3, 7), nn.Conv1d)])
def test_other_dimensions_and_a_lone_sample_are_read_alike(
    shape: tuple[int, ...], make: Callable[..., nn.Conv1d]
) -> None:
    model: Any = nn.Sequential(make(3, 4, 2), nn.ReLU(), make(4, 5, 1))

    assert torch.equal(outgoing(model, model[0], [torch.ones(shape)]), model[2].weight)


def test_the_linear_layers_inside_a_transformer_are_seen() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    assert torch.equal(outgoing(model, model.linear1, [torch.ones(2, 5, 8)]), model.linear2.weight)
    with pytest.raises(ValueError, match=r"of layer must be read by one linear .* alone, got add; exclude it"):
        outgoing(model, model.linear2, [torch.ones(2, 5, 8)])


def test_a_layer_called_twice_has_one_reader_if_both_calls_have_the_same() -> None:
    layers = {"enc": nn.Linear(3, 4), "head": nn.Linear(4, 2), "other": nn.Linear(4, 2)}
    twins = calls(lambda own, x: own.head(own.enc(x)) + own.head(own.enc(-x)), **layers)
    apart = calls(lambda own, x: own.head(own.enc(x)) + own.other(own.enc(-x)), **layers)

    assert torch.equal(outgoing(twins, twins.enc, ROWS), twins.head.weight)
    with pytest.raises(ValueError, match="alone, got linear; exclude it"):
        outgoing(apart, apart.enc, ROWS)


def test_one_reader_that_reads_in_two_orders_is_refused() -> None:
    def run(own: Any, inputs: Tensor) -> object:
        found = own.conv(inputs)
        return own.head(found.flatten(1)) + own.head(found.transpose(1, 2).flatten(1))

    model = calls(run, conv=nn.Conv1d(1, 2, 1), head=nn.Linear(4, 1))

    with pytest.raises(ValueError, match="alone, got linear"):
        outgoing(model, model.conv, [torch.ones(1, 1, 2)])


def test_factors_of_the_normalisation_are_found_behind_an_activation_too() -> None:
    for layers in ((nn.BatchNorm2d(4), nn.ReLU()), (nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(4))):
        model: Any = nn.Sequential(nn.Conv2d(3, 4, 3), *layers, nn.Conv2d(4, 2, 1))
        norm = next(layer for layer in model if isinstance(layer, nn.BatchNorm2d))
        norm.weight.data = torch.tensor([3.0, -1.0, 0.0, 2.0])

        assert scale(model, model[0], IMAGES).tolist() == [3.0, -1.0, 0.0, 2.0]


def test_what_comes_behind_the_normalisation_is_of_no_concern_to_the_factors() -> None:
    layers = {"conv": nn.Conv2d(3, 3, 3, padding=1), "norm": nn.BatchNorm2d(3)}
    model = calls(lambda own, x: F.relu(own.norm(own.conv(x)) + x), **layers)

    assert torch.equal(scale(model, model.conv, IMAGES), model.norm.weight)


def test_the_forward_pass_tells_the_norm_apart_and_not_the_order_of_modules() -> None:
    layers = {"a": nn.Linear(3, 4), "norm_b": nn.BatchNorm1d(4), "b": nn.Linear(3, 4), "norm_a": nn.BatchNorm1d(4)}
    model = calls(lambda own, x: own.norm_a(own.a(x)) + own.norm_b(own.b(x)), **layers)
    model.norm_a.weight.data.fill_(7.0)

    assert scale(model, model.a, ROWS).tolist() == [7.0] * 4
    assert scale(model, model.b, ROWS).tolist() == [1.0] * 4


REFUSED: list[tuple[str, Callable[[Any, Tensor], object], str]] = [
    ("residual", lambda own, x: own.next(own.layer(x) + x), "add"),
    ("in place", lambda own, x: own.next(own.layer(x).add_(x)), "add_"),
    ("outputs", lambda own, x: {"features": (found := own.layer(x)), "more": [own.next(found)]}, "linear, the model's"),
    ("softmax", lambda own, x: own.next(own.layer(x).softmax(-1)), "softmax"),
    ("cat", lambda own, x: own.next(torch.cat([own.layer(x)])), "cat"),
    ("part", lambda own, x: own.next(own.layer(x)[:, [0, 1, 2]]), "__getitem__"),
    ("product of two", lambda own, x: own.next((found := own.layer(x)) * found.sigmoid()), "mul"),
    ("by itself", lambda own, x: F.linear(found := own.layer(x), found), "linear"),
    ("as a weight", lambda own, x: F.linear(x, own.layer(x)), "linear"),
    ("unused", lambda own, x: own.next(own.layer(x) * 0 + x), "mul"),
    ("dropped", lambda own, x: (own.layer(x), own.next(x))[1], "nothing that can be followed"),
    ("mean of units", lambda own, x: own.layer(x).mean(1), "mean"),
    ("pool of units", lambda own, x: own.next(F.max_pool1d(own.layer(x), 1)), "pooling"),
]


@pytest.mark.parametrize(("run", "seen"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_outputs_that_go_elsewhere_are_refused_and_the_error_says_where(
    run: Callable[[Any, Tensor], object], seen: str
) -> None:
    model = calls(run, layer=nn.Linear(3, 3), next=nn.Linear(3, 3))

    with pytest.raises(ValueError, match=f"the outputs of layer must be read .* alone, got {seen}.*; exclude it"):
        outgoing(model, model.layer, [torch.ones(3, 3)])


def test_a_grouped_convolution_is_no_reader_and_has_none() -> None:
    model: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 1, groups=2), nn.Conv2d(8, 2, 1))

    with pytest.raises(ValueError, match="got conv2d of 2 groups"):
        outgoing(model, model[0], IMAGES)
    with pytest.raises(ValueError, match="layer, a convolution of 2 groups, read different inputs"):
        outgoing(model, model[1], IMAGES)


def test_a_linear_layer_along_the_width_of_an_image_is_no_reader() -> None:
    model: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2))

    with pytest.raises(ValueError, match="got linear along another axis"):
        outgoing(model, model[0], IMAGES)


def test_a_truly_sparse_reader_is_seen_and_refused() -> None:
    dense: Any = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    dense[2].weight.data[0, 0] = 0.0
    model = to_sparse(dense, exclude=["0"])

    with pytest.raises(ValueError, match="got a truly sparse layer; exclude it"):
        outgoing(model, model.get_submodule("0"), ROWS)


NO_FACTORS: list[tuple[nn.Module, str]] = [
    (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), "alone, got linear"),
    (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False)), "got batch_norm without factors"),
    (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), "got layer_norm"),
    (nn.Sequential(nn.Linear(3, 4)), "got the model's outputs"),
    (nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 4, 1), nn.Flatten(), nn.BatchNorm1d(12)), "several factors"),
]


@pytest.mark.parametrize(("model", "message"), NO_FACTORS, ids=[message for _, message in NO_FACTORS])
def test_a_layer_without_a_factor_for_each_unit_is_named(model: nn.Module, message: str) -> None:
    layer = next(layer for layer in model.children() if isinstance(layer, (nn.Linear, nn.Conv1d)))

    with pytest.raises(ValueError, match=f"layer .*{message}|behind layer has {message}"):
        scale(model, layer, ROWS)


def test_two_normalisations_of_one_layer_are_refused() -> None:
    layers = {"layer": nn.Linear(3, 4), "one": nn.BatchNorm1d(4), "two": nn.BatchNorm1d(4)}
    model = calls(lambda own, x: own.one(found := own.layer(x)) + own.two(found), **layers)

    with pytest.raises(ValueError, match="got batch_norm; exclude it"):
        scale(model, model.layer, ROWS)


def test_a_layer_that_is_not_called_and_one_of_another_kind_are_named() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))

    with pytest.raises(ValueError, match="does not call the layer of layer; exclude it"):
        outgoing(model, nn.Linear(3, 4), ROWS)
    with pytest.raises(ValueError, match="layer is of LSTM, whose outputs cannot be followed; exclude it"):
        outgoing(model, nn.LSTM(3, 4), ROWS)


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was_in_either_mode_frozen_or_not(model: Mixed, data: Data, training: bool) -> None:
    model.train(training)
    model.conv.weight.requires_grad_(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = statistics.norm_scales(model, {"conv": model.conv}, data)["conv"]
    found += statistics.outgoing_weights(model, {"conv": model.conv}, data)["conv"].sum((0, 2))

    assert not found.requires_grad
    assert (model.norm.training, model.conv.weight.requires_grad) == (training, training)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model.conv._forward_hooks


def test_one_batch_is_read_and_no_more() -> None:
    def batches() -> object:
        yield ROWS[0]
        raise AssertionError("a second batch was read")

    model: Any = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))

    assert torch.equal(outgoing(model, model[0], batches()), model[1].weight)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the data gave no batch"):
        outgoing(model, model[0], [])
