"""Families of a mixture's components and weights; each turns summed statistics into what an update needs."""

from jensen.models.families.bernoulli import BernoulliCells
from jensen.models.families.categorical import CategoricalSymbol
from jensen.models.families.family import Family
from jensen.models.families.gaps import Completes, Scored, scored
from jensen.models.families.normal_cells import CELL_COVARIANCES, NormalCells, UnitNormal
from jensen.models.families.normal_full import FULL_COVARIANCES, NormalFull, NormalWishart
from jensen.models.families.poisson import PoissonCells
from jensen.models.families.predictive import CellwisePredictive, EllipticalPredictive, Predictive
from jensen.models.families.weights import WEIGHTS, Dirichlet, Sticks, Uniform, WeightFamily, Weights

__all__ = [
    "CELL_COVARIANCES",
    "FULL_COVARIANCES",
    "WEIGHTS",
    "BernoulliCells",
    "CategoricalSymbol",
    "CellwisePredictive",
    "Completes",
    "Dirichlet",
    "EllipticalPredictive",
    "Family",
    "NormalCells",
    "NormalFull",
    "NormalWishart",
    "PoissonCells",
    "Predictive",
    "Scored",
    "Sticks",
    "Uniform",
    "UnitNormal",
    "WeightFamily",
    "Weights",
    "scored",
]
