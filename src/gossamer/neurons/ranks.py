"""Processes that train together change the sizes of their layers alike."""

from collections.abc import Sequence
from typing import Any

import torch.distributed as dist

from gossamer import topology
from gossamer.neurons.hidden import HiddenLayer, View
from gossamer.weights.tiles import trains_together


def check_ranks(layers: Sequence[HiddenLayer]) -> None:
    """Raise if processes that train together no longer agree which neurons and weights exist.

    Raises:
        RuntimeError: they differ.
    """
    if not trains_together():
        return
    mine = [_fingerprint(view) for hidden in layers for view in (hidden.weight, hidden.reader)]
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, mine)
    if any(other != mine for other in every):
        raise RuntimeError("neurons differ between ranks; change the models of all ranks in the same way")


def _fingerprint(weight: View) -> str:
    return topology.fingerprint(topology.from_linear(weight.indices(), (weight.shape[0], weight.shape[1])))
