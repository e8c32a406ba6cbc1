"""Retraining: surviving weights with the values of an earlier step, or, as a control, with new ones."""

from gossamer.rewinding.controls import reinitialize_, shuffle_masks_
from gossamer.rewinding.rewind import rewind_, snapshot

__all__ = ["reinitialize_", "rewind_", "shuffle_masks_", "snapshot"]
