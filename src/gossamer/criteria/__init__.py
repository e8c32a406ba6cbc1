"""Rules that score weights, one a file: pure functions of tensors, larger = keep."""

from gossamer.criteria.magnitude import magnitude

__all__ = ["magnitude"]
