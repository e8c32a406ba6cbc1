"""Choices of weights or channels that go, with the others moved to make up for it, one a file."""

from gossamer.solvers.fisher import inverse_fisher
from gossamer.solvers.fold import fold_mean
from gossamer.solvers.l_obs import l_obs, l_obs_scores
from gossamer.solvers.lasso_channels import lasso_channels
from gossamer.solvers.m_fac import LowRankInverse, m_fac, m_fac_inverse, m_fac_scores
from gossamer.solvers.merge import Merged, MergedWithBias, merge_correlated, merge_similar
from gossamer.solvers.obc import obc, obc_nm
from gossamer.solvers.obs import obs, obs_scores
from gossamer.solvers.reconstruct import reconstruct
from gossamer.solvers.solution import Solution
from gossamer.solvers.sparsegpt import sparsegpt, sparsegpt_nm, sparsegpt_update
from gossamer.solvers.thinet import thinet
from gossamer.solvers.woodfisher import woodfisher, woodfisher_scores
from gossamer.solvers.woodtaylor import woodtaylor_scores

__all__ = [
    "LowRankInverse",
    "Merged",
    "MergedWithBias",
    "Solution",
    "fold_mean",
    "inverse_fisher",
    "l_obs",
    "l_obs_scores",
    "lasso_channels",
    "m_fac",
    "m_fac_inverse",
    "m_fac_scores",
    "merge_correlated",
    "merge_similar",
    "obc",
    "obc_nm",
    "obs",
    "obs_scores",
    "reconstruct",
    "sparsegpt",
    "sparsegpt_nm",
    "sparsegpt_update",
    "thinet",
    "woodfisher",
    "woodfisher_scores",
    "woodtaylor_scores",
]
