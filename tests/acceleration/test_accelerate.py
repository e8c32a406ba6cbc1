import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import gossamer as gs
from gossamer import formats
from gossamer.acceleration import KINDS, Kind, accelerate, kinds
from gossamer.acceleration.calls import watched
from gossamer.nn import SparseLinear

from .architectures import Attention, chain, lenet


@pytest.fixture(autouse=True)
def _always_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever computes the same wins: these tests are not about time."""

    def taken(contenders: Mapping[str, Callable[[], object]], *, keep: str, **_: Any) -> dict[str, float]:
        for run in contenders.values():
            run()
        return {name: 4.0 if name in (keep, "given") else 1.0 for name in contenders}

    monkeypatch.setattr("gossamer.acceleration.contest.interleaved", taken)
    monkeypatch.setattr("gossamer.acceleration.whole.interleaved", taken)


def masked(model: nn.Module) -> nn.Module:
    """Every linear layer with nine of ten weights zero."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.data *= torch.rand(module.weight.shape, generator=generator) < 0.1
    return model


CSR = {"csr": formats.LINEAR["csr"]}


def test_the_model_given_is_left_as_it_is() -> None:
    model = masked(nn.Sequential(nn.Linear(40, 40), nn.BatchNorm1d(40), nn.Dropout(), nn.Linear(40, 10)))
    model[1].eval()  # type: ignore[index]
    before, example = copy.deepcopy(model), torch.randn(8, 40)
    state = torch.random.get_rng_state()

    fast, _ = accelerate(model, example, formats=CSR, cache=False)

    assert all(map(torch.equal, model.state_dict().values(), before.state_dict().values()))
    assert [module.training for module in model.modules()] == [module.training for module in before.modules()]
    assert [module.training for module in fast.modules()] == [module.training for module in before.modules()]
    assert not any(module._forward_pre_hooks for module in (*model.modules(), *fast.modules()))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not {id(part) for part in fast.parameters()} & {id(part) for part in model.parameters()}


def test_a_model_that_draws_numbers_does_not_move_those_of_the_user() -> None:
    class Drawing(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs + torch.rand(inputs.shape)

    model, example = nn.Sequential(Drawing(), masked(nn.Linear(40, 40))), torch.randn(8, 40)
    state = torch.random.get_rng_state()

    _, table = accelerate(model, example, formats=CSR, cache=False)

    assert table.is_faster
    assert torch.equal(torch.random.get_rng_state(), state)


def test_each_changed_layer_has_its_storage_and_its_bytes() -> None:
    model = masked(chain(40, 48, 32))
    fast, table = accelerate(model, torch.randn(8, 40), formats=CSR, cache=False)

    assert [(row.layer, row.given, row.chosen, row.reason) for row in table.layers] == [
        ("0", "dense", "csr", ""),
        ("2", "dense", "csr", ""),
    ]
    assert [row.bytes for row in table.layers] == [formats.held_bytes(fast[place]) for place in (0, 2)]  # type: ignore[index]
    assert table.given_bytes == 4 * (41 * 48 + 49 * 32)
    assert (table.given_ms, table.ms, table.is_faster) == (4.0, 1.0, True)


def test_a_truly_sparse_layer_can_become_dense_again() -> None:
    model = nn.Sequential(SparseLinear(40, 40, sparsity=0.5, generator=torch.Generator().manual_seed(0)))
    fast, table = accelerate(model, torch.randn(8, 40), formats={"dense": formats.LINEAR["dense"]}, cache=False)

    assert type(fast[0]) is nn.Linear  # type: ignore[index]
    assert (table.layers[0].given, table.layers[0].chosen) == ("csr", "dense")
    assert isinstance(model[0], SparseLinear)


@pytest.mark.parametrize("kind", ["tensor", "tuple", "dict"])
def test_examples_of_every_kind(kind: str) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(40, 40)

        def forward(self, one: Tensor, two: Tensor | None = None) -> dict[str, Any]:
            return {"sum": self.layer(one) + (0 if two is None else two), "words": "and more"}

    one, two = torch.randn(8, 40), torch.randn(8, 40)
    example = {"tensor": one, "tuple": (one, two), "dict": {"two": two, "one": one}}[kind]
    fast, table = accelerate(masked(Two()), example, formats=CSR, cache=False)

    assert table.layers[0].chosen == "csr"
    assert isinstance(fast.layer, SparseLinear)


def test_a_layer_that_is_called_twice_counts_twice_and_stays_one() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(40, 40)
            self.two = self.one

        def forward(self, inputs: Tensor) -> Tensor:
            return self.two(self.one(inputs))  # type: ignore[no-any-return]

    fast, table = accelerate(masked(Twice()), torch.randn(8, 40), formats=CSR, cache=False)

    assert [row.layer for row in table.layers] == ["one"]
    assert table.layers[0].times_ms == {"dense": 8.0, "csr": 2.0}
    assert fast.one is fast.two
    assert isinstance(fast.one, SparseLinear)


def test_calls_tell_shapes_strides_and_how_often() -> None:
    layer = nn.Linear(6, 6)
    model = nn.Sequential(layer, nn.Unflatten(1, (2, 3)), nn.Flatten(), layer)

    _, calls = watched(model, {"0": layer}, torch.zeros(6, 4).t())

    assert {(call.shape, call.stride): times for call, times in calls["0"].items()} == {
        ((4, 6), (1, 4)): 1,
        ((4, 6), (6, 1)): 1,
    }


class TestLayersLeftAsTheyWere:
    def reason(self, model: nn.Module, example: Any = None) -> str:
        fast, table = accelerate(model, torch.randn(8, 40) if example is None else example, formats=CSR, cache=False)

        assert table.layers[0].given == table.layers[0].chosen
        assert "left as it was" in table.note
        assert torch.equal(torch.cat([part.flatten() for part in fast.parameters()]), _flat(model))
        return table.layers[0].reason

    def test_without_zeros(self) -> None:
        assert self.reason(chain(40, 10)) == "none of its weights is zero"

    def test_never_called(self) -> None:
        class Unused(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(40, 40)

            def forward(self, inputs: Tensor) -> Tensor:
                return inputs

        assert self.reason(masked(Unused())) == "the example does not call it"

    def test_hooks(self) -> None:
        model = masked(chain(40, 40))
        model[0].register_forward_hook(lambda module, args, output: output + 1)  # type: ignore[index]

        assert self.reason(model) == "it has hooks, which another layer would not have"

    def test_called_by_name(self) -> None:
        class Named(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(40, 40)

            def forward(self, inputs: Tensor) -> Tensor:
                return self.layer(input=inputs)  # type: ignore[no-any-return]

        assert self.reason(masked(Named())) == "its input is given by name, and other layers have other names"

    def test_half_precision(self) -> None:
        reason = self.reason(masked(chain(40, 40)).bfloat16(), torch.randn(8, 40).bfloat16())

        assert reason == "its weights are bfloat16; float32 and float64 can be held otherwise"

    def test_tied_weights(self) -> None:
        embedding, linear = nn.Embedding(40, 40), nn.Linear(40, 40)
        model = nn.Sequential(embedding, masked(linear))
        embedding.weight = linear.weight

        assert self.reason(model, torch.tensor([[3, 4]])) == "it shares a parameter with 0"

    def test_more_memory_than_dense(self) -> None:
        layer = nn.Linear(40, 40)
        layer.weight.data[0, 0] = 0

        assert self.reason(nn.Sequential(layer)) == "nothing holds it in less memory than dense and computes the same"

    def test_a_model_that_asks_for_the_weight(self) -> None:
        class Regularized(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(40, 40)

            def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
                return self.layer(inputs), self.layer.weight.norm()

        model = masked(Regularized())
        _, table = accelerate(model, torch.randn(8, 40), formats=CSR, cache=False)

        assert "it fails with changed layers (AttributeError: " in table.note
        assert self.reason(model) == "csr alone is faster, not in the whole model"


def _flat(model: nn.Module) -> Tensor:
    return torch.cat([part.flatten() for part in model.parameters()])


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (lenet(), torch.randn(2, 1, 28, 28)),
        (Attention(32, 2), torch.randn(2, 5, 32)),
        (nn.TransformerEncoderLayer(32, 2, batch_first=True), torch.randn(2, 5, 32)),
        (nn.LSTM(8, 8), torch.randn(3, 2, 8)),
        (nn.Sequential(parametrizations.weight_norm(nn.Linear(40, 40))), torch.randn(2, 40)),
        (nn.Sequential(parametrizations.spectral_norm(nn.Linear(40, 40))), torch.randn(2, 40)),
        (nn.Linear(40, 40), torch.randn(2, 40)),
        (nn.Linear(40, 40), torch.randn(0, 40)),
        (nn.Linear(40, 40), torch.randn(1, 40).expand(6, 40)),
        (nn.Linear(40, 40).double(), torch.randn(5, 40).double()),
        (nn.Identity(), torch.randn(2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_models_compute_the_same(model: nn.Module, example: Tensor) -> None:
    model = masked(model) if not hasattr(model, "0") or not hasattr(model[0], "parametrizations") else model  # type: ignore[index]
    fast, table = accelerate(model.eval(), example, cache=False)
    found, expected = fast(example), model(example)

    for one, other in zip(*(each if isinstance(each, tuple) else (each,) for each in (found, expected)), strict=True):
        for part, same in zip(*(each if isinstance(each, tuple) else (each,) for each in (one, other)), strict=True):
            assert torch.allclose(part, same, rtol=1e-4, atol=1e-5)
    assert str(table).startswith("layer ")


def test_accelerated_twice_nothing_changes() -> None:
    model, example = masked(chain(64, 64)), torch.randn(1, 64)
    fast, first = accelerate(model, example, formats={"block": formats.LINEAR["block"]}, cache=False)
    again, second = accelerate(fast, example, cache=False)

    assert first.is_faster
    assert second.layers == ()
    assert not second.is_faster
    assert torch.equal(again(example), fast(example))


def test_a_saved_result_loads_truly_sparse_where_the_model_was_dense(tmp_path: Any) -> None:
    model, example = masked(chain(64, 64)), torch.randn(3, 64)
    fast, _ = accelerate(model, example, formats={"block": formats.LINEAR["block"]}, cache=False)
    gs.save(fast, tmp_path / "fast.safetensors")

    loaded = gs.load(tmp_path / "fast.safetensors", chain(64, 64))

    assert isinstance(fast[0], formats.BlockLinear)  # type: ignore[index]
    assert isinstance(loaded[0], SparseLinear)  # type: ignore[index]
    assert torch.allclose(loaded(example), model(example), atol=1e-5)


class Doubled(nn.Linear):
    """A kind of its own: twice what a linear layer gives."""

    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * super().forward(inputs)


class SparseDoubled(SparseLinear):
    """The same, truly sparse."""

    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * super().forward(inputs)


def test_a_row_enrols_another_kind_of_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    model, example = masked(nn.Sequential(Doubled(40, 40))), torch.randn(8, 40)
    _, before = accelerate(model, example, cache=False)
    monkeypatch.setattr(kinds, "KINDS", (*KINDS, Kind(dense=Doubled, sparse=SparseDoubled, formats=formats.ANY)))

    fast, after = accelerate(model, example, cache=False)

    assert before.layers == ()
    assert after.layers[0].chosen == "csr"
    assert type(fast[0]) is SparseDoubled  # type: ignore[index]
    assert torch.allclose(fast(example), model(example), atol=1e-5)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_no_time_at_all_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds must be above 0"):
        accelerate(chain(4, 4), torch.zeros(1, 4), seconds=seconds)


def test_the_table_is_aligned_and_says_why() -> None:
    last = nn.Linear(300, 40)
    model = nn.Sequential(masked(nn.Linear(40, 300)), nn.ReLU(), last)
    _, table = accelerate(model, torch.randn(8, 40), formats=CSR, cache=False)

    header, line, first, second, total = str(table).splitlines()
    assert header.split() == ["layer", "sparsity", "dense", "ms", "chosen", "ms", "bytes"]
    assert set(line) == {"-"}
    assert first == f"0        {100 * table.layers[0].sparsity:.1f} %         4  csr      1  {table.layers[0].bytes:,}"
    assert second.endswith("48,160  none of its weights is zero")
    assert total.endswith(f"{table.bytes:,}  given: 4 ms, {table.given_bytes:,} bytes")
    assert first.index("csr") == second.index("dense") == header.index("chosen")
