"""A network of the user's own: `--model package.module:function`."""

import importlib
import inspect
import re
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gossamer.data import Dataset

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*$")


def own_model(name: str, dataset: Dataset) -> nn.Module:
    """Call the user's function and check that what it returns fits the data.

    Args:
        name: package.module:function, a function of (num_features, num_classes).
        dataset: what the model is for.

    Raises:
        TypeError: the function returned no module.
        ValueError: no such function, it failed, or its module does not map [batch, num_features] to
            [batch, num_classes].
    """
    if not _NAME.match(name) or name.startswith("mlp:"):
        raise ValueError(
            f"unknown model {name!r}; give mlp:1000x3, mlp:300-100 or package.module:function, "
            "a function of (num_features, num_classes)"
        )
    model = _called(name, _find(*name.split(":")), (dataset.num_features, dataset.num_classes))
    _check_output(name, model, dataset)
    return model


def own_architecture(name: str, dataset: Dataset | None) -> nn.Module:
    """Call the user's function for a model that a checkpoint fills.

    Args:
        name: package.module:function, a function of nothing, or of (num_features, num_classes) of the data.
        dataset: what the model is for, if it is known.

    Raises:
        TypeError: the function returned no module.
        ValueError: no such function, it failed, or it asks for the sizes of data that was not given.
    """
    if not _NAME.match(name) or name.startswith("mlp:"):
        raise ValueError(f"unknown model {name!r}; give package.module:function, or mlp:1000x3 with --data")
    function = _find(*name.split(":"))
    required = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    if required and dataset is None:
        names = ", ".join(parameter.name for parameter in required)
        raise ValueError(f"{name} asks for ({names}); give --data, or a function of no arguments")
    sizes = (dataset.num_features, dataset.num_classes) if required and dataset is not None else ()
    return _called(name, function, sizes)


def _called(name: str, function: Callable[..., object], sizes: tuple[int, ...]) -> nn.Module:
    try:
        model = function(*sizes)
    except Exception as error:
        raise ValueError(f"{name}({', '.join(map(str, sizes))}) failed: {reason(error)}") from error
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name} returned {type(model).__name__}; it must return a torch.nn.Module")
    return model


def reason(error: Exception) -> str:
    """Say in one line what went wrong in the user's code, and how to see where."""
    text = " ".join(" ".join([str(error)[:300], *getattr(error, "__notes__", [])]).split())
    return f"{type(error).__name__}: {text}; GOSSAMER_TRACEBACK=1 shows where"


def _find(path: str, name: str) -> Callable[..., object]:
    # As `python -m` does: a module in the folder where the command is given can be named.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        hint = "leave out the .py" if path.endswith(".py") else "run from the folder it is in, or install it"
        raise ValueError(f"cannot import {path!r} ({error}); {hint}") from error
    except Exception as error:
        raise ValueError(f"cannot import {path!r}, {reason(error)}") from error
    if not callable(function := getattr(module, name, None)):
        raise ValueError(f"{path!r} has no function {name!r}; check the name after the colon")
    found: Callable[..., object] = function
    return found


def _check_output(name: str, model: nn.Module, dataset: Dataset) -> None:
    inputs = dataset.train_inputs[:2]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs = model(inputs)
    except Exception as error:
        raise ValueError(f"{name} fails on inputs of shape {tuple(inputs.shape)}, {reason(error)}") from error
    model.train(was_training)
    wanted = (len(inputs), dataset.num_classes)
    found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if found != wanted:
        raise ValueError(
            f"{name} makes of inputs of shape {tuple(inputs.shape)} outputs of shape {found}; it must be {wanted}: "
            "one row a sample, one score a class"
        )
