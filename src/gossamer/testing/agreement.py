"""Check that a recipe does the same to masked and to truly sparse weights."""

from dataclasses import replace

import torch

from gossamer.nn import to_sparse
from gossamer.testing.run import Run, apart, begin_on, by_entry, make_model, topologies, train_step
from gossamer.testing.trial import Trial, seeded
from gossamer.weights import numel


def check_storages(trial: Trial, *, seed: int = 0) -> None:
    """Check that masked and truly sparse runs pick the same topologies step by step.

    Both start in float64 from the same values at the same places, with the same random numbers to come. It looks at
    trials on truly sparse weights alone, and only where the recipe makes a dense model sparse at once: else there is
    nothing that both could start from.

    Args:
        trial: the recipe.
        seed: of the network's first values, int >= 0.

    Raises:
        ConformanceError: topologies differ, or at the end values or optimizer state do.
    """
    if trial.storage == "masked":
        return
    generator = seeded(seed + 1)
    masked_trial = replace(trial, storage="masked")
    masked = begin_on(masked_trial, make_model(masked_trial, seeded(seed)).double(), generator)
    if all(weight.num_active == numel(weight) for weight in masked.sparsifier.weights):
        return
    same = torch.Generator()
    same.set_state(generator.get_state())
    sparse = begin_on(trial, to_sparse(masked.model), same)
    for step in range(trial.num_steps + 1):
        if step:
            train_step(masked, step)
            train_step(sparse, step)
        _same_topologies(masked, sparse, step)
    _close_entries(masked, sparse)


def _same_topologies(masked: Run, sparse: Run, step: int) -> None:
    pairs = zip(topologies(masked).values(), topologies(sparse).items(), strict=True)
    for expected, (name, found) in pairs:
        if not torch.equal(expected, found):
            words = apart(expected.tolist(), found.tolist())
            rule = "the active entries are those of the masked run"
            raise sparse.trial.fault(rule, expected=words[0], found=words[1], step=step, weight=name)


def _close_entries(masked: Run, sparse: Run) -> None:
    for one, other in zip(masked.sparsifier.weights, sparse.sparsifier.weights, strict=True):
        expected, found = by_entry(one, masked.optimizer), by_entry(other, sparse.optimizer)
        for path, tensor in expected.items():
            if path not in found or not torch.allclose(tensor, found[path], rtol=1e-7, atol=1e-7, equal_nan=True):
                raise sparse.trial.fault(
                    f"{path} are those of the masked run",
                    expected=tensor.tolist(),
                    found=found[path].tolist() if path in found else "nothing",
                    step=sparse.trial.num_steps,
                    weight=other.name,
                )
