"""Rules that change topologies while training, one a file: alternate, exchange, reselect, shrink and others."""

from gossamer.updates.alternate import Alternate
from gossamer.updates.change import Change, Update
from gossamer.updates.exchange import Exchange, by_sign
from gossamer.updates.grow_neurons import GrowNeurons
from gossamer.updates.grow_weights import GrowWeights
from gossamer.updates.remove_dead_neurons import RemoveDeadNeurons
from gossamer.updates.remove_neurons import RemoveNeurons
from gossamer.updates.reselect import Reselect
from gossamer.updates.shrink import Shrink
from gossamer.updates.shrink_to import ShrinkTo
from gossamer.updates.surgery import Surgery

__all__ = [
    "Alternate",
    "Change",
    "Exchange",
    "GrowNeurons",
    "GrowWeights",
    "RemoveDeadNeurons",
    "RemoveNeurons",
    "Reselect",
    "Shrink",
    "ShrinkTo",
    "Surgery",
    "Update",
    "by_sign",
]
