"""Layers that remember only the largest of their inputs for the gradient of their weight."""

import math
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from gossamer import counts, masks
from gossamer.recipes.untraced import untraced
from gossamer.weights import MaskedWeight

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def find_layers(model: nn.Module, weights: list[MaskedWeight]) -> list[tuple[Layer, MaskedWeight]]:
    """Return each layer that holds one of the weights, with it.

    Raises:
        ValueError: a weight is held by something else than Linear and Conv, or by a class that was made of them.
    """
    held = {id(weight.parameter): weight for weight in weights}
    found: list[tuple[Layer, MaskedWeight]] = []
    for module in model.modules():
        for key, parameter in module._parameters.items():
            if id(parameter) not in held:
                continue
            if type(module) not in _LAYERS or key != "weight":
                raise ValueError(
                    f"{held[id(parameter)].name} is of {type(module).__name__}, whose inputs cannot be made sparse; "
                    "Linear and Conv can, and activation_sparsity=0.0 leaves all inputs as they are"
                )
            found.append((module, held[id(parameter)]))  # type: ignore[arg-type]
    return found


def forget_small_inputs_(layer: Layer, weight: MaskedWeight, sparsity: float) -> None:
    """Take the gradient of a layer's weight with the largest of its inputs, as long as a sparsifier holds this view.

    Outputs and the gradient of the inputs stay what they are. What is kept is the values and places of the largest of
    each call, over the whole batch.

    Args:
        layer: Linear or Conv1d to Conv3d.
        weight: the view of its weight that the sparsifier gets.
        sparsity: fraction of the inputs that is forgotten, in [0, 1).
    """
    hooks = _Hooks(weight, sparsity)
    weight.release_with(
        layer.register_forward_pre_hook(hooks.before),
        # Also after a forward pass that raised an error: else its weight would stay frozen.
        layer.register_forward_hook(hooks.after, with_kwargs=True, always_call=True),
    )


@final
class _Hooks:
    """What a layer does before and after its forward pass."""

    def __init__(self, weight: MaskedWeight, sparsity: float) -> None:
        self._weight, self._sparsity = weight, sparsity
        self._hidden = False

    # The tracer would pass over what these do to the weight.
    @untraced
    def before(self, layer: Layer, args: tuple[Any, ...]) -> None:
        """Hide the weight from autograd: then the layer keeps no input for its gradient."""
        self._hidden = torch.is_grad_enabled() and layer.weight.requires_grad and self._is_held(layer.weight)
        if self._hidden:
            layer.weight.requires_grad_(False)

    @untraced
    def after(self, layer: Layer, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor | None:
        """Show the weight to autograd again, by way of the inputs that are kept."""
        if not self._hidden:
            return None
        self._hidden = False
        layer.weight.requires_grad_(True)
        if not isinstance(output, Tensor):
            return None
        inputs = (args[0] if args else kwargs["input"]).detach()
        places = masks.largest(inputs.flatten().abs(), counts.num_active(inputs.numel(), self._sparsity))
        narrow = torch.int32 if inputs.numel() <= 1 << 31 else torch.int64
        kept = inputs.flatten()[places], places.to(narrow)
        output = output.clone() if output._is_view() else output
        seen: Tensor = _ByKept.apply(output, layer.weight, *kept, inputs.shape, layer)  # type: ignore[no-untyped-call]
        return seen

    def _is_held(self, parameter: Tensor) -> bool:
        # A copy of the model has no such hook.
        hooks = (parameter._backward_hooks or {}).values()
        return any(getattr(hook, "__self__", None) is self._weight for hook in hooks)


class _ByKept(torch.autograd.Function):
    """Hand an output on as it is; backward, the weight gets the gradient of the kept inputs."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, weight: Tensor, values: Tensor, places: Tensor, shape: torch.Size, layer: Layer
    ) -> Tensor:
        ctx.save_for_backward(values, places)
        ctx.shape, ctx.layer, ctx.weight = shape, layer, (weight.shape, weight.dtype)
        ctx.mark_dirty(output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, places = ctx.saved_tensors
        inputs = torch.zeros(ctx.shape, dtype=gradient.dtype, device=gradient.device)
        inputs.view(-1)[places.long()] = values.to(gradient.dtype)
        shape, dtype = ctx.weight
        return gradient, weight_gradient(ctx.layer, inputs, gradient, shape).to(dtype), None, None, None, None


def weight_gradient(layer: Layer, inputs: Tensor, gradient: Tensor, shape: torch.Size) -> Tensor:
    """Return the gradient of the weight of a layer.

    Args:
        layer: Linear or Conv1d to Conv3d.
        inputs: what it was called with.
        gradient: of its output.
        shape: of the weight.
    """
    if isinstance(layer, nn.Linear):
        rows = math.prod(inputs.shape[:-1])
        return gradient.reshape(rows, shape[0]).t() @ inputs.reshape(rows, shape[1])
    # Not batched: one sample.
    if inputs.dim() < len(shape):
        inputs, gradient = inputs[None], gradient[None]
    padding = layer.padding
    if isinstance(padding, str) or layer.padding_mode != "zeros":
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        inputs, padding = F.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode), (0,) * (len(shape) - 2)
    found: Tensor = torch.ops.aten.convolution_backward(
        gradient,
        inputs,
        inputs.new_empty(shape),
        None,
        layer.stride,
        padding,
        layer.dilation,
        False,
        [0] * (len(shape) - 2),
        layer.groups,
        [False, True, False],
    )[1]
    return found
