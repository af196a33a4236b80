"""Information: surprisal, entropies, divergences, mutual information, exact and by samples; lengths of codes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jensen.information.arithmetic import ArithmeticCode
from jensen.information.codes import PrefixCode, asked_in_order, huffman_code, question_code
from jensen.information.estimate import Estimate
from jensen.information.measures import (
    conditional_entropy,
    cross_entropy,
    entropy,
    jensen_shannon,
    joint_entropy,
    kl,
    mutual_information,
    pointwise_mutual_information,
    surprisal,
)

if TYPE_CHECKING:
    from jensen.information.neighbours import (
        entropy_from_samples,
        kl_from_samples,
        mutual_information_from_samples,
    )

__all__ = [
    "ArithmeticCode",
    "Estimate",
    "PrefixCode",
    "asked_in_order",
    "conditional_entropy",
    "cross_entropy",
    "entropy",
    "entropy_from_samples",
    "huffman_code",
    "jensen_shannon",
    "joint_entropy",
    "kl",
    "kl_from_samples",
    "mutual_information",
    "mutual_information_from_samples",
    "pointwise_mutual_information",
    "question_code",
    "surprisal",
]


def __getattr__(name: str) -> Any:
    """Estimates from samples are loaded when they are first asked for: they bring scipy along."""
    if name in {"entropy_from_samples", "kl_from_samples", "mutual_information_from_samples"}:
        return getattr(import_module("jensen.information.neighbours"), name)
    raise AttributeError(f"module 'jensen.information' has no attribute '{name}'")
