"""A trained model from a checkpoint file."""

import copy
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from gossamer import files

# Where other programs put the state of a model in what they save.
_KEYS = ("state_dict", "model_state_dict", "model", "module", "net")


def restore(path: str | Path, model: nn.Module) -> nn.Module:
    """Return a copy of a model with the values of a checkpoint.

    Args:
        path: a .safetensors file, or what torch.save wrote: a state_dict, or a dict that holds one under a usual name.
            Names may begin with "module." or "_orig_mod.".
        model: the architecture; it is left as it is.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds no state, or is of another model; nothing in it is executed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give a checkpoint: .pt, .pth or .safetensors")
    if path.suffix == ".safetensors":
        return files.load(path, model)
    restored = copy.deepcopy(model)
    try:
        restored.load_state_dict(_state(path))
    except RuntimeError as error:
        raise ValueError(f"{path} is of another model: {' '.join(str(error).split())[:500]}") from error
    return restored


def _state(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is no checkpoint that can be read safely ({reason}); save the state_dict") from error
    for key in _KEYS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not (isinstance(found, Mapping) and found and all(isinstance(part, Tensor) for part in found.values())):
        raise ValueError(f"{path} holds no state_dict; save model.state_dict() with torch.save")
    return {_plain(str(name)): part for name, part in found.items()}


def _plain(name: str) -> str:
    for prefix in ("module.", "_orig_mod."):
        name = name.removeprefix(prefix)
    return name
