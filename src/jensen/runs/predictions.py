"""What a Run that predicts labels makes of data, and how good that is."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jensen.data import Dataset
from jensen.evaluation import (
    Numbers,
    evaluate_classifier,
    evaluate_regressor,
    separation,
)
from jensen.recipes import RECIPES
from jensen.runs.run import Run
from jensen.runs.supervising import class_numbers, targets_of
from jensen.weights import MixturePredictive, Predictive

Floats = NDArray[np.float64]


def predict(run: Run, dataset: Dataset, samples: int | None = None, seed: int = 0) -> Predictive:
    """The predictive distribution of the labels of data, in their own unit.

    Args:
        run: Of a classifier or regressor.
        dataset: Data like those of the fit; labels aren't looked at.
        samples: Sets of weights to average over; None: as many as the Run's config says.
        seed: Of the draws.

    Raises:
        DataError: If the data don't match.
    """
    wanted = run.config.predictive_samples if samples is None else samples
    return run.model.predict(run.prepare(dataset), wanted, seed)


def probabilities(predictive: Predictive) -> Floats:
    """Of the classes, (n, K), rows summing to one in 64 bits."""
    assert isinstance(predictive, MixturePredictive), "classes have probabilities"
    found = predictive.probabilities.double().cpu().numpy()
    return found / found.sum(1, keepdims=True)


def doubts(run: Run, predictive: Predictive) -> tuple[Floats, Floats | None]:
    """Of each datum, how uncertain its label is in all, and how much of that more data would take away.

    Args:
        run: Of a classifier or regressor.
        predictive: Of some data.

    Returns:
        Entropy and mutual information in nats of classes, standard deviation and its epistemic part of numbers, each
        (n,); the second is None where it can't be told. Of several numbers a datum it is the root of their mean
        variance, each in units of its spread in the fit.
    """
    if RECIPES[run.recipe].targets == "classes":
        if getattr(predictive, "point", False):
            return predictive.entropy.double().cpu().numpy(), None
        pair = predictive.entropy, predictive.mutual_information
    else:
        pair = predictive.std, predictive.epistemic_variance.sqrt()
        if pair[0].ndim > 1:
            unit = torch.as_tensor(run.model.target_unit).to(pair[0])
            pair = tuple((part / unit).square().mean(1).sqrt() for part in pair)
    return pair[0].double().cpu().numpy(), pair[1].double().cpu().numpy()


def judge(
    run: Run,
    dataset: Dataset,
    *,
    unknown: Dataset | None = None,
    samples: int | None = None,
    seed: int = 0,
) -> Numbers:
    """Evaluates a classifier or regressor on labelled data.

    Args:
        run: The Run.
        dataset: Labelled data that it wasn't fitted on.
        unknown: Data of another kind, without need of labels, which should look more uncertain.
        samples: Sets of weights to average over; None: as many as the config says.
        seed: Of the draws.

    Returns:
        What ``evaluate_classifier`` or ``evaluate_regressor`` returns, ``samples``, and of unknown data
        ``unknown_auroc`` (by entropy, or standard deviation) and ``unknown_auroc_epistemic`` (by mutual information, or
        the epistemic standard deviation), each with its ``_standard_error``, and ``unknown_n``.

    Raises:
        DataError: If data or labels don't match the Run.
    """
    y = targets_of(dataset, run.recipe)
    predictive = predict(run, dataset, samples, seed)
    if RECIPES[run.recipe].targets == "classes":
        found = evaluate_classifier(probabilities(predictive), class_numbers(run, y, dataset.name), seed=seed)
    else:
        found = evaluate_regressor(predictive, y)
    result: dict[str, Any] = {**found, "samples": predictive.samples}
    if unknown is None:
        return result
    elsewhere = predict(run, unknown, samples, seed)
    known_doubts, unknown_doubts = doubts(run, predictive), doubts(run, elsewhere)
    for name, known, other in zip(
        ("unknown_auroc", "unknown_auroc_epistemic"), known_doubts, unknown_doubts, strict=True
    ):
        if known is not None and other is not None:
            area = separation(known, other)
            result |= {name: area.auroc, f"{name}_standard_error": area.standard_error}
    return {**result, "unknown_n": len(unknown)}
