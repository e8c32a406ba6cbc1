"""Published methods, one a file: a recipe wires criteria, growth, schedules and budgets into a sparsifier."""

from gossamer.recipes.gmp import gmp
from gossamer.recipes.rigl import rigl
from gossamer.recipes.set_ import set_
from gossamer.recipes.static import static
from gossamer.recipes.truly_sparse import truly_sparse

__all__ = ["gmp", "rigl", "set_", "static", "truly_sparse"]
