"""nn.Sequential that runs sparse linear layers and the activations between them as one function."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from gossamer.kernels.activation import Activation
from gossamer.kernels.chain import Link, RuleOf, all_places, chain, fits
from gossamer.kernels.eager import is_plain
from gossamer.nn.activation import draw_seed
from gossamer.nn.all_relu import AllReLU
from gossamer.nn.dropout import Dropout
from gossamer.nn.relu import ReLU
from gossamer.nn.sparse_linear import SparseLinear
from gossamer.nn.update_in_backward import is_asked_for, rule_of

# Outputs, and weights, up to which a dense layer runs with the sparse ones before it: a classifier's last.
_FEW, _FEW_WEIGHTS = 16, 1 << 16


class Sequential(nn.Sequential):
    """Run modules one after the other, as `torch.nn.Sequential`, but faster where truly sparse layers follow.

    A `SparseLinear` with the activation and dropout behind it (torch's ReLU, or ReLU, AllReLU and Dropout of this
    package), and all such that follow, make one step of autograd, in which a ReLU costs nothing. Results have the same
    bits; but where an `nn.Linear` of at most 16 outputs and 65,536 weights follows, it joins, and its sums are added in
    another order than torch's. A hook on one of these modules, autocast, a compiler or a transform of functions sees
    them one by one.

    Input: what the first module takes. Output: what the last one returns. It is made of modules, or of one OrderedDict
    of them, as torch's.

    Example:
        >>> make = lambda i, o: SparseLinear(i, o, sparsity=0.9, generator=torch.Generator())
        >>> Sequential(make(20, 30), nn.ReLU(), make(30, 10), nn.ReLU())(torch.zeros(4, 20)).shape
        torch.Size([4, 10])
    """

    def forward(self, input: Any) -> Any:  # noqa: A002
        """Apply the modules in turn."""
        modules = list(self._modules.values())
        place = 0
        while place < len(modules):
            end, links = _run(modules, place, input)
            if links and fits(input, links):
                seeded = [Link(*link[:3], _seeded(link.activation)) for link in links]
                input = chain(input, seeded, _updates(links) if self.training else None)  # noqa: A001
                place = end
            else:
                input = modules[place](input)  # noqa: A001
                place += 1
        return input


def _run(modules: Sequence[nn.Module | None], place: int, inputs: Any) -> tuple[int, list[Link]]:
    """Return where the run of sparse layers from `place` on ends, and its links; none where it does not pay."""
    links: list[Link] = []
    start = place
    if type(modules[place]) is not SparseLinear or not _is_plain_batch(inputs):
        return place, links
    while place < len(modules) and (link := _link(modules[place])) is not None:
        place += 1
        slope = dropout = None
        while place < len(modules) and dropout is None and (found := _activation(modules[place])) is not None:
            if found[0] is not None and slope is not None:
                break
            slope, dropout = found[0] if slope is None else slope, found[1] or None
            place += 1
        if slope is not None or dropout is not None:
            what = Activation(slope=1.0 if slope is None else slope, probability=dropout or 0.0, seed=0)
            link = Link(link.values, link.bias, link.places, what)
        links.append(link)
    return place, links if place - start > 1 else []


def _link(module: nn.Module | None) -> Link | None:
    """A linear map that can be part of a run, no activation behind it yet."""
    kind = type(module)
    if module is None or kind not in (SparseLinear, nn.Linear) or _is_heard(module):
        return None
    if isinstance(module, SparseLinear):
        return module.link(None)
    held: Any = module.__dict__["_parameters"]
    outputs, features = module.__dict__["out_features"], module.__dict__["in_features"]
    weight = held.get("weight")
    if outputs > _FEW or outputs * features > _FEW_WEIGHTS or weight is None or weight.shape != (outputs, features):
        return None
    return Link(weight, held["bias"], all_places(outputs, features), None)


def _activation(module: nn.Module | None) -> tuple[float | None, float] | None:
    """The slope that a module gives negative numbers, or None, and its dropout; None where it is no activation."""
    if module is None or _is_heard(module):
        return None
    kind = type(module)
    if kind is nn.ReLU:
        return 0.0, 0.0
    if isinstance(module, ReLU | AllReLU) and kind in (ReLU, AllReLU):
        return module.slope, module.dropout if module.training else 0.0
    if isinstance(module, Dropout) and kind is Dropout:
        return None, module.p if module.training else 0.0
    return None


def _updates(links: Sequence[Link]) -> RuleOf | None:
    """What updates parameters as their gradients come, if that is asked for and each is here once."""
    if not is_asked_for():
        return None
    parameters = [id(part) for link in links for part in link[:2] if part is not None]
    return rule_of if len(set(parameters)) == len(parameters) else None


def _seeded(what: Activation | None) -> Activation | None:
    """With a seed drawn, in the order in which the modules would draw theirs."""
    return what._replace(seed=draw_seed()) if what is not None and what.probability else what


def _is_heard(module: nn.Module) -> bool:
    """Whether a hook wants to hear of a module's calls; one that says it is idle does not."""
    if module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        return True
    hooks = module._forward_hooks
    return bool(hooks) and any(
        not getattr(getattr(hook, "__self__", None), "is_idle", False) for hook in hooks.values()
    )


def _is_plain_batch(inputs: Any) -> bool:
    return (
        isinstance(inputs, Tensor)
        and inputs.dim() == 2
        and is_plain(inputs)
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
        and not torch_module._has_any_global_hook()
    )
