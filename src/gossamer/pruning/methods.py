"""Named ways to prune a model that is there: a row each, with its paper."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from gossamer import budgets, criteria, patterns, solvers
from gossamer.lookup import find


@dataclass(frozen=True, kw_only=True)
class PruningMethod:
    """One row of the pruning methods of `gossamer methods`.

    Attributes:
        name: as given to --method.
        label: as people write it.
        summary: one line.
        paper: where it was published.
        rule: the criterion or solver.
        budget: how it splits what is kept unless told otherwise.
        pattern: the shape of its masks unless told otherwise.
        rounds: how often it scores and cuts unless told otherwise.
        returning: whether a later round may bring back what an earlier one removed.
        temperature: the outputs are divided by it before the loss is taken, > 0.
    """

    name: str
    label: str
    summary: str
    paper: str
    rule: Callable[..., Any]
    budget: budgets.Budget = budgets.uniform
    pattern: patterns.Pattern = field(default_factory=patterns.unstructured)
    rounds: int = 1
    returning: bool = False
    temperature: float = 1.0

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss by which classes are judged: the cross entropy at the method's temperature."""
        return cross_entropy(outputs / self.temperature, targets)


PRUNING_METHODS = (
    PruningMethod(
        name="magnitude",
        label="magnitude",
        summary="remove the smallest weights",
        paper="Janowsky 1989",
        rule=criteria.magnitude,
    ),
    PruningMethod(
        name="magnitude_increase",
        label="magnitude increase",
        summary="remove what grew least since an earlier checkpoint (--first)",
        paper="Zhou et al. 2019, arXiv:1905.01067",
        rule=criteria.magnitude_increase,
    ),
    PruningMethod(
        name="lamp",
        label="LAMP",
        summary="remove the smallest weights, layers by what is left beside them",
        paper="Lee et al. 2021, arXiv:2010.07611",
        rule=criteria.magnitude,
        budget=budgets.lamp,
    ),
    PruningMethod(
        name="random",
        label="random",
        summary="remove weights at random; the control of all others",
        paper="",
        rule=criteria.random,
    ),
    PruningMethod(
        name="snip",
        label="SNIP",
        summary="keep where the weight times its gradient is largest",
        paper="Lee et al. 2019, arXiv:1810.02340",
        rule=criteria.snip,
        budget=budgets.global_,
    ),
    PruningMethod(
        name="iterative_snip",
        label="iterative SNIP",
        summary="SNIP in many small cuts",
        paper="de Jorge et al. 2021, arXiv:2006.09081",
        rule=criteria.snip,
        budget=budgets.global_,
        rounds=100,
    ),
    PruningMethod(
        name="force",
        label="FORCE",
        summary="SNIP in many small cuts, which may be taken back",
        paper="de Jorge et al. 2021, arXiv:2006.09081",
        rule=criteria.snip,
        budget=budgets.global_,
        rounds=100,
        returning=True,
    ),
    PruningMethod(
        name="grasp",
        label="GraSP",
        summary="keep what preserves the flow of the gradient",
        paper="Wang et al. 2020, arXiv:2002.07376",
        rule=criteria.grasp,
        budget=budgets.global_,
        # Of the authors: confident outputs have no curvature.
        temperature=200.0,
    ),
    PruningMethod(
        name="synflow",
        label="SynFlow",
        summary="keep what carries the most from input to output, without data",
        paper="Tanaka et al. 2020, arXiv:2006.05467",
        rule=criteria.synflow,
        budget=budgets.global_,
        rounds=100,
    ),
    PruningMethod(
        name="taylor",
        label="Taylor",
        summary="remove what changes the loss least, to first order",
        paper="Molchanov et al. 2019, arXiv:1906.10771",
        rule=criteria.taylor,
        budget=budgets.global_,
    ),
    PruningMethod(
        name="movement",
        label="movement",
        summary="remove what gradient descent moves towards zero",
        paper="Sanh et al. 2020, arXiv:2005.07683",
        rule=criteria.movement,
        budget=budgets.global_,
    ),
    PruningMethod(
        name="sensitivity",
        label="sensitivity",
        summary="remove what the outputs hardly react to, without labels",
        paper="Tartaglione et al. 2018, arXiv:1810.11764",
        rule=criteria.sensitivity,
        budget=budgets.global_,
    ),
    PruningMethod(
        name="fisher",
        label="Fisher",
        summary="remove what changes the loss least, by the diagonal of the Fisher matrix",
        paper="Theis et al. 2018, arXiv:1801.05787",
        rule=criteria.fisher,
        budget=budgets.global_,
    ),
    PruningMethod(
        name="obd",
        label="OBD",
        summary="remove what changes the loss least, by the diagonal of the Hessian",
        paper="LeCun, Denker, Solla 1989",
        rule=criteria.obd,
        budget=budgets.global_,
    ),
    PruningMethod(
        name="woodfisher",
        label="WoodFisher",
        summary="remove by blocks of the inverse Fisher matrix, and move the others",
        paper="Singh, Alistarh 2020, arXiv:2004.14340",
        rule=partial(solvers.woodfisher, block_size=50, dampening=1e-5),
    ),
    PruningMethod(
        name="m_fac",
        label="M-FAC",
        summary="remove by the inverse Fisher matrix of each tensor, and move the others",
        paper="Frantar et al. 2021, arXiv:2107.03356",
        rule=partial(solvers.m_fac, dampening=1e-5),
    ),
    PruningMethod(
        name="wanda",
        label="Wanda",
        summary="keep in each output where the weight times the norm of its input is largest",
        paper="Sun et al. 2023, arXiv:2306.11695",
        rule=criteria.wanda,
        pattern=patterns.constant_fan_in(),
    ),
    PruningMethod(
        name="l_obs",
        label="L-OBS",
        summary="remove what changes its layer's outputs least, and move the others",
        paper="Dong, Chen, Pan 2017, arXiv:1705.07565",
        rule=solvers.l_obs,
    ),
    PruningMethod(
        name="obc",
        label="OBC",
        summary="remove one weight of an output after the other, and move the others",
        paper="Frantar, Alistarh 2022, arXiv:2208.11580",
        rule=solvers.obc,
    ),
    PruningMethod(
        name="sparsegpt",
        label="SparseGPT",
        summary="remove and move the others, column by column: fast on wide layers",
        paper="Frantar, Alistarh 2023, arXiv:2301.00774",
        rule=solvers.sparsegpt,
    ),
    PruningMethod(
        name="geometric_median",
        label="FPGM",
        summary="remove the outputs nearest to the middle of all",
        paper="He et al. 2019, arXiv:1811.00250",
        rule=criteria.geometric_median,
        pattern=patterns.row(),
    ),
    PruningMethod(
        name="apoz",
        label="APoZ",
        summary="remove the outputs that are most often zero",
        paper="Hu et al. 2016, arXiv:1607.03250",
        rule=criteria.apoz,
        pattern=patterns.row(),
    ),
    PruningMethod(
        name="taylor_filter",
        label="Taylor, outputs",
        summary="remove whole outputs that change the loss least, to first order",
        paper="Molchanov et al. 2019, arXiv:1906.10771",
        rule=criteria.taylor_filter,
        pattern=patterns.row(),
    ),
    PruningMethod(
        name="mean_activation",
        label="mean activation",
        summary="remove the outputs that are least active",
        paper="Tan, Motani 2020, arXiv:2207.06646",
        rule=criteria.mean_activation,
        pattern=patterns.row(),
    ),
    PruningMethod(
        name="energy",
        label="energy",
        summary="remove the outputs of least mean square",
        paper="Chauvin 1988",
        rule=criteria.energy,
        pattern=patterns.row(),
    ),
    PruningMethod(
        name="output_variance",
        label="variance",
        summary="remove the outputs that hardly vary",
        paper="Sietsma, Dow 1991",
        rule=criteria.output_variance,
        pattern=patterns.row(),
    ),
    PruningMethod(
        name="correlation",
        label="NoiseOut",
        summary="remove the outputs that follow another one",
        paper="Babaeizadeh et al. 2016, arXiv:1611.06211",
        rule=criteria.correlation,
        pattern=patterns.row(),
    ),
    PruningMethod(
        name="similarity",
        label="similarity",
        summary="remove the outputs that have a twin, without data",
        paper="Srinivas, Babu 2015, arXiv:1507.06149",
        rule=criteria.similarity,
        pattern=patterns.row(),
    ),
    PruningMethod(
        name="batch_norm_scale",
        label="batch-norm scale",
        summary="remove the outputs that their batch normalisation scales down",
        paper="Liu et al. 2017, arXiv:1708.06519",
        rule=criteria.batch_norm_scale,
        pattern=patterns.row(),
    ),
    PruningMethod(
        name="skeletonization",
        label="skeletonization",
        summary="remove the outputs without which the loss rises least, by a gate",
        paper="Mozer, Smolensky 1988",
        rule=criteria.skeletonization,
        pattern=patterns.row(),
    ),
    PruningMethod(
        name="taylor_activation",
        label="Taylor, activations",
        summary="remove the outputs whose activations change the loss least",
        paper="Molchanov et al. 2017, arXiv:1611.06440",
        rule=criteria.taylor_activation,
        pattern=patterns.row(),
    ),
)


def find_pruning_method(name: str) -> PruningMethod:
    """Return the pruning method of a name.

    Raises:
        ValueError: there is none; the error names the nearest.
    """
    return find(PRUNING_METHODS, name, what="pruning method")
