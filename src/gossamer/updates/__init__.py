"""Rules that change topologies while training, one a file: alternate, exchange, redistribute, shrink and others."""

from gossamer.updates.allot import Allot, Dropped, apportion, at_random, by_largest, by_loss, by_survivors
from gossamer.updates.alternate import Alternate
from gossamer.updates.change import Change, JointUpdate, Remembers, Update
from gossamer.updates.exchange import Exchange, by_sign
from gossamer.updates.exchange_fan_in import ExchangeFanIn
from gossamer.updates.exchange_in_groups import ExchangeInGroups
from gossamer.updates.explored import Explored
from gossamer.updates.grow_first import GrowFirst
from gossamer.updates.grow_neurons import GrowNeurons
from gossamer.updates.grow_weights import GrowWeights
from gossamer.updates.momentum import Momentum
from gossamer.updates.redistribute import Redistribute
from gossamer.updates.remove_dead_neurons import RemoveDeadNeurons
from gossamer.updates.remove_neurons import RemoveNeurons
from gossamer.updates.reselect import Reselect
from gossamer.updates.rewire import Rewire
from gossamer.updates.shrink import Shrink
from gossamer.updates.shrink_to import ShrinkTo
from gossamer.updates.shrink_together import ShrinkTogether
from gossamer.updates.soft_rewire import SoftRewire
from gossamer.updates.superset import Superset
from gossamer.updates.surgery import Surgery
from gossamer.updates.survive import in_each, over_all
from gossamer.updates.threshold import Threshold
from gossamer.updates.track import Track

__all__ = [
    "Allot",
    "Alternate",
    "Change",
    "Dropped",
    "Exchange",
    "ExchangeFanIn",
    "ExchangeInGroups",
    "Explored",
    "GrowFirst",
    "GrowNeurons",
    "GrowWeights",
    "JointUpdate",
    "Momentum",
    "Redistribute",
    "Remembers",
    "RemoveDeadNeurons",
    "RemoveNeurons",
    "Reselect",
    "Rewire",
    "Shrink",
    "ShrinkTo",
    "ShrinkTogether",
    "SoftRewire",
    "Superset",
    "Surgery",
    "Threshold",
    "Track",
    "Update",
    "apportion",
    "at_random",
    "by_largest",
    "by_loss",
    "by_sign",
    "by_survivors",
    "in_each",
    "over_all",
]
