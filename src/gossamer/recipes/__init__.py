"""Published methods, one a file: a recipe wires criteria, growth, schedules and budgets into a sparsifier."""

from gossamer.recipes.ac_dc import ac_dc
from gossamer.recipes.deep_r import deep_r
from gossamer.recipes.dns import dns
from gossamer.recipes.dnw import dnw
from gossamer.recipes.dpf import dpf
from gossamer.recipes.dropback import dropback
from gossamer.recipes.dsd import dsd
from gossamer.recipes.dsr import dsr
from gossamer.recipes.early_bird import EarlyBird
from gossamer.recipes.edge_popup import edge_popup_
from gossamer.recipes.gmp import gmp
from gossamer.recipes.granet import granet
from gossamer.recipes.gse import gse
from gossamer.recipes.hold import hold
from gossamer.recipes.iht import iht
from gossamer.recipes.itop import rigl_itop, set_itop
from gossamer.recipes.learned_masks import finish_
from gossamer.recipes.lottery import Ticket, lottery_tickets
from gossamer.recipes.lottery_controls import reinitialized_ticket, shuffled_ticket
from gossamer.recipes.mest import mest
from gossamer.recipes.nest import nest
from gossamer.recipes.nm_rigl import nm_rigl
from gossamer.recipes.rigl import rigl
from gossamer.recipes.set_ import set_
from gossamer.recipes.signed_constant import signed_constant_
from gossamer.recipes.snfs import snfs
from gossamer.recipes.soft_deep_r import soft_deep_r
from gossamer.recipes.srigl import srigl
from gossamer.recipes.static import static
from gossamer.recipes.supermask import supermask_
from gossamer.recipes.swat import swat
from gossamer.recipes.thinning import thin_layers, thin_model
from gossamer.recipes.top_kast import top_kast
from gossamer.recipes.truly_sparse import truly_sparse

__all__ = [
    "EarlyBird",
    "Ticket",
    "ac_dc",
    "deep_r",
    "dns",
    "dnw",
    "dpf",
    "dropback",
    "dsd",
    "dsr",
    "edge_popup_",
    "finish_",
    "gmp",
    "granet",
    "gse",
    "hold",
    "iht",
    "lottery_tickets",
    "mest",
    "nest",
    "nm_rigl",
    "reinitialized_ticket",
    "rigl",
    "rigl_itop",
    "set_",
    "set_itop",
    "shuffled_ticket",
    "signed_constant_",
    "snfs",
    "soft_deep_r",
    "srigl",
    "static",
    "supermask_",
    "swat",
    "thin_layers",
    "thin_model",
    "top_kast",
    "truly_sparse",
]
