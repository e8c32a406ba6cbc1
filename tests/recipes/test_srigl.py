from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.utils._python_dispatch import TorchDispatchMode

from gossamer import Sparsifier, budgets, recipes, to_sparse
from gossamer.formats.constant_fan_in import FanInLinear, hold
from gossamer.models import mlp
from gossamer.nn import SparseEmbedding, SparseLinear
from gossamer.weights import MaskedWeight, SparseWeight

from .network import seeded

STORAGES = ["masked", "truly sparse"]
both = pytest.mark.parametrize("storage", STORAGES)


def begin(storage: str, sizes: list[int], *, seed: int = 0, **settings: Any) -> tuple[nn.Sequential, SGD, Sparsifier]:
    sparse = storage == "truly sparse"
    model = mlp(sizes, sparsity=0.8 if sparse else 0.0, budget=budgets.uniform, generator=seeded(seed))
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    settings = {"update_every": 2, "stop_step": 40, "budget": budgets.uniform, **settings}
    sparsity = None if sparse else 0.8
    return model, optimizer, recipes.srigl(model, optimizer, sparsity=sparsity, generator=seeded(seed), **settings)


def train_step(model: nn.Module, optimizer: SGD, sparsifier: Sparsifier, step: int) -> None:
    inputs = torch.randn(32, 20, generator=seeded(step))
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(inputs), (inputs[:, 0] > 0).long()).backward()
    optimizer.step()
    sparsifier.step()


def fan_ins(weight: MaskedWeight | SparseWeight) -> list[int]:
    found: list[int] = (weight.indices() // weight.closed_columns.numel()).bincount(minlength=weight.shape[0]).tolist()
    return found


@both
def test_neurons_start_with_equally_many_inputs_and_the_nearest_total(storage: str) -> None:
    _, _, sparsifier = begin(storage, [20, 30, 12, 4])

    # 120, 72 and 9.6 weights are a fifth; multiples of 30, 12 and 4 neurons are taken
    assert [set(fan_ins(weight)) for weight in sparsifier.weights] == [{4}, {6}, {2}]
    assert all(bool(weight.values().all()) for weight in sparsifier.weights)


@both
def test_every_live_neuron_has_the_same_number_of_inputs_after_every_step(storage: str) -> None:
    model, optimizer, sparsifier = begin(storage, [20, 30, 12, 4], salient_fraction=0.9)
    totals = [weight.num_active for weight in sparsifier.weights]
    removed = 0
    for step in range(1, 43):
        train_step(model, optimizer, sparsifier, step)
        for weight, total in zip(sparsifier.weights, totals, strict=True):
            live = int((~weight.closed_rows).sum())
            expected = min(total // live, weight.closed_columns.numel())

            assert fan_ins(weight) == [0 if closed else expected for closed in weight.closed_rows.tolist()]
            assert weight.num_active == expected * live > total - live
        before, removed = removed, sum(int(weight.closed_rows.sum()) for weight in sparsifier.weights)
        assert removed >= before
    # neurons did go, but none of the outputs
    assert removed > 0
    assert not sparsifier.weights[-1].closed_rows.any()


@both
def test_without_removal_every_neuron_stays(storage: str) -> None:
    model, optimizer, sparsifier = begin(storage, [20, 30, 12, 4], salient_fraction=0.0)
    before = [fan_ins(weight) for weight in sparsifier.weights]
    for step in range(1, 11):
        train_step(model, optimizer, sparsifier, step)

    assert [fan_ins(weight) for weight in sparsifier.weights] == before


@pytest.mark.parametrize("seed", [0, 1])
def test_both_storages_remove_the_same_neurons(seed: int) -> None:
    model, optimizer, masked = begin("masked", [20, 30, 12, 4], seed=seed, salient_fraction=0.9)
    model.double()
    twin = to_sparse(model)
    held = SGD(twin.parameters(), lr=0.1, momentum=0.9)
    sparse = recipes.srigl(twin, held, update_every=2, stop_step=40, salient_fraction=0.9, generator=seeded())
    for step in range(1, 30):
        for parts in ((model, optimizer, masked), (twin, held, sparse)):
            inputs = torch.randn(32, 20, generator=seeded(step)).double()
            parts[1].zero_grad()
            nn.functional.cross_entropy(parts[0](inputs), (inputs[:, 0] > 0).long()).backward()
            parts[1].step()
            parts[2].step()
        for one, other in zip(masked.weights, sparse.weights, strict=True):
            assert torch.equal(one.closed_rows, other.closed_rows)
            assert torch.equal(one.indices(), other.indices())
    assert any(bool(weight.closed_rows.any()) for weight in masked.weights)


@both
def test_what_was_trained_fits_the_format_of_constant_fan_in(storage: str) -> None:
    model, optimizer, sparsifier = begin(storage, [20, 32, 16, 4])
    for step in range(1, 22):
        train_step(model, optimizer, sparsifier, step)
    fan_in = max(fan_ins(sparsifier.weights[0]))
    sparsifier.finalize()
    first = (to_sparse(model) if storage == "masked" else model).get_submodule("0")
    assert isinstance(first, SparseLinear)
    held = hold(first)

    assert isinstance(held, FanInLinear)
    # One slot a weight: nothing is padded but where neurons are removed.
    assert held.values.shape == (2, fan_in, 16)
    inputs = torch.randn(5, 20, generator=seeded())
    torch.testing.assert_close(held(inputs), first(inputs))


def test_a_sparse_model_of_unequal_neurons_keeps_its_large_weights() -> None:
    layer = nn.Linear(4, 2, bias=False)
    layer.weight.data = torch.tensor([[5.0, -4.0, 0.1, 0.0], [0.0, 0.0, 3.0, 0.0]])
    model = nn.Sequential(SparseLinear.from_dense(layer))
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = recipes.srigl(model, optimizer, stop_step=5, generator=seeded())
    (weight,) = sparsifier.weights

    # four weights, two each: 0.1 goes, a random one comes beside 3
    assert fan_ins(weight) == [2, 2]
    assert weight.indices().tolist()[:2] == [0, 1]
    assert 6 in weight.indices().tolist()
    assert weight.values()[:2].tolist() == [5.0, -4.0]
    assert float(weight.values().abs().max()) == 5.0


def test_a_model_with_removed_neurons_starts_as_it_is() -> None:
    layer = nn.Linear(4, 3, bias=False)
    layer.weight.data = torch.tensor([[5.0, -4.0, 0.0, 0.0], [0.0] * 4, [0.0, 1.0, 3.0, 0.0]])
    model = nn.Sequential(SparseLinear.from_dense(layer))
    sparsifier = recipes.srigl(model, SGD(model.parameters(), lr=0.1), stop_step=5, generator=seeded())

    assert sparsifier.weights[0].indices().tolist() == [0, 1, 9, 10]
    assert sparsifier.weights[0].closed_rows.tolist() == [False, True, False]


def test_outputs_can_be_named() -> None:
    model, optimizer, sparsifier = begin(
        "masked", [20, 30, 12, 4], salient_fraction=0.95, outputs=("0.weight", "2.weight", "4.weight")
    )
    for step in range(1, 21):
        train_step(model, optimizer, sparsifier, step)

    assert not any(bool(weight.closed_rows.any()) for weight in sparsifier.weights)
    with pytest.raises(ValueError, match=r"outputs names nine, but the weights are 0.weight, 2.weight, 4.weight"):
        begin("masked", [20, 30, 12, 4], outputs=("nine",))


class Words(nn.Module):
    """A truly sparse embedding before a truly sparse layer and a dense one."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SparseEmbedding(9, 8, padding_idx=0, sparsity=0.5, generator=seeded())
        self.hidden = SparseLinear(8, 16, sparsity=0.5, generator=seeded(1))
        self.output = nn.Linear(16, 2)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.output(torch.relu(self.hidden(self.table(words).mean(1))))
        return found


STARTS: dict[str, Callable[..., Sparsifier]] = {"srigl": recipes.srigl, "nm_rigl": recipes.nm_rigl}


@pytest.mark.parametrize("name", STARTS)
def test_embeddings_keep_their_rows_and_padding_stays_empty(name: str) -> None:
    model = Words()
    optimizer = SGD(model.parameters(), lr=0.5, momentum=0.9)
    settings = {"salient_fraction": 1.0} if name == "srigl" else {}
    sparsifier = STARTS[name](model, optimizer, update_every=1, stop_step=30, generator=seeded(), **settings)
    table = sparsifier.weights[0]
    first = table.indices().tolist()
    for step in range(1, 8):
        words = torch.randint(9, (6, 3), generator=seeded(step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(words), words[:, 0] % 2).backward()
        optimizer.step()
        sparsifier.step()

        assert fan_ins(table) == [0, *[4] * 8]
    assert table.indices().tolist() != first
    assert table.closed_rows.tolist() == [True, *[False] * 8]


class Sizes(TorchDispatchMode):
    """Remember the size of the largest tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for each in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(each, torch.Tensor):
                self.largest = max(self.largest, each.untyped_storage().nbytes() // each.element_size())
        return made


def test_the_search_of_a_large_sparse_layer_holds_a_tile_at_a_time() -> None:
    model = SparseLinear(2000, 5000, sparsity=0.999, generator=seeded())
    optimizer = SGD(model.parameters(), lr=0.1)
    with Sizes() as sizes:
        sparsifier = recipes.srigl(
            model, optimizer, update_every=1, stop_step=9, salient_fraction=0.9, outputs=(), generator=seeded()
        )
        model(torch.randn(4, 2000, generator=seeded())).pow(2).sum().backward()
        optimizer.step()
        (change,) = sparsifier.step()

    assert change.num_grown > 0
    assert set(fan_ins(sparsifier.weights[0])) == {2}
    # Of ten million entries a tenth and one more column is held at once.
    assert sizes.largest <= 1.1 * 2**20


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_one_neuron_of_one_input_and_other_number_types_train(storage: str, dtype: torch.dtype) -> None:
    model: nn.Module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1), nn.Linear(1, 1)).to(dtype)
    optimizer = SGD(model.parameters(), lr=0.1)
    settings: dict[str, Any] = {"update_every": 1, "stop_step": 9, "salient_fraction": 1.0, "budget": budgets.uniform}
    sparsifier = recipes.srigl(model, optimizer, sparsity=0.6, generator=seeded(), **settings)
    if storage == "truly sparse":
        sparsifier.finalize()
        model = to_sparse(model)
        optimizer = SGD(model.parameters(), lr=0.1)
        sparsifier = recipes.srigl(model, optimizer, generator=seeded(), **settings)
    for step in range(1, 5):
        optimizer.zero_grad()
        model(torch.randn(4, 6, generator=seeded(step)).to(dtype)).sum().backward()
        optimizer.step()
        sparsifier.step()

    assert len(set(fan_ins(sparsifier.weights[0])) - {0}) == 1
    assert fan_ins(sparsifier.weights[1]) == [2]
    assert fan_ins(sparsifier.weights[2]) == [1]
