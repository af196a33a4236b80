"""Likelihoods p(x|z): Conditionals over data given latents."""

from jensen.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli
from jensen.likelihoods.counts import NegativeBinomial, Poisson
from jensen.likelihoods.intensities import Categorical, Logistic256
from jensen.likelihoods.likelihood import Likelihood
from jensen.likelihoods.normal import Normal
from jensen.registry import Registry

LIKELIHOODS: Registry[type[Likelihood]] = Registry(
    "likelihood",
    {
        "bernoulli": Bernoulli,
        "continuous-bernoulli": ContinuousBernoulli,
        "normal": Normal,
        "logistic-256": Logistic256,
        "categorical": Categorical,
        "poisson": Poisson,
        "negative-binomial": NegativeBinomial,
    },
)
"""Called with a network, the shape of one datum and the family's options. ``output_count`` of the same options
says how many numbers a cell the network has to return."""

DENSITIES = frozenset({"normal", "continuous-bernoulli"})
"""Likelihoods that give a density, not a probability: their nats depend on the data's unit and do not compare with
those of the others."""

__all__ = [
    "DENSITIES",
    "LIKELIHOODS",
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "Likelihood",
    "Logistic256",
    "NegativeBinomial",
    "Normal",
    "Poisson",
]
