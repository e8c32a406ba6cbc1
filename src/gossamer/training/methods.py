"""The methods that the command line knows."""

from gossamer.lookup import find
from gossamer.training.method import Method
from gossamer.training.methods_born_sparse import BORN_SPARSE
from gossamer.training.methods_from_dense import FROM_DENSE

DENSE = Method(
    name="dense",
    label="dense",
    summary="every weight exists; the rival of all others",
    paper="",
    truly_sparse=False,
    make=lambda model, optimizer, plan: None,
)
METHODS = (DENSE, *BORN_SPARSE, *FROM_DENSE)


def find_method(name: str) -> Method:
    """Return the method of a name.

    Raises:
        ValueError: there is none; the error names the nearest.
    """
    return find(METHODS, name, what="method")
