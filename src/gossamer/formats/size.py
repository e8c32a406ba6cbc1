"""What a module takes in memory."""

from torch import nn


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


def dense_bytes(outputs: int, inputs: int, itemsize: int, *, bias: bool) -> int:
    """Return the bytes of a dense linear layer.

    Args:
        outputs: rows of its weight.
        inputs: columns of its weight.
        itemsize: bytes of one number.
        bias: whether it has one.
    """
    return (outputs * inputs + outputs * bias) * itemsize
