import pytest
import torch
from torch import nn

from gossamer.weights import MaskedWeight


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_removed_entries_are_zero_masked_and_counted(order: torch.memory_format) -> None:
    parameter = nn.Parameter(torch.ones(2, 3, 2, 2).to(memory_format=order))
    weight = MaskedWeight("w", parameter)
    weight.attach()
    before = weight.mask

    for removed in ([1, 5], [0, 23]):
        weight.remove_(torch.tensor(removed))
        # A gradient between the two: what is masked is worked out once.
        parameter.grad = None
        (parameter * 3).sum().backward()

    gone = [0, 1, 5, 23]
    assert parameter.grad is not None
    assert (parameter == 0).flatten().nonzero().flatten().tolist() == gone
    assert (parameter.grad == 0).flatten().nonzero().flatten().tolist() == gone
    assert (~weight.mask).flatten().nonzero().flatten().tolist() == gone
    assert weight.num_active == 20
    assert weight.indices().numel() == 20
    assert bool(before.all())
