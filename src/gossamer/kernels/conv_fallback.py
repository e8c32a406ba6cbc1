"""Sparse convolutions in plain PyTorch: a dense weight is filled and torch's convolution called; the oracle of `conv`.

Shapes: N = batch, C = channels in, O = channels out, H x W = image, K = active weights.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn import grad as gradients


class Window(NamedTuple):
    """What a convolution looks through; the operators take it as a list of integers.

    Attributes:
        kernel_height, kernel_width: size of the kernel.
        stride_height, stride_width: rows and columns from one result to the next.
        top, bottom, left, right: rows and columns of zeros around the image.
        dilation_height, dilation_width: rows and columns from one place of the kernel to the next.
        groups: parts that the channels are cut into.
    """

    kernel_height: int
    kernel_width: int
    stride_height: int
    stride_width: int
    top: int
    bottom: int
    left: int
    right: int
    dilation_height: int
    dilation_width: int
    groups: int

    @property
    def places(self) -> int:
        """Weights of one kernel, where all exist."""
        return self.kernel_height * self.kernel_width

    def result(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of the output for an image of this size."""
        rows = height + self.top + self.bottom - self.dilation_height * (self.kernel_height - 1) - 1
        columns = width + self.left + self.right - self.dilation_width * (self.kernel_width - 1) - 1
        return rows // self.stride_height + 1, columns // self.stride_width + 1


def dense_weight(values: Tensor, row_pointers: Tensor, column_indices: Tensor, columns: int) -> Tensor:
    """Return the matrix [O, columns] with the values at their places and zeros elsewhere.

    Args:
        values: shape [K].
        row_pointers: shape [O + 1].
        column_indices: shape [K].
        columns: of the matrix.
    """
    rows = row_pointers.numel() - 1
    linear = _linear(row_pointers, column_indices, columns)
    # Not in place: under torch.func.vmap the values may have a dimension that the zeros have not.
    return values.new_zeros(rows * columns).index_add(0, linear, values).view(rows, columns)


def multiply(
    x: Tensor, values: Tensor, bias: Tensor | None, row_pointers: Tensor, column_indices: Tensor, window: Window
) -> Tensor:
    """Return the convolution of x [N, C, H, W] with the sparse weight, plus the bias [O]."""
    shape = _weight_shape(x.shape[1], row_pointers, window)
    weight = dense_weight(values, row_pointers, column_indices, shape[1] * window.places).view(shape)
    return functional.conv2d(_padded(x, window), weight, bias, *_options(window))


def grad_input(
    grad: Tensor, values: Tensor, row_pointers: Tensor, column_indices: Tensor, image: list[int], window: Window
) -> Tensor:
    """Return the gradient of an input of shape `image` = [N, C, H, W] from that of the output."""
    shape = _weight_shape(image[1], row_pointers, window)
    weight = dense_weight(values, row_pointers, column_indices, shape[1] * window.places).view(shape)
    height, width = image[2] + window.top + window.bottom, image[3] + window.left + window.right
    padded: Tensor = gradients.conv2d_input([*image[:2], height, width], weight, grad, *_options(window))
    return padded[..., window.top : window.top + image[2], window.left : window.left + image[3]]


def grad_values(grad: Tensor, x: Tensor, row_pointers: Tensor, column_indices: Tensor, window: Window) -> Tensor:
    """Return the gradient of the active weights, shape [K]."""
    shape = _weight_shape(x.shape[1], row_pointers, window)
    options = _options(window)
    weight: Tensor = gradients.conv2d_weight(_padded(x, window), shape, grad, *options)
    return weight.flatten()[_linear(row_pointers, column_indices, shape[1] * window.places)]


def grad_rows(grad: Tensor, x: Tensor, window: Window, start: int, stop: int) -> Tensor:
    """Return the gradient of the whole weights of some output channels, as if all existed.

    Args:
        grad: of the output, shape [N, O, height, width].
        x: the input, shape [N, C, H, W].
        window: kernel, stride, padding, dilation and groups.
        start: first output channel.
        stop: the one after the last.

    Returns:
        Shape [stop - start, C / groups * kernel places].

    Cost: 2 N (stop - start) C / groups * kernel places * height * width flops.
    """
    inputs, outputs = x.shape[1] // window.groups, grad.shape[1] // window.groups
    x, parts = _padded(x, window), []
    while start < stop:
        first = start // outputs
        # A stretch within one group, or of whole groups: torch takes these in one call.
        num_groups = (stop - start) // outputs if start % outputs == 0 else 0
        end = start + num_groups * outputs if num_groups else min(stop, (first + 1) * outputs)
        num_groups = max(1, num_groups)
        options = _options(window._replace(groups=num_groups))
        shape = (end - start, inputs, window.kernel_height, window.kernel_width)
        part = x[:, first * inputs : (first + num_groups) * inputs]
        parts.append(gradients.conv2d_weight(part, shape, grad[:, start:end], *options).flatten(1))
        start = end
    return torch.cat(parts) if len(parts) != 1 else parts[0]


def _linear(row_pointers: Tensor, column_indices: Tensor, columns: int) -> Tensor:
    rows = torch.repeat_interleave(row_pointers.diff().long(), output_size=column_indices.numel())
    return rows * columns + column_indices.long()


def _weight_shape(channels: int, row_pointers: Tensor, window: Window) -> tuple[int, int, int, int]:
    return row_pointers.numel() - 1, channels // window.groups, window.kernel_height, window.kernel_width


def _padded(x: Tensor, window: Window) -> Tensor:
    return functional.pad(x, (window.left, window.right, window.top, window.bottom))


def _options(window: Window) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]:
    """Stride, padding, dilation and groups, in the order of torch's functions."""
    return (
        (window.stride_height, window.stride_width),
        (0, 0),
        (window.dilation_height, window.dilation_width),
        window.groups,
    )
