"""The methods that the command line knows: a row each, with its paper."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from gossamer.budgets import Budget, er, erk, global_, uniform
from gossamer.lookup import find
from gossamer.sparsifier import Sparsifier
from gossamer.training import born_sparse, from_dense
from gossamer.training.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of `gossamer methods`.

    Attributes:
        name: as given to --method.
        label: as people write it.
        summary: one line.
        paper: where it was published.
        truly_sparse: whether it trains on truly sparse weights unless told otherwise.
        masked_only: whether it has no truly sparse form, as its weights come back as a dense network has them.
        from_dense: whether the network starts dense and becomes sparse.
        prune_first: the row of `gossamer.pruning.PRUNING_METHODS` that prunes the fresh network; empty: none does.
        all_relu: whether its networks use All-ReLU.
        budget: how it splits what is kept unless told otherwise.
        update_every: (steps per epoch, steps in all) -> steps between two updates unless told otherwise.
        make: (model, optimizer, plan) -> sparsifier, or None where nothing is sparse.
    """

    name: str
    label: str
    summary: str
    paper: str
    truly_sparse: bool = True
    masked_only: bool = False
    from_dense: bool = False
    prune_first: str = ""
    all_relu: bool = False
    budget: Budget = erk
    update_every: Callable[[int, int], int] = lambda steps_per_epoch, num_steps: 100
    make: Callable[[nn.Module, Optimizer, Plan], Sparsifier | None]


def _pruned_first(name: str, label: str, summary: str, paper: str, *, by: str) -> Method:
    """The row of a method that prunes a fresh network and then trains what is left."""
    return Method(
        name=name,
        label=label,
        summary=summary,
        paper=paper,
        from_dense=True,
        prune_first=by,
        budget=global_,
        make=born_sparse.hold,
    )


METHODS = (
    Method(
        name="dense",
        label="dense",
        summary="every weight exists; the rival of all others",
        paper="",
        truly_sparse=False,
        make=lambda model, optimizer, plan: None,
    ),
    Method(
        name="static",
        label="static",
        summary="a random topology that never changes",
        paper="Mocanu et al. 2016, arXiv:1604.05978",
        make=born_sparse.static,
    ),
    Method(
        name="set",
        label="SET",
        summary="drop the weights nearest zero, grow others at random",
        paper="Mocanu et al. 2018, arXiv:1707.04780",
        budget=er,
        update_every=lambda steps_per_epoch, num_steps: steps_per_epoch,
        make=born_sparse.set_,
    ),
    Method(
        name="rigl",
        label="RigL",
        summary="drop the smallest weights, grow where the gradient is largest",
        paper="Evci et al. 2020, arXiv:1911.11134",
        make=born_sparse.rigl,
    ),
    Method(
        name="deep_r",
        label="DeepR",
        summary="weights keep their signs; noise and penalty replace those that would flip",
        paper="Bellec et al. 2018, arXiv:1711.05136",
        budget=uniform,
        make=born_sparse.deep_r,
    ),
    Method(
        name="dsr",
        label="DSR",
        summary="drop below a threshold that adapts, grow at random where most survive",
        paper="Mostafa, Wang 2019, arXiv:1902.05967",
        budget=uniform,
        make=born_sparse.dsr,
    ),
    Method(
        name="snfs",
        label="SNFS",
        summary="drop the smallest weights, grow where the momentum is largest, over all layers",
        paper="Dettmers, Zettlemoyer 2019, arXiv:1907.04840",
        truly_sparse=False,
        masked_only=True,
        budget=uniform,
        update_every=lambda steps_per_epoch, num_steps: steps_per_epoch,
        make=born_sparse.snfs,
    ),
    Method(
        name="set_itop",
        label="SET-ITOP",
        summary="SET with rare and large updates, so that more of the network is tried",
        paper="Liu et al. 2021, arXiv:2102.02887",
        update_every=lambda steps_per_epoch, num_steps: max(1, min(1500, num_steps // 10)),
        make=born_sparse.set_itop,
    ),
    Method(
        name="rigl_itop",
        label="RigL-ITOP",
        summary="RigL with rare and large updates, so that more of the network is tried",
        paper="Liu et al. 2021, arXiv:2102.02887",
        update_every=lambda steps_per_epoch, num_steps: max(1, min(4000, num_steps // 10)),
        make=born_sparse.rigl_itop,
    ),
    Method(
        name="mest",
        label="MEST",
        summary="drop where weight and gradient are small, grow at random, ever fewer",
        paper="Yuan et al. 2021, arXiv:2110.14032",
        budget=uniform,
        make=born_sparse.mest,
    ),
    Method(
        name="granet",
        label="GraNet",
        summary="start dense, remove the smallest of all little by little, regenerate each time",
        paper="Liu et al. 2021, arXiv:2106.10404",
        truly_sparse=False,
        from_dense=True,
        make=from_dense.granet,
    ),
    Method(
        name="top_kast",
        label="Top-KAST",
        summary="compute with the largest weights, teach some more",
        paper="Jayakumar et al. 2021, arXiv:2106.03517",
        truly_sparse=False,
        masked_only=True,
        from_dense=True,
        budget=uniform,
        make=from_dense.top_kast,
    ),
    Method(
        name="gse",
        label="GSE",
        summary="drop the smallest weights, grow the best of some drawn at random",
        paper="Heddes et al. 2024, arXiv:2401.06898",
        update_every=lambda steps_per_epoch, num_steps: 1000,
        make=born_sparse.gse,
    ),
    Method(
        name="srigl",
        label="SRigL",
        summary="RigL with equally many inputs at every neuron; neurons that matter little go",
        paper="Lasby et al. 2024, arXiv:2305.02299",
        make=born_sparse.srigl,
    ),
    Method(
        name="nm_rigl",
        label="N:M RigL",
        summary="RigL within groups: of each m inputs n exist, the nearest to the sparsity",
        paper="Zhou et al. 2021, arXiv:2102.04010, as Lasby et al. 2024, arXiv:2305.02299",
        make=born_sparse.nm_rigl,
    ),
    Method(
        name="gmp",
        label="GMP",
        summary="start dense, remove the smallest weights little by little",
        paper="Zhu, Gupta 2017, arXiv:1710.01878",
        truly_sparse=False,
        from_dense=True,
        budget=uniform,
        make=from_dense.gmp,
    ),
    Method(
        name="truly_sparse",
        label="Truly Sparse",
        summary="SET with All-ReLU; late in training the weakest hidden neurons go",
        paper="Curci et al. 2021, arXiv:2102.01732",
        all_relu=True,
        budget=er,
        update_every=lambda steps_per_epoch, num_steps: steps_per_epoch,
        make=born_sparse.truly_sparse,
    ),
    Method(
        name="nest",
        label="NeST",
        summary="grow weights and neurons by the gradient, then prune back to the number at the start",
        paper="Dai et al. 2019, arXiv:1711.02017",
        budget=er,
        # Growth in five steps, pruning in two or three.
        update_every=lambda steps_per_epoch, num_steps: max(1, num_steps // 10),
        make=born_sparse.nest,
    ),
    _pruned_first(
        "snip",
        "SNIP",
        "start dense, keep where weight times gradient is largest, train that",
        "Lee et al. 2019, arXiv:1810.02340",
        by="snip",
    ),
    _pruned_first(
        "iterative_snip",
        "iterative SNIP",
        "start dense, SNIP in a hundred small cuts, train what is left",
        "de Jorge et al. 2021, arXiv:2006.09081",
        by="iterative_snip",
    ),
    _pruned_first(
        "force",
        "FORCE",
        "start dense, SNIP in a hundred cuts that may be taken back, train what is left",
        "de Jorge et al. 2021, arXiv:2006.09081",
        by="force",
    ),
    _pruned_first(
        "grasp",
        "GraSP",
        "start dense, keep what preserves the flow of the gradient, train that",
        "Wang et al. 2020, arXiv:2002.07376",
        by="grasp",
    ),
    _pruned_first(
        "synflow",
        "SynFlow",
        "start dense, keep what carries most from input to output, train that",
        "Tanaka et al. 2020, arXiv:2006.05467",
        by="synflow",
    ),
    _pruned_first(
        "magnitude_init",
        "magnitude at start",
        "start dense, keep the largest first values, train them: the control",
        "Frankle et al. 2021, arXiv:2009.08576",
        by="magnitude",
    ),
    Method(
        name="dsd",
        label="DSD",
        summary="dense, sparse, and dense again: a regularizer, it ENDS DENSE",
        paper="Han et al. 2017, arXiv:1607.04381",
        truly_sparse=False,
        masked_only=True,
        from_dense=True,
        budget=uniform,
        make=from_dense.dsd,
    ),
    Method(
        name="iht",
        label="IHT",
        summary="dense and sparse phases in turn; weights return as they were",
        paper="Jin et al. 2016, arXiv:1607.05423",
        truly_sparse=False,
        masked_only=True,
        from_dense=True,
        budget=uniform,
        update_every=lambda steps_per_epoch, num_steps: max(1, num_steps // 8),
        make=from_dense.iht,
    ),
    Method(
        name="ac_dc",
        label="AC/DC",
        summary="dense and sparse phases in turn; weights return as zero",
        paper="Peste et al. 2021, arXiv:2106.12379",
        truly_sparse=False,
        masked_only=True,
        from_dense=True,
        budget=global_,
        update_every=lambda steps_per_epoch, num_steps: max(1, num_steps // 20),
        make=from_dense.ac_dc,
    ),
    Method(
        name="dns",
        label="DNS",
        summary="hide small weights, splice back those that grow: the sparsity is free",
        paper="Guo et al. 2016, arXiv:1608.04493",
        truly_sparse=False,
        masked_only=True,
        from_dense=True,
        update_every=lambda steps_per_epoch, num_steps: 16,
        make=from_dense.dns,
    ),
    Method(
        name="dpf",
        label="DPF",
        summary="train a dense copy by the gradient of its pruned self",
        paper="Lin et al. 2020, arXiv:2006.07253",
        truly_sparse=False,
        masked_only=True,
        from_dense=True,
        budget=global_,
        update_every=lambda steps_per_epoch, num_steps: 16,
        make=from_dense.dpf,
    ),
    Method(
        name="dnw",
        label="DNW",
        summary="the largest weights of each step; all are trained, the gradient is dense",
        paper="Wortsman et al. 2019, arXiv:1906.00586",
        truly_sparse=False,
        masked_only=True,
        from_dense=True,
        budget=uniform,
        update_every=lambda steps_per_epoch, num_steps: 1,
        make=from_dense.dnw,
    ),
    Method(
        name="swat",
        label="SWAT",
        summary="the largest weights, updated by the largest activations; both chosen anew",
        paper="Raihan, Aamodt 2020, arXiv:2007.14556",
        truly_sparse=False,
        masked_only=True,
        from_dense=True,
        budget=uniform,
        update_every=lambda steps_per_epoch, num_steps: 1,
        make=from_dense.swat,
    ),
    Method(
        name="dropback",
        label="DropBack",
        summary="train what moved farthest; the rest is seeded, NOT ZERO until late: saves storage",
        paper="Golub et al. 2019, arXiv:1806.06949",
        truly_sparse=False,
        masked_only=True,
        from_dense=True,
        budget=global_,
        update_every=lambda steps_per_epoch, num_steps: 1,
        make=from_dense.dropback,
    ),
)


def find_method(name: str) -> Method:
    """Return the method of a name.

    Raises:
        ValueError: there is none; the error names the nearest.
    """
    return find(METHODS, name, what="method")
