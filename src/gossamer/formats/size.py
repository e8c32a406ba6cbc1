"""What layers take in memory."""

from typing import Protocol, runtime_checkable

from torch import nn

from gossamer.topology import Topology


@runtime_checkable
class TrulySparse(Protocol):
    """A layer of `gossamer.nn` whose weight is values and topology."""

    values: nn.Parameter
    bias: nn.Parameter | None

    @property
    def topology(self) -> Topology:
        """Which weights exist."""

    def to_dense(self) -> nn.Module:
        """Return the dense layer that computes the same."""


def held_bytes(module: nn.Module) -> int:
    """Return the bytes of all parameters and buffers of a module, those of its parts too, a shared one counted once.

    Args:
        module: any.

    Example:
        >>> held_bytes(nn.Linear(10, 4))
        176
    """
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return sum(tensor.nbytes for tensor in tensors.values())


def dense_bytes(layer: TrulySparse) -> int:
    """Return the bytes that a truly sparse layer would take as a dense one.

    Args:
        layer: whose weight has a topology.
    """
    outputs, inputs = layer.topology.shape
    return (outputs * inputs + outputs * (layer.bias is not None)) * layer.values.element_size()
