"""Storages with narrow places by way of plain pickle, which torch cannot do for tensors of uint16."""

import copy
import pickle

import pytest
import torch

from gossamer import formats
from gossamer.nn import SparseLinear


@pytest.mark.parametrize("name", [*formats.ROUNDED, "lean_csr"])
@pytest.mark.parametrize("inputs", [70, 70_000])
def test_pickle_has_the_same_bits_and_what_it_kept_before_still_runs(name: str, inputs: int) -> None:
    layer = SparseLinear(inputs, 9, sparsity=0.99 if inputs > 100 else 0.5, generator=torch.Generator().manual_seed(0))
    module = {**formats.ROUNDED, **formats.LINEAR}[name](layer)
    assert module is not None
    x = torch.randn(3, inputs)
    state = module.__reduce_ex__(2)[2]
    assert isinstance(state, dict)
    before = copy.deepcopy(module)
    if name == "bfloat16":
        # As it was when only int8 had scales.
        before.__setstate__(
            state | {"_buffers": {key: part for key, part in state["_buffers"].items() if key != "scales"}}
        )

    for copied in (pickle.loads(pickle.dumps(module)), before):
        assert torch.equal(copied(x), module(x))
        assert copied.indices.dtype == module.indices.dtype
