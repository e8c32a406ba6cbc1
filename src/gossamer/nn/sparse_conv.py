"""A convolution of images whose weight is truly sparse: values and topology, nothing else."""

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from gossamer import counts
from gossamer.kernels import conv_eager
from gossamer.kernels.conv_fallback import Window
from gossamer.kernels.operands import is_autocast
from gossamer.nn import conv_sizes, sparse_state
from gossamer.nn.parameter import drawn_on_cpu
from gossamer.topology import Topology


class SparseConv2d(nn.Module):
    """Convolve images with a weight of which only the active entries exist, at a random topology.

    `values` is one plain parameter of shape [num_active]; the topology is kept in integer buffers, as in
    `SparseLinear`: CSR over the weight as a matrix [out_channels, in_channels / groups * kernel height * kernel width].
    Nothing is unfolded: each weight adds a shifted image to its output channel. Input and output lie in memory as
    torch's layers have them, channel by channel, so nothing around the layer needs to change.

    Args:
        in_channels: channels of the input, >= 1.
        out_channels: channels of the output, >= 1.
        kernel_size: size of the kernel, >= 1, or (height, width).
        sparsity: fraction of the weights that do not exist, in [0, 1); the count is exact, see `counts.num_active`.
        stride: rows and columns from one result to the next, >= 1, or (height, width).
        padding: zeros on each side of the image, >= 0, or (height, width); "valid" for none, "same" for as many as keep
            the size.
        dilation: rows and columns from one place of the kernel to the next, >= 1, or (height, width).
        groups: parts that the channels are cut into; each part of the outputs sees one part of the inputs.
        bias: whether to add a learned bias, shape [out_channels], zero at first.
        padding_mode: "zeros", the only one.
        generator: source of randomness for the topology and the first values, on the CPU.
        dtype: dtype of values and bias; default: torch's default.

    Input: [batch, in_channels, height, width] or without batch, the dtype of the values (or any under autocast, where
    the product is that of the values). Output: [batch, out_channels, height, width].

    Attributes:
        values: the active weights, by output channel, input channel, row and column of the kernel, shape [num_active].
        row_pointers, column_indices: the topology in CSR, saved with the state.
        weight_shape: `dense_shape` as a tensor, saved too.
        channel_pointers, channel_indices, permutation: the same by input channel, made again on loading.
        window: what the kernels look through: kernel, stride, padding, dilation and groups as integers.
        dense_shape: shape of the dense weight.

    Raises:
        ValueError: a size is out of range, groups do not divide the channels, or sparsity lies outside [0, 1).

    Example:
        >>> conv = SparseConv2d(16, 32, 3, sparsity=0.9, padding=1, generator=torch.Generator().manual_seed(0))
        >>> conv.values.shape, conv(torch.zeros(8, 16, 28, 28)).shape
        (torch.Size([461]), torch.Size([8, 32, 28, 28]))

    Source:
        Sums of shifted images, one for each weight: Park et al. Faster CNNs with direct sparse convolutions and guided
        pruning. ICLR 2017, arXiv:1608.01409. First values: He et al. 2015, arXiv:1502.01852.
        Differs: a tile of the result stays in registers while all weights of a channel are added up; both gradients
        are sparse too; fan_in is the number of active inputs of each output.

    Cost: memory O(num_active + out_channels + in_channels) and a padded copy of one image for each thread; 2 num_active
    flops per pixel of the output forward and 4 backward.
    """

    values: nn.Parameter
    bias: nn.Parameter | None
    row_pointers: Tensor
    column_indices: Tensor
    weight_shape: Tensor
    channel_pointers: Tensor
    channel_indices: Tensor
    permutation: Tensor
    window: Window
    dense_shape: tuple[int, ...]
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: str

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        sparsity: float,
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        generator: torch.Generator,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        conv_sizes.set_sizes_(
            self, in_channels, out_channels, kernel_size, dimensions=2, stride=stride, padding=padding,
            dilation=dilation, groups=groups, padding_mode=padding_mode,
        )  # fmt: skip
        with drawn_on_cpu(self):
            dtype = torch.get_default_dtype() if dtype is None else dtype
            places, values = sparse_state.draw(self.dense_shape, sparsity, generator=generator)
            zeros = torch.zeros(out_channels, dtype=dtype) if bias else None
            sparse_state.build_(self, places, values.to(dtype), zeros, self.dense_shape)

    @classmethod
    def from_dense(cls, conv: nn.Conv2d, *, mask: Tensor | None = None) -> Self:
        """Make the truly sparse layer that computes what `conv` computes.

        Args:
            conv: dense layer; it is left as it is.
            mask: bool, shape of its weight, the entries to keep, zeros among them too. Default: the entries that are
                not zero.

        Raises:
            ValueError: the mask has another shape, or the layer pads with something else than zeros.

        Example:
            >>> SparseConv2d.from_dense(nn.Conv2d(3, 2, 3)).num_active
            54
        """
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        conv_sizes.set_sizes_(
            layer, conv.in_channels, conv.out_channels, conv.kernel_size, dimensions=2, stride=conv.stride,
            padding=conv.padding, dilation=conv.dilation, groups=conv.groups, padding_mode=conv.padding_mode,
        )  # fmt: skip
        sparse_state.take_(layer, conv, mask)
        return layer

    def to_dense(self) -> nn.Conv2d:
        """Return the dense layer that computes the same, zeros where no weight exists."""
        conv = nn.utils.skip_init(
            nn.Conv2d, self.in_channels, self.out_channels, self.kernel_size, stride=self.stride,
            padding=self.padding, dilation=self.dilation, groups=self.groups, bias=self.bias is not None,
        )  # fmt: skip
        sparse_state.give_(self, conv)
        dense: nn.Conv2d = conv
        return dense

    @property
    def topology(self) -> Topology:
        """Which weights exist, the weight as a matrix: shape (out_channels, in_channels / groups * kernel places)."""
        shape = (self.out_channels, math.prod(self.dense_shape[1:]))
        return Topology(shape, self.row_pointers, self.column_indices)

    @property
    def num_active(self) -> int:
        """Number of weights that exist, biases not counted."""
        return self.values.numel()

    @property
    def sparsity(self) -> float:
        """Fraction of the weights that do not exist."""
        return counts.sparsity_of(self.num_active, math.prod(self.dense_shape))

    def replace_(self, places: Topology, values: Tensor) -> None:
        """Give the layer other active weights, in place: the parameter stays the same object.

        Args:
            places: which weights exist from now on, same shape as before.
            values: their values, shape [num_active].

        Raises:
            ValueError: another number of values than places, or places of another shape.
        """
        sparse_state.replace_(self, places, values)

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer; see the class for shapes."""
        if inputs.dim() not in (3, 4) or inputs.shape[-3] != self.in_channels:
            raise ValueError(
                f"input has shape {tuple(inputs.shape)}; it must be [batch, {self.in_channels}, height, width], the "
                "batch may be missing"
            )
        if is_autocast(inputs):
            inputs = inputs.to(self.values.dtype)
        if inputs.dim() == 4:
            return conv_eager.conv2d(inputs, self.values, self.bias, sparse_state.index(self), self.window)
        index = sparse_state.index(self)
        return conv_eager.conv2d(inputs[None], self.values, self.bias, index, self.window)[0]

    def extra_repr(self) -> str:
        """Show sizes and sparsity."""
        return conv_sizes.show(self)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        problem = sparse_state.make_room_(self, state_dict, prefix)
        if problem:
            error_msgs.append(f"{prefix}values: {problem}")
            return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if not self.row_pointers.is_meta:
            sparse_state.set_topology_(self, self.topology)
