"""The shapes that a mask may take, one a file: which counts it can have, and the best mask of a count."""

from gossamer.patterns.block import block
from gossamer.patterns.column import column
from gossamer.patterns.constant_fan_in import constant_fan_in
from gossamer.patterns.filters import filters
from gossamer.patterns.kernels import kernels
from gossamer.patterns.nm import nm
from gossamer.patterns.pattern import Pattern
from gossamer.patterns.row import row
from gossamer.patterns.unstructured import unstructured

__all__ = ["Pattern", "block", "column", "constant_fan_in", "filters", "kernels", "nm", "row", "unstructured"]
