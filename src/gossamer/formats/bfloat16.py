"""bfloat16: values of 16 bits with the range of float32 and 8 bits of precision; sums stay float32."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.formats import narrow
from gossamer.formats.block import sparse_layer
from gossamer.kernels import inference
from gossamer.nn import SparseLinear


class Bfloat16Linear(nn.Module):
    """Apply y = x W^T + b with a weight rounded to bfloat16 and sums in float32: for inference alone.

    Made by `hold`, by way of `gs.accelerate` where the caller allows rounding. There is no derivative: nothing here is
    a parameter, and `backward` through it raises RuntimeError. `to_sparse`, and with it `gs.save`, give float32 layers
    of the rounded values: what is computed with, not what was given.

    Args:
        values: the weights, row by row, bfloat16, shape [num_active].
        places: where they are.
        bias: zeros for none, shape [out_features].
        in_features: size of the last axis of the input.
        with_bias: whether the layer that was held has a bias.

    Input: [*, in_features], the dtype of the bias, float32 (or any under autocast). Output: [*, out_features].

    Example:
        >>> layer = SparseLinear(64, 32, sparsity=0.75, generator=torch.Generator().manual_seed(0))
        >>> hold(layer)
        Bfloat16Linear(in_features=64, out_features=32, num_active=512)

    Cost: memory of 4 bytes a weight up to 65,536 inputs, else 6; CSR of float32 has 8, and its transpose.
    """

    values: Tensor
    indices: Tensor
    pointers: Tensor
    bias: Tensor

    def __init__(
        self, values: Tensor, places: narrow.Places, bias: Tensor, *, in_features: int, with_bias: bool
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.with_bias = in_features, bias.numel(), with_bias
        for name, part in {"values": values, **places._asdict(), "bias": bias}.items():
            self.register_buffer(name, part)

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer; see the class for shapes."""
        x_FB = inference.enter(inputs, self.in_features, self.bias.dtype)
        y_OB = inference.narrow_linear(x_FB, self.pointers, self.indices, self.values, None, self.bias)
        return inference.leave(y_OB, inputs.shape, self.out_features)

    def to_sparse(self) -> SparseLinear:
        """Return the layer that trains, with the rounded weights that are not zero, in float32."""
        rows = torch.repeat_interleave(self.pointers.diff().long(), output_size=self.values.numel())
        bias = self.bias if self.with_bias else None
        values = self.values.to(self.bias.dtype)
        return sparse_layer(rows, self.indices.long(), values, bias, (self.out_features, self.in_features))

    def extra_repr(self) -> str:
        """Show sizes and the number of weights."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{sizes}, num_active={self.values.numel()}"

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
        places = state_dict.get(f"{prefix}indices"), state_dict.get(f"{prefix}pointers")
        if problem := narrow.problem_with_places(*places, self.in_features):
            error_msgs.append(f"{prefix}indices: {problem}")
            return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def hold(layer: nn.Module) -> Bfloat16Linear | None:
    """Hold a weight rounded to bfloat16, to nearest, ties to even.

    Args:
        layer: a `SparseLinear`, or an `nn.Linear` with zeros, on the CPU and of float32.

    Returns:
        A layer that computes with the rounded weight; None for other layers, and where it would take more memory than
        dense.

    Raises:
        ValueError: a weight is not finite, or too large for bfloat16.
    """
    sparse = narrow.taken(layer)
    if sparse is None:
        return None
    places = narrow.places_of(sparse)
    if not narrow.is_smaller(sparse, places, bytes_each=2, bytes_an_output=4):
        return None
    values = sparse.values.detach().to(torch.bfloat16)
    narrow.check_finite(values, into="bfloat16")
    return Bfloat16Linear(
        values,
        places,
        narrow.bias_of(sparse),
        in_features=sparse.in_features,
        with_bias=sparse.bias is not None,
    ).train(layer.training)
