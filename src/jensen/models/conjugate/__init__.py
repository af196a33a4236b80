"""Conjugate models: posterior, marginal likelihood and predictive in closed form, as immutable values."""

from jensen.models.conjugate.checks import Conjugate
from jensen.models.conjugate.coin import Coin
from jensen.models.conjugate.die import Die
from jensen.models.conjugate.normal_mean import NormalMean
from jensen.models.conjugate.normal_mean_precision import NormalMeanPrecision
from jensen.models.conjugate.poisson import PoissonRate

__all__ = ["Coin", "Conjugate", "Die", "NormalMean", "NormalMeanPrecision", "PoissonRate"]
