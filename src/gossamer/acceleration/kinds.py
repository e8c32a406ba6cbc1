"""The kinds of layers that have more than one storage: a row enrols another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from gossamer import formats
from gossamer.nn import SparseConv1d, SparseConv2d, SparseLinear


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A layer that can be dense or truly sparse, and all that can hold it.

    Attributes:
        dense: its dense class; layers of exactly this class with zeros in their `weight` have candidates.
        sparse: its truly sparse class, with `from_dense`, `to_dense`, `topology`, `sparsity`, `values` and `bias`.
        formats: name -> what makes of the truly sparse layer another that computes the same, or None. The storages
            that the two classes are themselves have the names dense and csr.
    """

    dense: type[nn.Module]
    sparse: Any
    formats: Mapping[str, formats.Hold]


# A kind of layer needs a row here and nothing else; formats that suit every kind are `formats.ANY`.
KINDS = (
    Kind(dense=nn.Linear, sparse=SparseLinear, formats=formats.LINEAR),
    Kind(dense=nn.Conv2d, sparse=SparseConv2d, formats=formats.ANY),
    Kind(dense=nn.Conv1d, sparse=SparseConv1d, formats=formats.ANY),
)


def kind_of(layer: nn.Module) -> Kind | None:
    """Return the kind of a layer, None if it has none; subclasses may compute something else and have none."""
    for kind in KINDS:
        if type(layer) in (kind.dense, kind.sparse):
            return kind
    return None
