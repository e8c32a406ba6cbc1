"""A model that is measured and left exactly as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def untouched(model: nn.Module, *, training: bool = False) -> Iterator[None]:
    """Put a model into evaluation mode with every parameter differentiable, and put all back at the end.

    Put back: the mode of each module, `requires_grad`, `.grad`, buffers (running statistics) and torch's random state.

    Args:
        model: any module.
        training: whether to measure in training mode instead.

    Example:
        >>> model = nn.BatchNorm1d(2)
        >>> with untouched(model):
        ...     print(model.training)
        False
        >>> model.training
        True
    """
    modes = {module: module.training for module in model.modules()}
    asked = {parameter: parameter.requires_grad for parameter in model.parameters()}
    gradients = {parameter: parameter.grad for parameter in asked}
    buffers = {buffer: buffer.detach().clone() for buffer in model.buffers()}
    devices = sorted({tensor.device.index or 0 for tensor in asked if tensor.device.type == "cuda"})
    kept = {module: dict(module._buffers) for module in model.modules()}
    # Only the plain form of attention can be differentiated twice.
    with torch.random.fork_rng(devices=devices), sdpa_kernel(SDPBackend.MATH):
        try:
            model.train(training)
            for parameter in asked:
                parameter.requires_grad_(parameter.is_floating_point())
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            for parameter, wanted in asked.items():
                parameter.requires_grad_(wanted)
                parameter.grad = gradients[parameter]
            for module, own in kept.items():
                module._buffers.update(own)
            with torch.no_grad():
                for buffer, saved in buffers.items():
                    # A copy counts as a change, and then no graph made before could be differentiated.
                    if not torch.equal(buffer, saved):
                        buffer.copy_(saved)
