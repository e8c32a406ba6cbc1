"""The diagonal of the Hessian, by random signs: on the outputs of layers where that can be, else on the weights."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import counts
from gossamer.criteria.inputs import wide
from gossamer.statistics.batches import Batch, call, device_of, read, single, size
from gossamer.statistics.gradients import Loss, Tensors, checked_loss, hessian_product
from gossamer.statistics.inputs import given, unfolded
from gossamer.statistics.untouched import untouched

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
# Products of one sample that are held at once.
_ENTRIES = 4_000_000


def hessian_diagonal(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    data: Iterable[Any],
    loss_fn: Loss,
    *,
    generator: torch.Generator,
    num_probes: int = 128,
) -> Tensors:
    """Estimate the diagonal of the Hessian of the mean loss by random signs v: the mean of v * (H v).

    A linear layer or convolution is linear in its weight, so with its inputs x, its outputs z = W x and the Hessian H
    of the loss of one sample by z,

    d^2 L / dw_ij^2 = x_j^T H_ii x_j,

    summed over positions and then over samples. Signs on the outputs of each sample estimate that with the inputs as
    they are: what a weight shares with those beside it in its row makes no noise. Where a weight is used otherwise, the
    signs are on the weights.

    Args:
        model: measured in evaluation mode, left as it is; the first axis is that of samples, which do not mix.
        weights: parameters by name.
        data: labelled batches.
        loss_fn: (outputs, targets) -> scalar, the mean over the samples of a batch.
        generator: source of the signs, on the CPU.
        num_probes: draws; the error falls with its root.

    Returns:
        Name -> estimate, shape and dtype of the weight; without bias, and may be negative.

    Raises:
        ValueError: no probe, the loss is no finite scalar, or does not depend on a weight.

    Source:
        Bekas, Kokiopoulou, Saad. An estimator for the diagonal of a matrix. Applied Numerical Mathematics 57, 2007.
        Differs: probes of the outputs of layers.

    Cost: for each probe a pass backward through the backward pass.
    """
    counts.check_positive(num_probes, name="num_probes")
    found = {
        name: part.to(weights[name].dtype).expand_as(weights[name].flatten(1)).reshape(weights[name].shape)
        for name, part in _by_outputs(model, weights, data, loss_fn, generator, num_probes).items()
    }
    rest = {name: weight for name, weight in weights.items() if name not in found}
    if rest:
        found |= _by_weights(model, rest, data, loss_fn, generator, num_probes)
    return {name: found[name] for name in weights}


def _by_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    data: Iterable[Any],
    loss_fn: Loss,
    generator: torch.Generator,
    num_probes: int,
) -> Tensors:
    sums = {name: torch.zeros_like(wide(weight)) for name, weight in weights.items()}
    for _ in range(num_probes):
        signs = {name: _signs(weight, generator) for name, weight in weights.items()}
        products = hessian_product(model, weights, data, loss_fn, signs)
        for name, total in sums.items():
            total += signs[name] * products[name]
    return {name: (total / num_probes).to(weights[name].dtype) for name, total in sums.items()}


def _by_outputs(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    data: Iterable[Any],
    loss_fn: Loss,
    generator: torch.Generator,
    num_probes: int,
) -> Tensors:
    """The weights that layers alone use; others are left out."""
    modules = _layers_of(model, weights)
    sums: Tensors = {}
    count = 0
    with untouched(model):
        for batch in read(data, device=device_of(model), labelled=True):
            if not modules:
                return {}
            if not count:
                modules = _with_samples_first(model, modules, batch)
            count += size(batch)
            with _tapped(modules) as taps:
                loss = checked_loss(loss_fn(call(model, batch.inputs), batch.targets))
            modules = {name: modules[name] for name in _sound(taps, loss, weights, batch)}
            parts = _probe({name: taps[name] for name in modules}, loss, generator, num_probes)
            sums = {name: size(batch) * part + sums.get(name, 0.0) for name, part in parts.items()}
    return {name: total / count for name, total in sums.items() if name in modules}


def _layers_of(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, nn.Module]:
    """The layer of each weight that has exactly one, of a kind that multiplies and does no more."""
    holders: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), []).append(module)
    found = {name: holders.get(id(weight), []) for name, weight in weights.items()}
    return {
        name: modules[0]
        for name, modules in found.items()
        if len(modules) == 1 and type(modules[0]) in _LAYERS and getattr(modules[0], "groups", 1) == 1
    }


def _with_samples_first(model: nn.Module, modules: dict[str, nn.Module], batch: Batch) -> dict[str, nn.Module]:
    """The layers whose outputs have the samples as their first axis: of one sample it is 1."""
    with _tapped(modules) as taps:
        call(model, next(single(batch)).inputs)
    return {name: modules[name] for name, tap in taps.items() if all(len(zero) == 1 for zero in tap.zeros)}


@dataclass
class _Tap:
    """What went into a layer, and zeros that were added to what came out, by which the loss is derived."""

    module: nn.Module
    inputs: list[Tensor] = field(default_factory=list)
    zeros: list[Tensor] = field(default_factory=list)

    def __call__(self, module: nn.Module, args: Any, keywords: dict[str, Any], output: Tensor) -> Tensor:
        zero = torch.zeros_like(output, requires_grad=True)
        self.inputs.append(given(args, keywords).detach())
        self.zeros.append(zero)
        return output + zero


@contextmanager
def _tapped(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, _Tap]]:
    taps = {name: _Tap(module) for name, module in modules.items()}
    handles = [module.register_forward_hook(taps[name], with_kwargs=True) for name, module in modules.items()]
    try:
        yield taps
    finally:
        for handle in handles:
            handle.remove()


def _sound(taps: Mapping[str, _Tap], loss: Tensor, weights: Mapping[str, Tensor], batch: Batch) -> list[str]:
    """The weights of layers called once whose gradient is what inputs and outputs say: nothing else uses them."""
    samples = size(batch)
    # What a second call is given may depend on the first, and then it is not linear in the weight.
    once = [name for name, tap in taps.items() if len(tap.zeros) == 1 and len(tap.zeros[0]) == samples]
    sound = []
    for name in once:
        tap, asked = taps[name], (taps[name].zeros[0], weights[name])
        found: tuple[Tensor | None, ...] = torch.autograd.grad(loss, asked, retain_graph=True, allow_unused=True)
        arriving, gradient = found
        if arriving is None or gradient is None:
            continue
        told = _product(_rows(tap.module, arriving, samples), _columns(tap.module, tap.inputs[0], samples)).sum(0)
        # Rounding, and no more: a small penalty on the weights in the loss has curvature of its own.
        tolerance = min(0.05, 100 * torch.finfo(gradient.dtype).eps) * float(gradient.abs().max())
        if torch.allclose(told.view_as(gradient), gradient, rtol=0.0, atol=tolerance):
            sound.append(name)
    return sound


def _probe(taps: Mapping[str, _Tap], loss: Tensor, generator: torch.Generator, num_probes: int) -> Tensors:
    """The estimate for one batch, of the mean loss of its samples: [out, in] for each weight."""
    if not taps:
        return {}
    zeros = [tap.zeros[0] for tap in taps.values()]
    gradients = torch.autograd.grad(loss, zeros, create_graph=True)
    columns = {name: _columns(tap.module, tap.inputs[0], len(zeros[0])) for name, tap in taps.items()}
    sums = {name: torch.zeros((), dtype=torch.float64, device=loss.device) for name in taps}
    # Where the loss has no curvature a gradient is a constant.
    curved = [place for place, gradient in enumerate(gradients) if gradient.requires_grad]
    for _ in range(num_probes if curved else 0):
        signs = [_signs(zero, generator) for zero in zeros]
        products = torch.autograd.grad(
            [gradients[place] for place in curved],
            zeros,
            [signs[place] for place in curved],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        for (name, tap), sign, product in zip(taps.items(), signs, products, strict=True):
            sums[name] = sums[name] + _squares(tap.module, sign, product, columns[name])
    return {name: total / num_probes for name, total in sums.items()}


def _squares(module: nn.Module, sign: Tensor, product: Tensor, columns: Tensor) -> Tensor:
    """The sum over samples of (v x) * (H v x), [out, in]."""
    signs, products = _rows(module, sign, len(columns)), _rows(module, product, len(columns))
    if columns.shape[1] == 1:
        return ((signs * products)[:, 0].T @ columns[:, 0].square()).double()
    shape = signs.shape[2], columns.shape[2]
    total = torch.zeros(shape, dtype=torch.float64, device=columns.device)
    for part in torch.arange(len(columns)).split(max(1, _ENTRIES // (shape[0] * shape[1]))):
        inputs = columns[part]
        total += (_product(signs[part], inputs) * _product(products[part], inputs)).sum(0)
    return total


def _product(rows: Tensor, columns: Tensor) -> Tensor:
    """[samples, positions, out] and [samples, positions, in] to [samples, out, in]."""
    return rows.mT @ columns


def _rows(module: nn.Module, output: Tensor, samples: int) -> Tensor:
    """Outputs of a layer as [samples, positions, out]."""
    last = output if isinstance(module, nn.Linear) else output.movedim(1, -1)
    rows: Tensor = last.reshape(samples, -1, last.shape[-1])
    return rows


def _columns(module: nn.Module, inputs: Tensor, samples: int) -> Tensor:
    """Unfolded inputs of a layer as [samples, positions, in]."""
    rows = unfolded(module, inputs)
    return rows.reshape(samples, -1, rows.shape[1])


def _signs(tensor: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randint(0, 2, tensor.shape, generator=generator, device="cpu")
    return (2 * drawn - 1).to(tensor)
