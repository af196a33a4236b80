"""Distributions that torch lacks, and what is done with any distribution."""

from jensen.distributions.bernoulli import Bernoulli
from jensen.distributions.conditional import Conditional, given
from jensen.distributions.continuous_bernoulli import ContinuousBernoulli
from jensen.distributions.coupled_normal import CoupledNormal
from jensen.distributions.detach import detached
from jensen.distributions.discretised_logistic import DiscretisedLogistic
from jensen.distributions.divergence import closed_form_kl
from jensen.distributions.integer_categorical import IntegerCategorical
from jensen.distributions.masking import log_prob_observed
from jensen.distributions.negative_binomial import NegativeBinomial
from jensen.distributions.pinned import Pinned
from jensen.distributions.rows import sample_common, select

__all__ = [
    "Bernoulli",
    "Conditional",
    "ContinuousBernoulli",
    "CoupledNormal",
    "DiscretisedLogistic",
    "IntegerCategorical",
    "NegativeBinomial",
    "Pinned",
    "closed_form_kl",
    "detached",
    "given",
    "log_prob_observed",
    "sample_common",
    "select",
]
