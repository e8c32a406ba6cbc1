"""Derivatives of the mean loss over the data, weight by weight."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.criteria.inputs import wide
from gossamer.statistics.batches import Batch, call, device_of, read, single, size
from gossamer.statistics.untouched import untouched

Loss = Callable[[Any, Any], Tensor]
Tensors = dict[str, Tensor]


def mean_gradient(model: nn.Module, weights: Mapping[str, Tensor], data: Iterable[Any], loss_fn: Loss) -> Tensors:
    """Return the gradient of the mean loss at each weight.

    Args:
        model: measured in evaluation mode, left as it is.
        weights: parameters by name.
        data: labelled batches.
        loss_fn: (outputs, targets) -> scalar, the mean over the samples of a batch.

    Returns:
        Name -> gradient, shape and dtype of the weight.

    Raises:
        ValueError: the loss is no finite scalar, or does not depend on a weight.
    """
    sums, count = _zeros(weights), 0
    with untouched(model):
        for batch in _batches(model, data):
            count += size(batch)
            _add_(sums, _gradients(_loss(model, batch, loss_fn), weights), factor=size(batch))
    return _mean(sums, count, weights)


def squared_gradient(model: nn.Module, weights: Mapping[str, Tensor], data: Iterable[Any], loss_fn: Loss) -> Tensors:
    """Return the mean over samples of the squared gradient of one sample's loss: the diagonal of the empirical Fisher.

    Args, Returns, Raises: as `mean_gradient`.

    Cost: one backward pass for each sample.
    """
    sums, count = _zeros(weights), 0
    for gradients in each_gradient(model, weights, data, loss_fn):
        count += 1
        _add_(sums, {name: wide(gradient).square() for name, gradient in gradients.items()}, factor=1)
    return _mean(sums, count, weights)


def sample_gradients(model: nn.Module, weights: Mapping[str, Tensor], data: Iterable[Any], loss_fn: Loss) -> Tensors:
    """Return the gradient of each sample's loss, shape [samples, *] for each weight.

    Args, Raises: as `mean_gradient`.

    Cost: memory of samples times weights.
    """
    every = list(each_gradient(model, weights, data, loss_fn))
    return {name: torch.stack([gradients[name] for gradients in every]) for name in weights}


def each_gradient(
    model: nn.Module, weights: Mapping[str, Tensor], data: Iterable[Any], loss_fn: Loss
) -> Iterator[Tensors]:
    """Yield the gradients of the loss of one sample after the other; see `mean_gradient`."""
    with untouched(model):
        for batch in _batches(model, data):
            for sample in single(batch):
                yield _gradients(_loss(model, sample, loss_fn), weights)


def hessian_gradient(model: nn.Module, weights: Mapping[str, Tensor], data: Iterable[Any], loss_fn: Loss) -> Tensors:
    """Return H g: the Hessian of the mean loss over all weights together, times its gradient.

    Args, Returns, Raises: as `mean_gradient`.

    Cost: two passes over the data, the second differentiated twice.
    """
    gradient = mean_gradient(model, weights, data, loss_fn)
    return hessian_product(model, weights, data, loss_fn, gradient)


def hessian_product(
    model: nn.Module, weights: Mapping[str, Tensor], data: Iterable[Any], loss_fn: Loss, vectors: Mapping[str, Tensor]
) -> Tensors:
    """Return H v for the Hessian of the mean loss over all weights together.

    Args:
        model: measured in evaluation mode, left as it is.
        weights: parameters by name.
        data: labelled batches.
        loss_fn: (outputs, targets) -> scalar, the mean over the samples of a batch.
        vectors: v by name, shapes of the weights.

    Returns:
        Name -> product, shape and dtype of the weight.

    Raises:
        ValueError: the loss is no finite scalar, or does not depend on a weight.
    """
    sums, count = _zeros(weights), 0
    with untouched(model):
        for batch in _batches(model, data):
            count += size(batch)
            gradients = _gradients(_loss(model, batch, loss_fn), weights, again=True)
            inner = torch.stack([(gradients[name] * vectors[name]).sum() for name in weights]).sum()
            _add_(sums, _second(inner, weights), factor=size(batch))
    return _mean(sums, count, weights)


def output_sensitivity(model: nn.Module, weights: Mapping[str, Tensor], data: Iterable[Any]) -> Tensors:
    """Return the mean over samples of |d(sum of the outputs) / d w|; no labels are needed.

    Args:
        model: measured in evaluation mode, left as it is; its output is a tensor.
        weights: parameters by name.
        data: batches.

    Returns:
        Name -> sensitivity, shape and dtype of the weight.

    Raises:
        ValueError: the outputs are no tensor, not finite, or do not depend on a weight.
    """
    sums, count = _zeros(weights), 0
    with untouched(model):
        for batch in read(data, device=device_of(model), labelled=False):
            for sample in single(batch):
                count += 1
                outputs = call(model, sample.inputs)
                _check_tensor(outputs, "the model's output")
                gradients = _gradients(outputs.sum(), weights)
                _add_(sums, {name: gradient.abs() for name, gradient in gradients.items()}, factor=1)
    return _mean(sums, count, weights)


def _batches(model: nn.Module, data: Iterable[Any]) -> Iterator[Batch]:
    return read(data, device=device_of(model), labelled=True)


def _loss(model: nn.Module, batch: Batch, loss_fn: Loss) -> Tensor:
    return checked_loss(loss_fn(call(model, batch.inputs), batch.targets))


def checked_loss(loss: Tensor) -> Tensor:
    """Return the loss as a tensor without axes.

    Raises:
        TypeError: it is no tensor.
        ValueError: it is no scalar, or not finite.
    """
    _check_tensor(loss, "the loss")
    if loss.numel() != 1:
        raise ValueError(f"the loss must be a scalar, got shape {tuple(loss.shape)}; take its mean over the batch")
    if not bool(loss.isfinite()):
        raise ValueError(f"the loss is {float(loss.detach())}; check the data for NaN and the model for overflow")
    return loss.reshape(())


def _check_tensor(value: Any, what: str) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{what} must be a tensor, got {type(value).__name__}; let loss_fn pick it out of the outputs")


def _gradients(loss: Tensor, weights: Mapping[str, Tensor], *, again: bool = False) -> Tensors:
    if not loss.requires_grad:
        raise ValueError("the loss does not depend on any weight; does the model run under no_grad, or detach?")
    found = torch.autograd.grad(loss, list(weights.values()), create_graph=again, allow_unused=True)
    unused = [name for name, gradient in zip(weights, found, strict=True) if gradient is None]
    if unused:
        raise ValueError(
            f"the loss does not depend on {', '.join(unused)}, so a score from gradients is not defined there; "
            "exclude it, or take a criterion without data"
        )
    return {name: gradient for name, gradient in zip(weights, found, strict=True) if gradient is not None}


def _second(inner: Tensor, weights: Mapping[str, Tensor]) -> Tensors:
    """Second derivatives; a weight on which the gradient does not depend has a row of zeros."""
    if not inner.requires_grad:
        return _zeros(weights)
    found = torch.autograd.grad(inner, list(weights.values()), allow_unused=True)
    pairs = zip(weights.items(), found, strict=True)
    return {name: torch.zeros_like(weight) if part is None else part for (name, weight), part in pairs}


def _zeros(weights: Mapping[str, Tensor]) -> Tensors:
    # Half precision overflows, and stops to grow where a part is small beside the sum.
    return {name: torch.zeros_like(wide(weight)) for name, weight in weights.items()}


def _mean(sums: Tensors, count: int, weights: Mapping[str, Tensor]) -> Tensors:
    return {name: (total / count).to(weights[name].dtype) for name, total in sums.items()}


def _add_(sums: Tensors, parts: Mapping[str, Tensor], *, factor: int) -> None:
    for name, part in parts.items():
        sums[name].add_(part.detach(), alpha=factor)
