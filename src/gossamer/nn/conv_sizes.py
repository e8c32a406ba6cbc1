"""The sizes of convolutions of one or two dimensions: checked, and set as nn.Conv1d and nn.Conv2d have them."""

from typing import Any

from gossamer.kernels.conv_fallback import Window

Size = int | tuple[int, ...]


def set_sizes_(
    layer: Any,
    in_channels: int,
    out_channels: int,
    kernel_size: Size,
    *,
    dimensions: int,
    stride: Size,
    padding: str | Size,
    dilation: Size,
    groups: int,
    padding_mode: str,
) -> None:
    """Set the attributes of nn.Conv1d or nn.Conv2d, and what the kernels need of them.

    Args:
        layer: whose attributes are set.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: one number, or one for each dimension; so are stride, padding and dilation.
        dimensions: 1 or 2.
        stride: >= 1.
        padding: >= 0, or "same" or "valid".
        dilation: >= 1.
        groups: a divisor of both numbers of channels.
        padding_mode: "zeros".

    Raises:
        ValueError: a size is out of range, groups do not divide the channels, or what is padded is not zeros.
    """
    if padding_mode != "zeros":
        raise ValueError(f"padding_mode is {padding_mode!r}; sparse convolutions pad with 'zeros' alone: pad before")
    if groups < 1 or in_channels < 1 or out_channels < 1 or in_channels % groups or out_channels % groups:
        raise ValueError(
            f"in_channels is {in_channels}, out_channels {out_channels}, groups {groups}; all must be 1 or more, and "
            "groups must divide both"
        )
    layer.in_channels, layer.out_channels, layer.groups = in_channels, out_channels, groups
    layer.kernel_size = each(kernel_size, "kernel_size", dimensions=dimensions, least=1)
    layer.stride = each(stride, "stride", dimensions=dimensions, least=1)
    layer.dilation = each(dilation, "dilation", dimensions=dimensions, least=1)
    layer.padding = padding
    if not isinstance(padding, str):
        layer.padding = each(padding, "padding", dimensions=dimensions, least=0)
    layer.padding_mode = padding_mode
    layer.window = window_of(layer.kernel_size, layer.stride, layer.padding, layer.dilation, groups)
    layer.dense_shape = (out_channels, in_channels // groups, *layer.kernel_size)


def show(layer: Any) -> str:
    """Describe a layer: what differs from the default, and how many weights exist."""
    parts = [f"{layer.in_channels}, {layer.out_channels}, kernel_size={layer.kernel_size}, stride={layer.stride}"]
    if layer.padding not in ("valid", (0,) * len(layer.kernel_size)):
        parts.append(f"padding={layer.padding!r}")
    if max(layer.dilation) > 1:
        parts.append(f"dilation={layer.dilation}")
    if layer.groups > 1:
        parts.append(f"groups={layer.groups}")
    parts.append(f"bias={layer.bias is not None}, num_active={layer.num_active}, sparsity={layer.sparsity:.4g}")
    return ", ".join(parts)


def each(value: Size, name: str, *, dimensions: int, least: int) -> tuple[int, ...]:
    """Return one number for each dimension.

    Raises:
        ValueError: another number of them, or one is less than `least`.
    """
    numbers = (value,) * dimensions if isinstance(value, int) else tuple(value)
    if len(numbers) != dimensions or any(number < least for number in numbers):
        raise ValueError(f"{name} is {value}; it must be an integer >= {least}, or {dimensions} of them")
    return numbers


def window_of(
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: str | tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Window:
    """Return what a convolution of one or two dimensions looks through.

    Raises:
        ValueError: `padding` is a string that is not known, or "same" with a stride.
    """
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f"padding is {padding!r}; it must be 'same', 'valid' or integers")
        if padding == "same" and any(number != 1 for number in stride):
            raise ValueError(f"padding is 'same' with a stride of {stride}; a stride needs padding in integers")
        around = [space * (size - 1) * (padding == "same") for size, space in zip(kernel, dilation, strict=True)]
        sides = [(total // 2, total - total // 2) for total in around]
    else:
        sides = [(size, size) for size in padding]
    if len(kernel) == 1:
        kernel, stride, dilation, sides = (1, *kernel), (1, *stride), (1, *dilation), [(0, 0), *sides]
    return Window._make([*kernel, *stride, *sides[0], *sides[1], *dilation, groups])
