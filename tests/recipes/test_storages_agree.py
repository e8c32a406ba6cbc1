import pytest
import torch
from torch import nn

from gossamer import budgets, to_sparse
from gossamer.models import mlp
from gossamer.weights import SparseWeight

from .cases import CASES, NUM_STEPS, OPTIMIZERS, Case
from .network import SIZES, Run, over_active, seeded, topology_of, train_step


def pair(case: Case, optimizer: str, seed: int) -> tuple[Run, Run]:
    """Start both storages from the same float64 values at the same places, with the same random numbers to come."""
    masked = mlp(SIZES, budget=budgets.uniform, alpha=0.5, generator=seeded(seed)).double()
    generator = seeded(seed + 1)
    held = OPTIMIZERS[optimizer](masked)
    first = Run(model=masked, optimizer=held, sparsifier=case.start(masked, held, generator=generator, sparsity=0.6))
    sparse = to_sparse(masked)
    assert isinstance(sparse, nn.Sequential)
    held = OPTIMIZERS[optimizer](sparse)
    same = torch.Generator()
    same.set_state(generator.get_state())
    second = Run(model=sparse, optimizer=held, sparsifier=case.start(sparse, held, generator=same, sparsity=None))
    return first, second


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name != "gmp" and len(case.storages) == 2], ids=lambda case: case.name
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_masked_and_truly_sparse_runs_pick_the_same_topologies_step_by_step(
    case: Case, optimizer: str, seed: int
) -> None:
    masked, sparse = pair(case, optimizer, seed)
    assert all(isinstance(weight, SparseWeight) for weight in sparse.sparsifier.weights)
    for step in range(1, NUM_STEPS + 1):
        train_step(masked, step)
        train_step(sparse, step)

        assert topology_of(masked) == topology_of(sparse)
    for one, other in zip(masked.sparsifier.weights, sparse.sparsifier.weights, strict=True):
        for mine, theirs in zip(over_active(one, masked.optimizer), over_active(other, sparse.optimizer), strict=True):
            torch.testing.assert_close(mine, theirs)
