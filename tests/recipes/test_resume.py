from pathlib import Path
from typing import Any

import pytest
import torch

from gossamer.neurons import fit_

from .cases import NUM_STEPS, OPTIMIZERS, PAIRS, Case
from .network import Run, assert_same, begin, everything, topology_of, train_step

# Just before an update, just after it, after a removal of neurons, and where nothing is due.
SAVED_AT = (2, 3, 4, 5, 7, 12)


def load(run: Run, saved: dict[str, Any], order: tuple[str, ...]) -> None:
    fit_(run.model, saved["model"], weights=run.sparsifier.weights)
    for part in order:
        getattr(run, part).load_state_dict(saved[part])


@pytest.mark.parametrize(("case", "storage"), PAIRS, ids=lambda part: part.name if isinstance(part, Case) else part)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    case: Case, storage: str, optimizer: str, tmp_path: Path
) -> None:
    whole = begin(case.start, OPTIMIZERS[optimizer], storage)
    for step in range(1, NUM_STEPS + 1):
        train_step(whole, step)
        if step in SAVED_AT:
            torch.save(everything(whole), tmp_path / f"{step}.pt")
    for saved_at in SAVED_AT:
        resumed = begin(case.start, OPTIMIZERS[optimizer], storage, seed=100 + saved_at)
        saved = torch.load(tmp_path / f"{saved_at}.pt", weights_only=True)
        orders = ("model", "optimizer", "sparsifier"), ("sparsifier", "optimizer", "model")
        load(resumed, saved, orders[saved_at % 2])
        assert_same(everything(resumed), saved)
        for step in range(saved_at + 1, NUM_STEPS + 1):
            train_step(resumed, step)

        assert_same(everything(resumed), everything(whole))
        assert topology_of(resumed) == topology_of(whole)
