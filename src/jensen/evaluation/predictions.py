"""How good predictions of labels are: the numbers of classifiers and regressors, with their errors over data."""

from math import sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jensen.errors import ShapeError
from jensen.evaluation.calibration import calibration_error, checked
from jensen.evaluation.evaluate import Numbers
from jensen.evaluation.intervals import LEVELS, interval_coverage
from jensen.evaluation.selection import risk_coverage
from jensen.weights import Predictive

Floats = NDArray[np.float64]


def brier_scores(probabilities: Any, y: Any) -> Floats:
    r"""Squared distance of the stated probabilities from what happened, 0 to 2.

    .. math::
        \sum_k (p_k - [y = k])^2

    Args:
        probabilities: Of the classes, (n, K).
        y: Class numbers, (n,).

    Returns:
        Of each datum, (n,).

    Raises:
        ShapeError: If they don't fit each other.
        SupportError: If rows are no probabilities, or a class doesn't exist.

    Source: Verification of forecasts expressed in terms of probability, 1950,
    https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.

    Example:
        >>> brier_scores([[0.5, 0.5], [0.0, 1.0]], [0, 1])
        array([0.5, 0. ])
    """
    p, labels = checked(probabilities, y)
    return np.square(p - np.eye(p.shape[1])[labels]).sum(1)


def evaluate_classifier(probabilities: Any, y: Any, *, bins: int = 15, seed: int = 0) -> Numbers:
    """Evaluates predicted probabilities on labelled data.

    Args:
        probabilities: Of the classes, (n, K).
        y: Class numbers 0, ..., K - 1, (n,).
        bins: Of the calibration error, of one width.
        seed: Of the draws by which the calibration error's bias and error are found.

    Returns:
        ``accuracy``, ``nll`` (mean minus log-probability of the true class, nats; infinite if one had none) and
        ``brier`` (0 to 2), each with its ``_standard_error`` over data (None for one datum); ``ece`` of the predicted
        class, a binned estimate that is biased upwards, with ``ece_debiased``, ``ece_if_calibrated`` and
        ``ece_standard_error`` (see ``CalibrationError``); ``aurc``, the area under the selective-risk curve of errors
        by confidence; ``confidence``, the mean; ``n``.

    Raises:
        ShapeError: If they don't fit each other.
        SupportError: If rows are no probabilities, or a class doesn't exist.

    Example:
        >>> found = evaluate_classifier([[0.5, 0.5], [0.25, 0.75]], [0, 1])
        >>> found["accuracy"], found["brier"]
        (1.0, 0.3125)
    """
    p, labels = checked(probabilities, y)
    confidence, correct = p.max(1), p.argmax(1) == labels
    with np.errstate(divide="ignore"):
        nll = -np.log(p[np.arange(len(p)), labels])
    error = calibration_error(confidence, correct, bins, seed=seed)
    return {
        **_mean("accuracy", correct.astype(np.float64)),
        **_mean("nll", nll),
        **_mean("brier", brier_scores(p, labels)),
        "ece": error.value,
        "ece_debiased": error.debiased,
        "ece_if_calibrated": error.if_calibrated,
        "ece_standard_error": error.standard_error,
        "aurc": risk_coverage(~correct, -confidence).area,
        "confidence": float(confidence.mean()),
        "n": len(p),
    }


def evaluate_regressor(predictive: Predictive, y: Any) -> Numbers:
    """Evaluates predictive distributions of numbers, all in the targets' unit.

    Args:
        predictive: Of n data, one number each, or d.
        y: Targets, (n,), or (n, d).

    Returns:
        ``rmse`` and ``nll`` (mean minus log-density, nats; it depends on the targets' unit), each with its
        ``_standard_error`` over data (None for one datum); ``mae``; ``r2``, the share of the targets' variance that is
        explained; ``coverage_50`` and so on, the share of targets within the central intervals of that percentage,
        and ``width_95``, the mean width of the widest; ``interval_error``, the mean absolute difference of coverages
        and levels; ``aurc``, the area under the selective-risk curve of squared errors by standard deviation; ``n``.
        Of d numbers a datum, ``nll`` is that of all together; ``rmse`` and ``mae`` average over all, each in its unit,
        as do squared errors and variances for ``aurc``; ``r2`` averages over targets; ``coverage_50`` and so on count
        cells; ``rmse_each`` and ``r2_each`` hold those of each target.

    Raises:
        ShapeError: If the targets have another shape than the predictions.

    Example:
        >>> from jensen.weights.likelihoods import NormalLikelihood
        >>> from jensen.weights import MixturePredictive
        >>> found = MixturePredictive(NormalLikelihood(1.0), torch.zeros(1, 2, 1))
        >>> evaluate_regressor(found, [1.0, -1.0])["rmse"]
        1.0
    """
    mean = predictive.mean.double().cpu().numpy()
    targets = torch.as_tensor(y).double()
    if mean.ndim > 2 or targets.shape != mean.shape:
        raise ShapeError(f"wanted targets like the predictions, {mean.shape}, got {tuple(targets.shape)}")
    target = targets.cpu().numpy()
    away = mean - target
    columns, spreads = (part.reshape(len(part), -1) for part in (away**2, (target - target.mean(0)) ** 2))
    squares = columns.mean(1)
    rmse = sqrt(squares.mean())
    nll = -predictive.log_prob(y).double().cpu().numpy()
    covered = interval_coverage(predictive, y)
    n = len(away)
    explained = [
        1 - float(error / spread) if spread else None
        for error, spread in zip(columns.mean(0), spreads.mean(0), strict=True)
    ]
    known = [share for share in explained if share is not None]
    several: Numbers = {}
    if columns.shape[1] > 1:
        several = {"rmse_each": np.sqrt(columns.mean(0)).tolist()}
        several |= {"r2_each": known} if len(known) == len(explained) else {}
    variances = predictive.variance.double().cpu().numpy().reshape(n, -1).mean(1)
    squares_error = float(squares.std(ddof=1)) / sqrt(n) if n > 1 else None
    return {
        "rmse": rmse,
        # By the delta method.
        "rmse_standard_error": squares_error / (2 * rmse) if squares_error is not None and rmse else None,
        **_mean("nll", nll),
        "mae": float(np.abs(away).mean()),
        "r2": sum(known) / len(known) if known else None,
        **{
            f"coverage_{round(100 * level)}": float(share)
            for level, share in zip(LEVELS, covered.coverage, strict=True)
        },
        f"width_{round(100 * LEVELS[-1])}": float(covered.width[-1]),
        "interval_error": covered.calibration_error,
        "aurc": risk_coverage(squares, np.sqrt(variances)).area,
        **several,
        "n": n,
    }


def _mean(name: str, values: Floats) -> Numbers:
    n = len(values)
    finite = bool(np.isfinite(values).all())
    error = float(values.std(ddof=1)) / sqrt(n) if n > 1 and finite else None
    return {name: float(values.mean()), f"{name}_standard_error": error}
