"""One view of a prunable weight, masked or truly sparse: its active values, and how they and their state move."""

from gossamer.weights.intact import check_intact
from gossamer.weights.masked import MaskedWeight
from gossamer.weights.prunable import is_held, prunable
from gossamer.weights.sparse import SparseWeight
from gossamer.weights.view import Weight, num_open, numel

__all__ = ["MaskedWeight", "SparseWeight", "Weight", "check_intact", "is_held", "num_open", "numel", "prunable"]
