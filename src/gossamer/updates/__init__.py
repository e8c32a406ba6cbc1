"""Rules that change topologies while training, one a file: alternate, exchange, reselect, shrink and others."""

from gossamer.updates.alternate import Alternate
from gossamer.updates.change import Change, Update
from gossamer.updates.exchange import Exchange, by_sign
from gossamer.updates.exchange_fan_in import ExchangeFanIn
from gossamer.updates.exchange_in_groups import ExchangeInGroups
from gossamer.updates.remove_neurons import RemoveNeurons
from gossamer.updates.reselect import Reselect
from gossamer.updates.shrink import Shrink
from gossamer.updates.surgery import Surgery
from gossamer.updates.track import Track

__all__ = [
    "Alternate",
    "Change",
    "Exchange",
    "ExchangeFanIn",
    "ExchangeInGroups",
    "RemoveNeurons",
    "Reselect",
    "Shrink",
    "Surgery",
    "Track",
    "Update",
    "by_sign",
]
