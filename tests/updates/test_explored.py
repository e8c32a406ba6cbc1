import pytest
import torch
from torch.optim import SGD

from gossamer import Sparsifier, recipes
from gossamer.models import mlp
from gossamer.updates import Explored

from .storage import STORAGES, View, view_of

both = pytest.mark.parametrize("storage", STORAGES)


def look(explored: Explored, weight: View) -> None:
    optimizer = SGD([weight.parameter], lr=0.1)
    assert explored.apply_all([weight], 1, optimizer=optimizer, generator=torch.Generator()) == []


def move(weight: View, kept: list[int], grown: list[int]) -> None:
    weight.change_(torch.tensor(kept), torch.tensor(grown, dtype=torch.int64), torch.zeros(len(grown)), None)


@both
@pytest.mark.parametrize("size", [8, 1000])
def test_what_was_ever_active_counts_once(storage: str, size: int) -> None:
    weight, explored = view_of(torch.tensor([[1.0, 2.0] + [0.0] * (size - 2)]), storage)[1], Explored(every=1)
    explored.begin([weight])
    assert explored.share() == 2 / size
    move(weight, [0], [5])
    look(explored, weight)
    assert explored.share() == 3 / size
    move(weight, [1], [1])
    look(explored, weight)

    # 0, 1 and 5 were there
    assert explored.num_explored() == 3
    # one bit an entry, or eight bytes for each that was there
    assert explored.state_dict()["w"].nbytes == (1 if size == 8 else 24)


def test_many_entries_take_a_bit_each() -> None:
    weight, explored = view_of(torch.eye(100, 130), "masked")[1], Explored(every=1)
    explored.begin([weight])
    assert explored.state_dict()["w"].nbytes == 800
    weight.change_(torch.arange(100), torch.arange(1, 100), torch.zeros(99), None)
    look(explored, weight)
    assert explored.state_dict()["w"].nbytes == 8 * 199
    # None of them on the diagonal, which is there.
    fresh = torch.tensor([place for place in range(1000, 1102) if place % 131][:100])
    weight.change_(torch.arange(199), fresh, torch.zeros(100), None)
    look(explored, weight)

    assert explored.state_dict()["w"].nbytes == 13_000 // 8
    assert explored.num_explored() == weight.num_active


@both
def test_a_run_explores_more_and_both_storages_the_same(storage: str) -> None:
    model = mlp([10, 16, 4], sparsity=0.0 if storage == "masked" else 0.8, generator=torch.Generator().manual_seed(0))
    optimizer, explored = SGD(model.parameters(), lr=0.1), Explored(every=2)
    sparsity = 0.8 if storage == "masked" else None
    sparsifier: Sparsifier = recipes.set_itop(
        model, optimizer, update_every=2, stop_step=9, sparsity=sparsity, generator=torch.Generator(), explored=explored
    )
    seen = [set(weight.indices().tolist()) for weight in sparsifier.weights]
    shares = [explored.share()]
    for _ in range(8):
        optimizer.zero_grad()
        model(torch.ones(3, 10)).sum().backward()
        optimizer.step()
        sparsifier.step()
        seen = [old | set(weight.indices().tolist()) for old, weight in zip(seen, sparsifier.weights, strict=True)]
        shares.append(explored.share())

    assert shares[0] == sparsifier.num_active() / 224
    assert explored.num_explored() == sum(len(one) for one in seen) > sparsifier.num_active()
    assert shares == sorted(shares)
    state = sparsifier.state_dict()["updates"]
    assert list(state) == ["1 Explored"]
    again = Explored(every=2)
    again.begin(list(sparsifier.weights))
    again.load_state_dict(state["1 Explored"])
    assert again.share() == shares[-1]


def test_a_record_without_a_run_has_no_share() -> None:
    with pytest.raises(RuntimeError, match="nothing is recorded yet; give the record to a sparsifier"):
        Explored(every=1).share()


def test_every_must_be_positive() -> None:
    with pytest.raises(ValueError, match="every must be 1 or more, got 0"):
        Explored(every=0)
