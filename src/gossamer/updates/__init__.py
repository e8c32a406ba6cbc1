"""Rules that change topologies while training, one a file: exchange, shrink, remove neurons."""

from gossamer.updates.change import Change, Update
from gossamer.updates.exchange import Exchange, by_sign
from gossamer.updates.remove_neurons import RemoveNeurons
from gossamer.updates.shrink import Shrink

__all__ = ["Change", "Exchange", "RemoveNeurons", "Shrink", "Update", "by_sign"]
