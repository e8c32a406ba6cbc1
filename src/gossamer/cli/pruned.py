"""What a pruning left: how it is stored, what it costs and reaches, as fields and as a table."""

import glob
import math
from collections import Counter
from pathlib import Path
from typing import Any

from torch import nn

from gossamer import data, statistics, training
from gossamer.cli.tables import counted, say, show_table, size_text
from gossamer.counts import sparsity_of
from gossamer.nn import to_dense, to_sparse
from gossamer.nn.counterparts import can_be_sparse, parts
from gossamer.weights import numel, prunable


def store(model: nn.Module) -> nn.Module:
    """Return a model with layers truly sparse where that is smaller; the others stay dense, zeros and all."""
    owners = Counter(id(one) for module in model.modules() for one in module._parameters.values() if one is not None)
    layers = {name: layer for name, layer in model.named_modules() if can_be_sparse(layer)}
    whole = [
        name
        for name, layer in layers.items()
        if _sparse_bytes(layer) >= sum(layer.get_parameter(own).nbytes for own in parts(layer))
        # What others share cannot be replaced.
        or any(owners[id(one)] > 1 for one in layer.parameters())
    ]
    return to_sparse(model, exclude=[glob.escape(name) for name in whole]) if len(whole) < len(layers) else model


def _sparse_bytes(layer: nn.Module) -> int:
    """Values, their columns, row pointers and, of linear layers, column pointers: 32 bits an index."""
    total = 0
    for own in parts(layer):
        weight = layer.get_parameter(own)
        pointers = len(weight) + 1 + (weight.shape[1] + 1 if weight.dim() == 2 else 0)
        total += int(weight.count_nonzero()) * (weight.element_size() + 4) + 4 * pointers
    return total


def describe_pruned(
    trained: nn.Module, small: nn.Module, stored: nn.Module, dataset: data.Dataset | None
) -> dict[str, Any]:
    """Return sizes and counts, whole and of each layer, and with data what is right before and after the cut.

    Args:
        trained: the model before.
        small: pruned, zeros and all.
        stored: the same from `store`.
        dataset: whose test rows are looked at.
    """
    after = dict(stored.named_modules())
    sparse = {
        f"{name}.{own}".lstrip(".")
        for name, layer in small.named_modules()
        if can_be_sparse(layer) and type(after[name]) is not type(layer)
        for own in parts(layer)
    }
    layers: list[dict[str, Any]] = []
    for weight in prunable(small, embeddings=True, frozen=True):
        active = int(weight.values().count_nonzero())
        layers.append(
            {
                "name": weight.name,
                "shape": list(weight.shape),
                "num_active": active,
                "sparsity": sparsity_of(active, numel(weight)),
                "stored": "truly sparse" if weight.name in sparse or weight.name.endswith("values") else "dense",
            }
        )
    active, total = sum(layer["num_active"] for layer in layers), sum(math.prod(layer["shape"]) for layer in layers)
    fields: dict[str, Any] = {"layers": layers, "sparsity": sparsity_of(active, total)}
    fields |= {"dense_bytes": _bytes(to_dense(trained)), "bytes": _bytes(stored)}
    if dataset is not None:
        fields["num_on_a_path"] = _on_a_path(small, dataset)
        fields["accuracy_before"] = training.evaluate(trained, dataset)[1]
        fields["accuracy_after"] = training.evaluate(stored, dataset)[1]
    return fields


def _on_a_path(model: nn.Module, dataset: data.Dataset) -> int | None:
    """How many weights lead from input to output; None where the model's outputs are no single tensor."""
    dense = to_dense(model)
    weights = {weight.name: weight.parameter for weight in prunable(dense, embeddings=True, frozen=True)}
    try:
        return sum(statistics.on_a_path(dense, weights, example=dataset.train_inputs[:1]).values())
    except ValueError:
        return None


def _bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def show_pruned(fields: dict[str, Any], title: str, *, written: Path | None) -> None:
    """Print what `describe_pruned` returned.

    Args:
        fields: with those of a fine-tuning, if there was one.
        title: above the table.
        written: the file; None: a dry run.
    """
    layers = fields["layers"]
    say(f"{title}: {100 * fields['sparsity']:.1f} % of the weights go")
    columns = {
        "shape": [" x ".join(map(str, layer["shape"])) for layer in layers],
        "kept": [f"{layer['num_active']:,}" for layer in layers],
        "sparsity": [f"{100 * layer['sparsity']:.2f} %" for layer in layers],
        "stored": [layer["stored"] for layer in layers],
    }
    show_table("weight", [layer["name"] for layer in layers], columns, words=["stored"])
    if "accuracy_before" in fields:
        say(_accuracies(fields))
        kept, useful = sum(layer["num_active"] for layer in layers), fields["num_on_a_path"]
        if useful is not None and useful < kept:
            say(f"{kept - useful:,} of the {kept:,} weights that stay lie on no path from input to output")
    small, dense = fields["bytes"], fields["dense_bytes"]
    if small < dense:
        say(f"the model takes {size_text(small)}, {dense / small:.1f} times less than the dense {size_text(dense)}")
    else:
        say(f"the model is not smaller than the dense {size_text(dense)}: too few weights go")
    if whole := [layer["name"] for layer in layers if layer["stored"] == "dense" and layer["sparsity"] > 0]:
        say(f"dense with zeros, so neither smaller nor faster: {', '.join(whole)}")
    if written is not None:
        say(f"model  {written}")
        return
    left_out = (
        f"{counted(fields['finetune']['epochs'], 'epoch')} of fine-tuning not run, " if "finetune" in fields else ""
    )
    say(f"{left_out}nothing was written (--dry-run)")


def _accuracies(fields: dict[str, Any]) -> str:
    text = f"accuracy {100 * fields['accuracy_before']:.1f} % before, {100 * fields['accuracy_after']:.1f} % after"
    if "accuracy_finetuned" not in fields:
        return text
    passes = counted(fields["finetune"]["epochs"], "epoch")
    return f"{text} the cut, {100 * fields['accuracy_finetuned']:.1f} % after {passes} of fine-tuning"
