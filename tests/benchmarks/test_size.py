"""The example and the benchmarks of size run on tiny sizes, and what they compare is the same."""

import importlib.util
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

ROOT = Path(__file__).parents[2]


def load(path: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a script as a module."""
    monkeypatch.syspath_prepend(str((ROOT / path).parent))
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_small_brain_is_made_trained_and_evolved(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    brain = load("examples/bat_brain.py", monkeypatch)
    brain.main(["--neurons", "70000", "--hidden-layers", "3", "--batch", "2", "--steps", "2"])
    printed = capsys.readouterr().out

    width = (70_000 - 65_538) // 3
    weights = sum(before + after for before, after in pairwise([65_536, width, width, width, 2]))
    assert f"{65_538 + 3 * width:,} neurons, {weights:,} weights" in printed
    assert printed.count("loss") == 2
    assert printed.count("weights exchanged") == 1
    assert "24.0 bytes per weight" in printed


def test_both_sides_of_the_benchmark_of_topologies_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = load("benchmarks/topology.py", monkeypatch).operations(30, 50, 400)
    results = {name: (ours(), theirs()) for name, (ours, theirs, _) in found.items()}

    for name in ("from coordinates", "from a mask"):
        ours, theirs = results[name]
        assert ours.row_pointers.tolist() == theirs.indptr.tolist()
        assert ours.column_indices.tolist() == theirs.indices.tolist()
    assert results["make at random"][0].num_active == results["make at random"][1].nnz == 400
    assert results["grow"][0][0].row_pointers.tolist() == results["grow"][1].indptr.tolist()
    assert results["transpose"][0].row_indices.tolist() == results["transpose"][1].indices.tolist()
    assert results["rows of entries"][0].tolist() == results["rows of entries"][1].tolist()


def test_the_benchmark_of_sizes_counts_weights_and_finds_a_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    size = load("benchmarks/size.py", monkeypatch)
    results = size.measure([16, 100, 100, 2], 2.0, 2, 1)

    assert results["weights"] == 2 * (116 + 200) + 200
    assert min(results[stage] for stage in size.STAGES) > 0
    assert size.slope([{"weights": w, "a": 3 * w**1.5} for w in (1e5, 1e6, 1e7)], "a") == pytest.approx(1.5)


def test_the_rival_computes_the_gradient_that_autograd_does(monkeypatch: pytest.MonkeyPatch) -> None:
    rival = load("benchmarks/truly_sparse_rival.py", monkeypatch)
    rng = np.random.default_rng(0)
    monkeypatch.setattr(rival, "DROPOUT", 0.0)
    monkeypatch.setattr(rival, "DECAY", 0.0)
    layers = rival.make([12, 20, 20, 3], 3.0, rng, by_draws=False)
    inputs, targets = rng.standard_normal((8, 12)), rng.integers(3, size=8)
    after = rival.step(layers, inputs, np.eye(3)[targets], 0.1, 0.6, rng)
    weights = [torch.tensor(layer.weight.toarray(), requires_grad=True) for layer in layers]
    hidden = torch.tensor(inputs)
    for slope, weight in zip((-0.6, 0.6), weights, strict=False):
        hidden = torch.nn.functional.leaky_relu(hidden @ weight, slope)
    cross_entropy(hidden @ weights[-1], torch.tensor(targets)).backward()

    for layer, weight in zip(after, weights, strict=True):
        assert weight.grad is not None
        expected = (weight - 0.1 * weight.grad * (weight != 0)).detach().numpy()
        assert np.allclose(layer.weight.toarray(), expected, atol=1e-6)


def test_the_rival_exchanges_as_many_weights_as_it_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    rival = load("benchmarks/truly_sparse_rival.py", monkeypatch)
    rng = np.random.default_rng(0)
    layers = rival.make([60, 70, 50, 3], 4.0, rng, by_draws=True)

    after = rival.evolve(layers, rng)

    for old, new in zip(layers[:-1], after[:-1], strict=True):
        stays = (old.weight.multiply(new.weight) != 0).sum()
        assert new.weight.nnz == old.weight.nnz
        assert 0.6 * old.weight.nnz < stays < 0.8 * old.weight.nnz
    assert after[-1] is layers[-1]
