"""Named models: defaults for a typed config, beside the functions that assemble the parts."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from jensen.bounds import VariationalObjective
from jensen.data import Schema
from jensen.models.progress import Iteration
from jensen.recipes import bayesian, exact
from jensen.recipes.config import VAEConfig, parse_as
from jensen.recipes.vae import assemble, objective, resolve
from jensen.registry import Registry


@dataclass(frozen=True)
class Recipe:
    """A named model.

    Attributes:
        name: Its name.
        title: One line on what it is.
        source: Title, year and link.
        defaults: The options that it sets otherwise than ``VAEConfig`` does.
        resolve: Fills in what is left to the data.
        assemble: Builds the model of a resolved config.
        objective: What training minimises.
        config_type: Of its options.
        solve: Fits a model that needs no training loop, an iteration at a time: from the model, its config, the data
            (n, *event), in memory or on disk, and the seed; None where it is trained.
        least_data: How many data it can be fitted to at least.
        targets: What it predicts of labelled data; None where it is a density of data without labels.
    """

    name: str
    title: str
    source: str
    defaults: Mapping[str, Any]
    resolve: Callable[[Any, Schema, int], Any] = resolve
    assemble: Callable[..., Any] = assemble
    objective: Callable[[Any, Any], VariationalObjective] = objective
    config_type: type[BaseModel] = VAEConfig
    solve: Callable[[Any, Any, exact.Array, int], Iterator[Iteration]] | None = None
    least_data: int = 2
    targets: Literal["classes", "numbers"] | None = None

    def config(self, options: Mapping[str, Any]) -> Any:
        """The recipe's defaults with the user's options over them, checked.

        Raises:
            ConfigError: If an option doesn't exist or can't take its value.
        """
        if issubclass(self.config_type, bayesian.BayesianConfig):
            options = self.config_type.gathered(options)
        return parse_as(self.config_type, self.defaults, options)

    def likelihood(self, config: Any) -> str:
        """Name of the family of p(x|z), or of labels, in a resolved config."""
        if self.targets == "classes":
            return "categorical"
        if self.targets == "numbers":
            return config.likelihood
        if self.solve is None:
            return config.likelihood
        return getattr(config, "emissions", "bernoulli" if self.name == "bernoulli-mixture" else "normal")


RECIPES: Registry[Recipe] = Registry(
    "model",
    {
        recipe.name: recipe
        for recipe in (
            Recipe(
                "vae",
                "variational autoencoder",
                "Auto-encoding variational Bayes, 2013, https://arxiv.org/abs/1312.6114",
                {},
            ),
            Recipe(
                "beta-vae",
                "autoencoder whose KL counts beta times, for latents that vary apart",
                "beta-VAE, 2017, https://openreview.net/forum?id=Sy2fzU9gl",
                {"beta": 4.0},
            ),
            Recipe(
                "iwae",
                "autoencoder trained on the importance-weighted bound",
                "Importance weighted autoencoders, 2015, https://arxiv.org/abs/1509.00519",
                {"bound": "iwae", "samples": 5},
            ),
            Recipe(
                "linear-vae",
                "linear autoencoder with normal noise; its best fit is probabilistic PCA of the standardised data",
                "Don't blame the ELBO! A linear VAE perspective on posterior collapse, 2019, "
                "https://arxiv.org/abs/1911.02469",
                {"hidden": (), "likelihood": "normal"},
            ),
            *(
                Recipe(
                    name,
                    found.title,
                    found.source,
                    found.defaults,
                    found.resolve,
                    found.assemble,
                    config_type=found.config_type,
                    solve=found.solve,
                    least_data=found.least_data,
                )
                for name, found in exact.EXACT.items()
            ),
            Recipe(
                "bayes-classifier",
                "classifier with a posterior over its network's weights, by any of the methods of jensen.weights",
                "Simple and scalable predictive uncertainty estimation using deep ensembles, 2017, "
                "https://arxiv.org/abs/1612.01474",
                {},
                bayesian.resolve,
                bayesian.assemble,
                config_type=bayesian.ClassifierConfig,
                targets="classes",
            ),
            Recipe(
                "bayes-regressor",
                "regressor with a posterior over its network's weights, by any of the methods of jensen.weights",
                "Simple and scalable predictive uncertainty estimation using deep ensembles, 2017, "
                "https://arxiv.org/abs/1612.01474",
                {},
                bayesian.resolve,
                bayesian.assemble,
                config_type=bayesian.RegressorConfig,
                targets="numbers",
            ),
        )
    },
)
"""Named models."""

__all__ = ["RECIPES", "Recipe", "VAEConfig"]
