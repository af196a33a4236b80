"""Distributions that torch lacks, and what is done with any distribution."""

from jensen.distributions.bernoulli import Bernoulli
from jensen.distributions.beta_binomial import BetaBinomial
from jensen.distributions.conditional import Conditional, given
from jensen.distributions.continuous_bernoulli import ContinuousBernoulli
from jensen.distributions.coupled_normal import CoupledNormal
from jensen.distributions.detach import detached
from jensen.distributions.diagonal_normal import DiagonalNormal, diagonal_normal, kl_of_cells
from jensen.distributions.dirichlet_multinomial import DirichletMultinomial
from jensen.distributions.discretised_logistic import DiscretisedLogistic
from jensen.distributions.divergence import closed_form_kl
from jensen.distributions.integer_categorical import IntegerCategorical
from jensen.distributions.masking import log_prob_observed
from jensen.distributions.negative_binomial import NegativeBinomial
from jensen.distributions.normal_gamma import NormalGamma
from jensen.distributions.pinned import Pinned
from jensen.distributions.rows import sample_common, select
from jensen.distributions.triangular_normal import TriangularNormal
from jensen.distributions.vector import VectorDistribution

__all__ = [
    "Bernoulli",
    "BetaBinomial",
    "Conditional",
    "ContinuousBernoulli",
    "CoupledNormal",
    "DiagonalNormal",
    "DirichletMultinomial",
    "DiscretisedLogistic",
    "IntegerCategorical",
    "NegativeBinomial",
    "NormalGamma",
    "Pinned",
    "TriangularNormal",
    "VectorDistribution",
    "closed_form_kl",
    "detached",
    "diagonal_normal",
    "given",
    "kl_of_cells",
    "log_prob_observed",
    "sample_common",
    "select",
]
