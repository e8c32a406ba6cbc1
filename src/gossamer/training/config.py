"""Everything needed to repeat a run, as one record and as a config.toml."""

import json
import math
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gossamer import atomic, counts

STORAGES = ("auto", "masked", "sparse")
OPTIMIZERS = ("sgd", "adamw")
DECAYS = ("none", "cosine")
# What a 32-bit number can hold.
_LARGEST = 3.4e38


@dataclass(frozen=True, kw_only=True)
class Config:
    """How one network is trained.

    Attributes:
        method: name of a row of `gossamer methods`.
        data: digits, fashion-mnist, mnist, or the path of a .npz or .csv file.
        data_dir: folder of the IDX files; empty: $GOSSAMER_DATA, else downloaded.
        model: mlp:WIDTHxDEPTH, mlp:WIDTH-WIDTH-..., or package.module:function.
        sparsity: fraction of the weights that do not exist (in the end), in [0, 1); ignored by dense.
        epsilon: connections for each neuron on either side, instead of sparsity; 0: use sparsity.
        storage: masked, sparse, or auto: the method's own.
        epochs: passes over the training data.
        batch_size: samples of an optimizer step.
        optimizer: sgd or adamw.
        learning_rate: > 0.
        decay: none, or cosine: the learning rate falls to zero.
        momentum: of SGD, in [0, 1).
        weight_decay: >= 0.
        dropout: probability that a hidden value is zeroed in training, in [0, 1); for mlp models.
        alpha: slope of All-ReLU for methods that use it, finite.
        drop_fraction: fraction of the active weights exchanged at an update, in [0, 1].
        update_every: steps between two updates; 0: the method's own.
        update_until: fraction of the training after which the topology stays, in [0, 1]; 0: the method's own.
        seed: of first values, topologies, order of the data and dropout, in [0, 2^32).
        train_size, test_size: use the first rows only; 0: all.
    """

    method: str
    data: str = "digits"
    data_dir: str = ""
    model: str = "mlp:1000x3"
    sparsity: float = 0.95
    epsilon: float = 0.0
    storage: str = "auto"
    epochs: int = 40
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.05
    decay: str = "none"
    momentum: float = 0.9
    weight_decay: float = 2e-4
    dropout: float = 0.0
    alpha: float = 0.6
    drop_fraction: float = 0.3
    update_every: int = 0
    update_until: float = 0.0
    seed: int = 0
    train_size: int = 0
    test_size: int = 0

    def __post_init__(self) -> None:
        """Check each value by itself.

        Raises:
            ValueError: a value is out of range; the error names it.
        """
        counts.check_sparsity(self.sparsity)
        for name in ("drop_fraction", "update_until"):
            counts.check_fraction(getattr(self, name), name=name)
        for name in ("epochs", "batch_size"):
            _check_range(name, counts.check_positive(getattr(self, name), name=name), 1, 2**31)
        for name in ("epsilon", "update_every", "train_size", "test_size"):
            _check_range(name, getattr(self, name), 0.0, math.inf)
        _check_range("weight_decay", self.weight_decay, 0.0, _LARGEST)
        # Seeds of the epochs are made of it, and must fit 64 bits.
        _check_range("seed", self.seed, 0, 2**32)
        for name in ("momentum", "dropout"):
            _check_range(name, getattr(self, name), 0.0, 1.0)
        _check_range("alpha", self.alpha, -_LARGEST, _LARGEST)
        if not 0.0 < self.learning_rate < _LARGEST:
            raise ValueError(f"learning_rate must lie in (0, {_LARGEST:g}), got {self.learning_rate}")
        for name, allowed in (("storage", STORAGES), ("optimizer", OPTIMIZERS), ("decay", DECAYS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")


def write_config(path: Path, config: Config, *, command: str) -> None:
    """Write a configuration and the command that repeats it.

    Args:
        path: of the config.toml.
        config: what to write.
        command: one line for a shell.
    """
    # A JSON text is a TOML text too, unless letters beyond the first 65,536 are escaped, or DEL is not.
    values = {"command": command, **asdict(config)}
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items()]
    text = "".join(lines).replace("\x7f", "\\u007f")
    atomic.write(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def read_config(path: Path) -> Config:
    """Read a configuration.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no TOML, or it has an unknown key, lacks the method, or has a value of the wrong type or out
            of range.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no UTF-8, or no TOML
        raise ValueError(f"{path} is no TOML: {error}; repair or delete it") from error
    table.pop("command", None)
    known: dict[str, object] = {field.name: field.type for field in fields(Config)}
    if unknown := sorted(table.keys() - known):
        raise ValueError(f"{path} has unknown keys {', '.join(unknown)}; allowed are {', '.join(sorted(known))}")
    if "method" not in table:
        raise ValueError(f'{path} has no method; add a line such as method = "set"')
    for name, value in table.items():
        # Not isinstance: TOML's true is no number.
        allowed: dict[object, str] = {str: "a text", int: "an integer", float: "a number"}
        if type(value) is not known[name] and (type(value), known[name]) != (int, float):
            raise ValueError(f"{path}: {name} is {value!r}; it must be {allowed[known[name]]}")
    try:
        return Config(**table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def differences(config: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Return (value, other value) for each field in which two configurations differ."""
    mine, theirs = asdict(config), asdict(other)
    return {name: (value, theirs[name]) for name, value in mine.items() if value != theirs[name]}


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value < high:
        limits = f"be a finite number, {low:g} or more" if high == math.inf else f"lie in [{low:g}, {high:.10g})"
        raise ValueError(f"{name} must {limits}, got {value}")
