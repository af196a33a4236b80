"""From a Run's folder to the face that its recipe has."""

from pathlib import Path
from typing import Any, cast

from torch import nn

from jensen.estimators import bayesian
from jensen.estimators.fitted import PARAMETERS, ExactEstimator
from jensen.estimators.hidden_markov import HiddenMarkovModel
from jensen.estimators.linear import PPCA, FactorAnalysis
from jensen.estimators.mixtures import BernoulliMixture, GaussianMixture
from jensen.estimators.vae import loaded
from jensen.runs import Run

FACES: dict[str, type[ExactEstimator]] = {
    face.recipe_name: face
    for face in (PPCA, FactorAnalysis, GaussianMixture, BernoulliMixture, HiddenMarkovModel)
}
"""Faces of the exact models by recipe; all others have that of autoencoders."""


def load(folder: str | Path, device: str = "cpu", *, network: nn.Module | None = None) -> Any:
    """Gives back a fitted model from its folder, with the face of its recipe; nothing in it is executed.

    Args:
        folder: A Run, written by ``.save``, ``jensen fit`` or ``jensen demo``.
        device: Where to put the model; exact models stay on the CPU.
        network: Your own, of any weights, where the model was fitted over one: no file can hold its code.

    Returns:
        The fitted estimator.

    Raises:
        RunError: If the folder isn't a Run or a file is damaged, or a network is missing.
        ShapeError: If the network's parameters have other names or shapes.
    """
    run = Run.load(folder, device, network)
    if run.recipe in bayesian.LABELLED:
        return bayesian.loaded(run, device)
    if run.recipe not in FACES:
        return loaded(run, device)
    face: Any = FACES[run.recipe]
    names = set(face().get_params())
    options: dict[str, Any] = {
        PARAMETERS.get(key, key): value
        for key, value in cast("dict[str, Any]", run.config.model_dump()).items()
    }
    options = {key: value for key, value in options.items() if key in names}
    if "binarize" in names:
        options["binarize"] = run.about.get("binarize")
    return face(**options, random_state=run.about.get("seed"))._adopt(run)
