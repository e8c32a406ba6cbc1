"""Published methods, one a file: a recipe wires criteria, growth, schedules and budgets into a sparsifier."""

from gossamer.recipes.ac_dc import ac_dc
from gossamer.recipes.dns import dns
from gossamer.recipes.dpf import dpf
from gossamer.recipes.dsd import dsd
from gossamer.recipes.early_bird import EarlyBird
from gossamer.recipes.edge_popup import edge_popup_
from gossamer.recipes.gmp import gmp
from gossamer.recipes.hold import hold
from gossamer.recipes.iht import iht
from gossamer.recipes.learned_masks import finish_
from gossamer.recipes.lottery import Ticket, lottery_tickets
from gossamer.recipes.lottery_controls import reinitialized_ticket, shuffled_ticket
from gossamer.recipes.nest import nest
from gossamer.recipes.rigl import rigl
from gossamer.recipes.set_ import set_
from gossamer.recipes.signed_constant import signed_constant_
from gossamer.recipes.static import static
from gossamer.recipes.supermask import supermask_
from gossamer.recipes.thinning import thin_layers, thin_model
from gossamer.recipes.truly_sparse import truly_sparse

__all__ = [
    "EarlyBird",
    "Ticket",
    "ac_dc",
    "dns",
    "dpf",
    "dsd",
    "edge_popup_",
    "finish_",
    "gmp",
    "hold",
    "iht",
    "lottery_tickets",
    "nest",
    "reinitialized_ticket",
    "rigl",
    "set_",
    "shuffled_ticket",
    "signed_constant_",
    "static",
    "supermask_",
    "thin_layers",
    "thin_model",
    "truly_sparse",
]
