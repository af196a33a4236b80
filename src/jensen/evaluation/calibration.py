"""Whether stated probabilities come true: reliability diagrams and the calibration error, with its bias."""

from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from jensen.errors import ConfigError, ShapeError, SupportError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """What becomes of predictions of about the same confidence.

    Attributes:
        edges: Of the bins of confidence, (bins + 1,).
        count: Data in each bin, (bins,).
        confidence: Their mean stated probability, (bins,); NaN in an empty bin.
        accuracy: The share of them that came true, (bins,); NaN in an empty bin.
        standard_error: Of that share, (bins,): sqrt(a (1 - a) / n); NaN in an empty bin.
    """

    edges: Floats
    count: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats
    standard_error: Floats


@dataclass(frozen=True)
class CalibrationError:
    """The expected calibration error, and what is known of its bias.

    Attributes:
        value: The binned estimate. It is biased upwards: of a calibrated model it is above zero on any finite data.
        debiased: The same less an estimate of that bias. It takes off nearly all of it where errors are large against
            their noise, and two fifths of it of a calibrated model.
        if_calibrated: The binned estimate that a perfectly calibrated model of the same confidences would get on as
            many data, on average; a value near it is no sign of miscalibration.
        standard_error: Of ``value`` over data, by the bootstrap.
    """

    value: float
    debiased: float
    if_calibrated: float
    standard_error: float


def top_label(probabilities: Any, y: Any) -> tuple[Floats, NDArray[np.bool_]]:
    """The probability of the class that is predicted, and whether it was right.

    Args:
        probabilities: Of the classes, (n, K); rows that sum to one.
        y: Class numbers 0, ..., K - 1, (n,).

    Returns:
        Two arrays (n,).

    Raises:
        ShapeError: If they don't fit each other, or there are none.
        SupportError: If rows are no probabilities, or a class doesn't exist.
    """
    p, labels = checked(probabilities, y)
    return p.max(1), p.argmax(1) == labels


def checked(probabilities: Any, y: Any) -> tuple[Floats, NDArray[np.int64]]:
    """Probabilities and class numbers as arrays, checked; see ``top_label``."""
    p = np.asarray(probabilities, np.float64)
    labels = np.asarray(y)
    if p.ndim != 2 or labels.shape != (len(p),) or not len(p):
        raise ShapeError(
            f"wanted probabilities (n, classes) and class numbers (n,), got {p.shape} and {labels.shape}"
        )
    if not (np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(1), 1, atol=1e-4)):
        raise SupportError("wanted rows of probabilities that sum to one; give predict_proba's result")
    wanted = f"wanted class numbers 0, ..., {p.shape[1] - 1}"
    if labels.dtype.kind not in "iub":
        raise SupportError(f"{wanted}, got labels of type {labels.dtype}; give the places in classes_")
    if labels.min() < 0 or labels.max() >= p.shape[1]:
        raise SupportError(f"{wanted}, got {labels.min()} to {labels.max()}")
    return p, labels.astype(np.int64)


def _edges(confidence: Floats, bins: int, binning: str) -> Floats:
    if bins < 1:
        raise ConfigError(f"bins has to be at least 1, got {bins}")
    if binning == "width":
        return np.linspace(0, 1, bins + 1)
    if binning != "mass":
        raise ConfigError(f"binning is 'width' or 'mass', got {binning!r}")
    inner = np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1])
    return np.concatenate([[0.0], np.unique(inner[(inner > 0) & (inner < 1)]), [1.0]])


def reliability(
    confidence: Any, correct: Any, bins: int = 15, binning: Literal["width", "mass"] = "width"
) -> Reliability:
    """The reliability diagram: in bins of confidence, how often predictions were right.

    Args:
        confidence: Stated probabilities, (n,).
        correct: Whether what they were stated of came true, (n,).
        bins: How many; of "mass" there may be fewer where many confidences are alike.
        binning: "width": bins of one width; "mass": of about as many data each.

    Returns:
        The bins; a confidence on an edge counts to the bin below it.

    Raises:
        ConfigError: If there is no such binning.
        ShapeError: If the arrays don't fit.

    Source: Predicting good probabilities with supervised learning, 2005, https://doi.org/10.1145/1102351.1102430.

    Example:
        >>> found = reliability([0.9, 0.9, 0.2], [True, False, False], bins=2)
        >>> found.count, found.accuracy
        (array([1, 2]), array([0. , 0.5]))
    """
    stated, right = _pairs(confidence, correct)
    edges = _edges(stated, bins, binning)
    place = _places(stated, edges)
    total = len(edges) - 1
    count = np.bincount(place, minlength=total)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, stated, total) / count
        share = np.bincount(place, right, total) / count
        error = np.sqrt(share * (1 - share) / count)
    return Reliability(edges, count, mean, share, error)


def calibration_error(
    confidence: Any,
    correct: Any,
    bins: int = 15,
    binning: Literal["width", "mass"] = "width",
    *,
    draws: int = 200,
    seed: int = 0,
) -> CalibrationError:
    r"""The expected calibration error (ECE), in bins, beside what its bias is.

    .. math::
        ECE = \sum_b \frac{n_b}{n} |a_b - c_b|

    with c_b the mean confidence in bin b and a_b the share that came true. The estimate is biased: upwards, since noise
    in a_b never cancels under the absolute value (of a calibrated model by about sum_b sqrt(n_b) / n), and downwards,
    since within a bin errors of both signs do cancel. ``debiased`` is 2 ECE less the mean ECE when noise of a_b's
    standard error is added once more; nothing can be done about the second bias but more bins.

    Args:
        confidence: Stated probabilities, (n,).
        correct: Whether what they were stated of came true, (n,).
        bins: How many.
        binning: See ``reliability``.
        draws: Of outcomes under calibration, and of bootstrap samples.
        seed: Of the draws.

    Returns:
        Value, debiased value, the value of a calibrated model, and the standard error.

    Raises:
        ConfigError: If there is no such binning.
        ShapeError: If the arrays don't fit.

    Source: Verified uncertainty calibration, 2019, https://arxiv.org/abs/1909.10155.

    Example:
        >>> calibration_error([0.75] * 4, [True, True, True, False]).value
        0.0
    """
    stated, right = _pairs(confidence, correct)
    n = len(stated)
    edges = _edges(stated, bins, binning)
    place, total = _places(stated, edges), len(edges) - 1
    count = np.bincount(place, minlength=total)
    full = count > 0
    gap = np.abs(np.bincount(place, right - stated, total))[full] / n
    value = float(gap.sum())
    share = np.bincount(place, right, total)[full] / count[full]
    # Standard errors of the bins' parts of the sum, from the sample variance where a bin has two data.
    spread = np.sqrt(share * (1 - share) / np.maximum(count[full] - 1, 1)) * count[full] / n
    debiased = 2 * value - float(_folded(gap, spread).sum())
    rng = np.random.default_rng(seed)
    calibrated, bootstrap = np.empty(draws), np.empty(draws)
    for draw in range(draws):
        truth = rng.random(n) < stated
        calibrated[draw] = np.abs(np.bincount(place, truth - stated, total)).sum() / n
        rows = rng.integers(0, n, n)
        bootstrap[draw] = np.abs(np.bincount(place[rows], (right - stated)[rows], total)).sum() / n
    return CalibrationError(value, debiased, float(calibrated.mean()), float(bootstrap.std(ddof=1)))


def _folded(mean: Floats, scale: Floats) -> Floats:
    """E|m + s z| of a standard normal z."""
    safe = np.where(scale > 0, scale, 1.0)
    ratio = mean / safe
    found = safe * sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + mean * (1 - 2 * norm.cdf(-ratio))
    return np.where(scale > 0, found, np.abs(mean))


def _places(confidence: Floats, edges: Floats) -> NDArray[np.intp]:
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, len(edges) - 2)


def _pairs(confidence: Any, correct: Any) -> tuple[Floats, Floats]:
    stated, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if stated.ndim != 1 or stated.shape != right.shape or not len(stated):
        raise ShapeError(f"wanted two arrays (n,), got shapes {stated.shape} and {right.shape}")
    if not ((stated >= 0) & (stated <= 1 + 1e-6)).all():
        raise SupportError(
            f"confidences are probabilities, got values from {stated.min():g} to {stated.max():g}"
        )
    return stated, right
