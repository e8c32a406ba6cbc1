from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gossamer.nn import SparseLinear, to_dense
from gossamer.training import METHODS, Method, check, find_method, set_up, train
from gossamer.training import build as build_module
from gossamer.weights import MaskedWeight

from .small import config, digits

DATA = digits()


def layers(model: nn.Module) -> list[tuple[str, int, int]]:
    return [
        (type(module).__name__, module.in_features, module.out_features)
        for module in model.modules()
        if isinstance(module, (nn.Linear, SparseLinear))
    ]


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("mlp:16", [16]), ("mlp:16x1", [16]), ("mlp:16x3", [16, 16, 16]), ("mlp:30-20-10", [30, 20, 10])],
)
def test_the_name_of_an_mlp_gives_its_hidden_sizes(text: str, sizes: list[int]) -> None:
    setup = set_up(config(model=text, method="dense"), DATA)

    assert [out for _, _, out in layers(setup.model)] == [*sizes, 10]


@pytest.mark.parametrize("method", [method.name for method in METHODS])
def test_the_same_configuration_makes_the_same_bit_for_bit(method: str) -> None:
    one, other = (set_up(config(method=method, seed=3), DATA) for _ in range(2))

    for mine, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("method", "storage", "made"),
    [
        ("dense", "auto", "dense"),
        ("set", "auto", "truly sparse"),
        ("set", "masked", "masked"),
        ("gmp", "auto", "masked"),
        ("gmp", "sparse", "truly sparse"),
        ("snip", "auto", "truly sparse"),
        ("snip", "masked", "masked"),
        ("dsd", "auto", "masked"),
    ],
)
def test_the_storage_is_the_methods_own_unless_told_otherwise(method: str, storage: str, made: str) -> None:
    setup = set_up(config(method=method, storage=storage), DATA)

    assert setup.storage == made
    kinds = {kind for kind, _, _ in layers(setup.model)}
    assert kinds == ({"SparseLinear"} if made == "truly sparse" else {"Linear"})
    assert (setup.sparsifier is None) == (method == "dense")


def test_steps_are_counted_with_the_last_smaller_batch() -> None:
    setup = set_up(config(batch_size=64), DATA)

    assert (setup.steps_per_epoch, setup.num_steps) == (4, 12)


def test_a_network_that_cannot_fit_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    # 20 % of 64 * 16 + 16 * 16 + 16 * 10 weights and 64 + 16 + 16 + 10 neurons, sixteen bytes each.
    needed = 16 * (288 + 106)
    monkeypatch.setattr(build_module, "memory_bytes", lambda: needed)
    set_up(config(), DATA)
    with pytest.raises(ValueError, match="mlp:16x2 as dense takes 0 GB or more to train"):
        set_up(config(method="dense"), DATA)

    monkeypatch.setattr(build_module, "memory_bytes", lambda: needed - 1)
    with pytest.raises(ValueError, match="give fewer neurons, or truly sparse storage and a higher sparsity"):
        set_up(config(), DATA)


def test_checking_leaves_no_trace_and_changes_no_random_state() -> None:
    before = torch.get_rng_state()

    check(config(dropout=0.5), DATA)

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("method", [method.name for method in METHODS])
@pytest.mark.parametrize(("rows", "epochs"), [(40, 1), (40, 2), (80, 1), (200, 1)])
def test_every_method_can_plan_the_shortest_of_runs(tmp_path: Path, method: str, rows: int, epochs: int) -> None:
    data = build_module.load_data(config(train_size=rows, test_size=10))

    fields = train(config(method=method, epochs=epochs, update_every=0), data, tmp_path)

    assert fields["num_active"] == {"dense": 1440, "dsd": 1440}.get(method, fields["num_active"])
    # Neurons go, or the count follows from the data.
    if method not in ("dense", "dsd", "truly_sparse", "dns", "soft_deep_r", "srigl", "nm_rigl"):
        assert fields["num_active"] == 288
    if method == "nm_rigl":
        # 1 of 5: of 64 and 16 inputs the last short groups keep one too.
        assert fields["num_active"] == 16 * 13 + 16 * 4 + 10 * 4


@pytest.mark.parametrize("method", [method for method in METHODS if method.masked_only])
def test_what_comes_back_as_in_a_dense_network_is_not_truly_sparse(method: Method) -> None:
    with pytest.raises(ValueError, match=f"{method.name} can only be masked, .* leave out --storage sparse"):
        set_up(config(method=method.name, storage="sparse"), DATA)


@pytest.mark.parametrize("method", [method for method in METHODS if method.prune_first])
def test_both_storages_keep_the_same_weights_of_the_same_dense_network(method: Method) -> None:
    dense, *cut = (
        set_up(config(method=name, storage=storage), DATA)
        for name, storage in (("dense", "auto"), (method.name, "masked"), (method.name, "sparse"))
    )

    first, masked, sparse = (dict(to_dense(each.model).named_parameters()) for each in (dense, *cut))
    assert sum(int((value != 0).sum()) for name, value in masked.items() if "weight" in name) == 288
    for name, value in masked.items():
        assert torch.equal(value, sparse[name])
        assert torch.equal(value, torch.where(value != 0, first[name], 0.0))


def test_a_trial_prunes_in_one_round_and_a_run_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def note(model: nn.Module, *args: Any, rounds: int, **settings: Any) -> nn.Module:
        seen.append(rounds)
        return model

    monkeypatch.setattr(build_module, "prune_fresh", note)
    check(config(method="synflow"), DATA)
    set_up(config(method="synflow"), DATA)

    assert seen == [1, 100]


def test_the_names_of_methods_are_unique_and_their_papers_are_named() -> None:
    assert len({method.name for method in METHODS}) == len({method.label for method in METHODS}) == len(METHODS)
    assert all("arXiv:" in method.paper for method in METHODS if method.name != "dense")
    assert [find_method(method.name) for method in METHODS] == list(METHODS)


@pytest.mark.parametrize(
    ("sparsity", "computing", "learning"),
    [(0.9375, [64, 10], [128, 20]), (0.75, [256, 40], [512, 80]), (0.25, [768, 120], [1024, 160])],
)
def test_of_top_kast_twice_as_many_weights_learn_as_compute(
    sparsity: float, computing: list[int], learning: list[int]
) -> None:
    setup = set_up(config(method="top_kast", model="mlp:16", sparsity=sparsity), DATA)

    assert setup.sparsifier is not None
    weights = [weight for weight in setup.sparsifier.weights if isinstance(weight, MaskedWeight)]
    reached = [int(weight.reach.sum()) for weight in weights if weight.reach is not None]
    # Of 64 x 16 and 16 x 10.
    assert [weight.num_active for weight in weights] == computing
    assert reached == learning


def test_top_kast_trains_at_the_learning_rate_of_the_other_methods(tmp_path: Path) -> None:
    settings = config(method="top_kast", model="mlp:64-32", sparsity=0.9, update_every=0, epochs=40, learning_rate=0.1)

    assert train(settings, DATA, tmp_path)["final_accuracy"] > 0.7
