"""Families of posteriors over a target's unconstrained coordinates: modules that return a distribution."""

from jensen.inference.families.factorised import Categoricals, Factorised
from jensen.inference.families.family import Draws, Family
from jensen.inference.families.flow import Flow
from jensen.inference.families.frame import Frame, Framed
from jensen.inference.families.full_rank import FullRank
from jensen.inference.families.low_rank import LowRank
from jensen.inference.families.mean_field import MeanField
from jensen.inference.families.mixed import Mixed
from jensen.inference.families.mixture import Mixture

__all__ = [
    "Categoricals",
    "Draws",
    "Factorised",
    "Family",
    "Flow",
    "Frame",
    "Framed",
    "FullRank",
    "LowRank",
    "MeanField",
    "Mixed",
    "Mixture",
]
