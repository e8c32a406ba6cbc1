"""Whole hidden neurons: removed so that layers become smaller, and grown."""

from gossamer.neurons.fit import fit_
from gossamer.neurons.grow import grow_, split_
from gossamer.neurons.hidden import HiddenLayer, find_hidden
from gossamer.neurons.remove import remove_, remove_dead_

__all__ = ["HiddenLayer", "find_hidden", "fit_", "grow_", "remove_", "remove_dead_", "split_"]
