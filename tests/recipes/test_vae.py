from itertools import cycle
from math import isfinite

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.distributions import MultivariateNormal

from conftest import KINDS, made
from jensen import likelihoods
from jensen.bounds import Stage, doubly_reparameterised, elbo, iwae, sticking_the_landing
from jensen.data import Dataset, Schema, from_array, linear_gaussian
from jensen.errors import BoundError, ConfigError, ShapeError, SupportError
from jensen.evaluation import evaluate
from jensen.recipes import RECIPES
from jensen.recipes.vae import AUTO, TIGHTEN, assemble, objective, resolve
from jensen.runs import fit

SMALL = {"epochs": 1, "latent_dim": 2, "batch_size": 32}
CONVOLUTIONAL = {"channels": 3}
NETWORKS = {
    "mlp": {"hidden": 6},
    "conv": CONVOLUTIONAL,
    "residual": CONVOLUTIONAL,
    "residual-mlp": {"width": 6, "blocks": 1},
}
LIKELIHOODS = {
    "binary": ("bernoulli", "continuous-bernoulli", "normal", "categorical", "poisson"),
    "uint8": ("logistic-256", "categorical", "normal", "negative-binomial"),
    "counts": ("poisson", "negative-binomial", "normal", "categorical"),
    "real": ("normal",),
}
LATENTS = (
    ("normal", "normal"),
    ("learned-normal", "full-normal"),
    ("mixture", "normal"),
    ("class", "class"),
    ("normal", "full-normal"),
    ("learned-normal", "normal"),
    ("mixture", "full-normal"),
)


def fitted_numbers(dataset: Dataset, recipe: str = "vae", **options: object):
    widths = NETWORKS[str(options.get("network", "mlp"))]
    run = fit(dataset, recipe, {**SMALL, **widths, **options}, valid=0.2)
    assert run.history[-1]["skipped"] == 0
    numbers = evaluate(run.model, run.prepare(dataset), 3)
    for key in ("elbo", "nll", "nll_standard_error", "reconstruction_error"):
        assert isfinite(numbers[key]), (key, numbers)
    drawn = run.model.sample(5)
    assert drawn.shape == (5, *dataset.schema.event_shape)
    run.model.likelihood.check(drawn)
    return run, numbers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "recipe", [name for name, recipe in RECIPES.items() if recipe.solve is None and recipe.targets is None]
)
def test_every_recipe_fits_every_kind_of_data(recipe: str, kind: str) -> None:
    run, _ = fitted_numbers(made(kind), recipe)
    expected = "normal" if recipe == "linear-vae" else AUTO[kind]
    assert run.config.likelihood == expected


def combinations() -> list[tuple[str, str, str, str, str]]:
    """Every likelihood with two networks, and every latent with most of both."""
    latents = cycle(LATENTS)
    pairs = [(kind, each) for kind in KINDS for each in LIKELIHOODS[kind]]
    return [
        (*pair, network, *next(latents))
        for place, pair in enumerate(pairs)
        for network in list(NETWORKS)[place % 2 :: 2]
    ]


@pytest.mark.parametrize(("kind", "likelihood", "network", "prior", "posterior"), combinations())
def test_parts_go_together(kind: str, likelihood: str, network: str, prior: str, posterior: str) -> None:
    options: dict[str, object] = {"gradient": "score", "samples": 2} if prior == "class" else {}
    if prior == "mixture":
        options["components"] = 3
    run, numbers = fitted_numbers(
        made(kind), likelihood=likelihood, network=network, prior=prior, posterior=posterior, **options
    )
    assert type(run.model.likelihood) is likelihoods.LIKELIHOODS[likelihood]
    assert isfinite(numbers["nll"])


@pytest.mark.parametrize(
    "options",
    [
        {"bound": "iwae", "samples": 3},
        {"bound": "iwae", "samples": 3, "gradient": "score"},
        {"bound": "renyi", "samples": 3},
        {"gradient": "sticking-the-landing"},
        {"gradient": "score", "samples": 3, "beta": 2.0},
        {"free_bits": 0.5, "kl_warm_up": 3.0},
        {"averaging": None, "clip_norm": None, "patience": None, "guard": False, "decay": False},
        {"dropout": 0.3, "input_dropout": 0.3, "weight_decay": 0.1},
        {"scale": "network"},
        {"scale": "per-dimension"},
        {"scale": 0.3},
    ],
    ids=str,
)
def test_options_of_training(options: dict[str, object]) -> None:
    run, numbers = fitted_numbers(made("real"), **options)
    assert options.items() <= run.config.model_dump().items()
    assert isfinite(numbers["nll"])


@pytest.mark.parametrize("kind", KINDS)
def test_likelihood_is_chosen_from_the_data(kind: str) -> None:
    config = resolve(RECIPES["vae"].config({}), made(kind).schema, 60)
    assert (
        config.likelihood
        == {
            "binary": "bernoulli",
            "uint8": "logistic-256",
            "counts": "negative-binomial",
            "real": "normal",
        }[kind]
    )


def test_epochs_are_more_for_small_data() -> None:
    schema, config = Schema((2,), "real"), RECIPES["vae"].config({"batch_size": 10})
    # One step an epoch, five, twenty, a thousand: at least 2,000 steps and 200 epochs.
    assert [resolve(config, schema, n).epochs for n in (7, 41, 200, 10_000)] == [2000, 400, 200, 200]
    assert resolve(config.model_copy(update={"epochs": 3}), schema, 7).epochs == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": "class"}, "both prior='class' and posterior='class'"),
        ({"posterior": "class"}, "both prior='class' and posterior='class'"),
        ({"prior": "class", "posterior": "class"}, "use gradient='score' and samples=8"),
        ({"gradient": "score"}, "try samples=8"),
        ({"gradient": "doubly-reparameterised"}, "that of bound='iwae'"),
        ({"bound": "iwae", "beta": 2}, "use them with bound='elbo'"),
        ({"bound": "iwae", "free_bits": 1}, "use them with bound='elbo'"),
        ({"bound": "renyi", "kl_warm_up": 1}, "use them with bound='elbo'"),
        (
            {"channels": 4},
            "channels is for network='conv' or 'residual' .*; leave channels out, or set network",
        ),
        ({"network": "residual-mlp", "hidden": 4}, "hidden is for network='mlp'"),
        ({"width": 4}, "width is for network='residual-mlp'"),
        ({"components": 3}, "components is for prior='mixture'"),
        ({"likelihood": "normal", "classes": 4}, "classes is for likelihood='categorical'"),
        ({"tighten": 0.2, "beta": 2}, "beta or free_bits weigh the KL; leave it out"),
        ({"tighten": 0.2, "bound": "iwae"}, "bound is 'iwae' already"),
        ({"tighten": 0.2, "gradient": "score", "samples": 4}, "it takes path-wise gradients"),
        ({"tighten_samples": 7, "tighten": 0}, "tighten_samples would do nothing"),
        ({"tighten_samples": 7, "beta": 2}, "tighten_samples would do nothing"),
        ({"tighten_samples": 1}, "should be greater than 1"),
        ({"tighten": 1}, "should be less than 1"),
        ({"scale": -1}, "a number above 0"),
        ({"scale": float("nan")}, "a finite number"),
    ],
    ids=str,
)
def test_choices_that_contradict_each_other(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(made("real"), options={**SMALL, **options})


def test_free_bits_with_the_score_function() -> None:
    with pytest.raises(BoundError, match="use beta or warm_up"):
        fit(made("real"), options={**SMALL, "free_bits": 1, "gradient": "score", "samples": 2})


@pytest.mark.parametrize("network", ["conv", "residual"])
def test_images_are_needed_by_convolutions(network: str) -> None:
    with pytest.raises(ShapeError, match=r"got \(5,\); reshape the data or use network='mlp'"):
        fit(made("real", shape=(5,)), options={**SMALL, "network": network})
    with pytest.raises(ShapeError, match="too small to be halved 3 times; give fewer channels"):
        fit(made("real"), options={**SMALL, "network": network, "channels": "2,2,2"})


@pytest.mark.parametrize(
    ("kind", "likelihood", "wanted"),
    [
        ("uint8", "bernoulli", "0 or 1"),
        ("uint8", "continuous-bernoulli", "between 0 and 1"),
        ("real", "poisson", "choose another likelihood"),
        ("real", "logistic-256", "integers from 0 to 255"),
        ("real", "categorical", "choose another likelihood"),
    ],
)
def test_likelihood_that_can_not_have_made_the_data(kind: str, likelihood: str, wanted: str) -> None:
    with pytest.raises(SupportError, match=wanted):
        fit(made(kind), options={**SMALL, "likelihood": likelihood})


def test_classes_that_are_too_few() -> None:
    with pytest.raises(SupportError, match="number of classes less one"):
        fit(made("uint8"), options={**SMALL, "likelihood": "categorical", "classes": 10})


@pytest.mark.parametrize("scale", ["learned", "per-dimension", "network"])
@pytest.mark.parametrize("kind", KINDS)
def test_constant_columns(kind: str, scale: str) -> None:
    x = made(kind, shape=(4,)).x.copy()
    x[:, 1] = 1
    x[:, 3] = 0
    likelihood = "normal" if scale != "learned" else "auto"
    run, numbers = fitted_numbers(from_array(x), scale=scale, likelihood=likelihood, epochs=3)
    assert all(torch.isfinite(value).all() for value in run.model.state_dict().values())
    assert isfinite(numbers["elbo"])


def test_data_whose_squares_overflow_are_refused() -> None:
    x = made("real", shape=(3,)).x * np.float32(1e20)
    with pytest.raises(SupportError, match=r"as large as .*e\+20, .* divide them by a power of ten"):
        fit(from_array(x), options=SMALL)


@pytest.mark.parametrize("likelihood", ["poisson", "negative-binomial"])
def test_counts_begin_at_their_mean(likelihood: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.poisson([0.0, 0.1, 3.0, 20_000.0], size=(200, 4))
    config = resolve(RECIPES["vae"].config({"likelihood": likelihood}), from_array(x).schema, len(x))
    model = assemble(config, from_array(x).schema, torch.as_tensor(x).float())
    neutral = torch.zeros(1, 1, 4)
    started = model.likelihood.cells(neutral).mean[0].detach()
    # A column without a count begins at half a count in all.
    torch.testing.assert_close(started[1:], torch.as_tensor(x).float().mean(0)[1:])
    assert float(started[0]) == pytest.approx(0.5 / 200)
    # Weights are loaded into a model that knows no data, and the level comes with them.
    other = assemble(config, from_array(x).schema)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.likelihood.cells(neutral).mean[0].detach(), started)


def test_all_columns_constant() -> None:
    _, numbers = fitted_numbers(from_array(np.full((30, 3), 2.5)), epochs=3)
    assert isfinite(numbers["nll"])


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e6])
def test_units_of_the_data_do_not_matter(scale: float) -> None:
    # Powers of ten are rounded in float32, and the difference grows in the steps of training.
    one, other = made("real", shape=(3,)), made("real", shape=(3,)).x * np.float32(scale)
    _, numbers = fitted_numbers(one, epochs=2)
    _, scaled = fitted_numbers(from_array(other), epochs=2)
    assert scaled["nll"] == pytest.approx(numbers["nll"] + 3 * np.log(scale), abs=1e-2)


def test_objectives_are_those_of_their_names() -> None:
    schema = Schema((3,), "real")

    def made_objective(name: str):
        config = resolve(RECIPES[name].config({}), schema, 10)
        return objective(assemble(config, schema), config)

    plain, weighted, many = (made_objective(name) for name in ("vae", "beta-vae", "iwae"))
    tight = Stage(iwae, doubly_reparameterised, 10)
    assert (plain.stages, plain.beta) == ((Stage(elbo, sticking_the_landing, 1), tight), 1.0)
    assert [stage.bound for stage in weighted.stages] == [elbo, elbo]
    assert weighted.beta == 4.0
    assert many.stages == (Stage(iwae, doubly_reparameterised, 5),) * 2


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({}, TIGHTEN),
        ({"tighten": 0.5}, 0.5),
        ({"tighten": 0}, 0.0),
        ({"kl_warm_up": 3}, TIGHTEN),
        ({"gradient": "pathwise", "samples": 4}, TIGHTEN),
        ({"network": "residual-mlp"}, TIGHTEN),
        ({"batch_size": 700_000}, 0.0),
        ({"likelihood": "categorical", "classes": 8000}, 0.0),
        ({"beta": 2}, 0.0),
        ({"free_bits": 0.1}, 0.0),
        ({"bound": "iwae"}, 0.0),
        ({"gradient": "score", "samples": 4}, 0.0),
        ({"prior": "class", "posterior": "class", "gradient": "score", "samples": 4}, 0.0),
    ],
    ids=str,
)
def test_the_fit_of_an_elbo_ends_on_a_tighter_bound(options: dict[str, object], part: float) -> None:
    config = resolve(RECIPES["vae"].config(options), Schema((3,), "real"), 10)
    assert config.tighten == part
    stages = objective(assemble(config, Schema((3,), "real")), config).stages
    assert (stages[0] != stages[1]) == (part > 0)


def test_the_history_says_which_bound_was_maximised() -> None:
    data = made("real")
    run = fit(data, options={**SMALL, "epochs": 4, "tighten": 0.5, "tighten_samples": 20}, valid=0.2)
    assert [record["stage"] for record in run.history] == [0, 0, 1, 1]
    for record in run.history:
        assert ("bound" in record["train"]) == ("bound" in record["valid"]) == (record["stage"] == 1)
    assert all(r["valid"]["bound"] > r["valid"]["elbo"] for r in run.history[2:])
    best = [record["epoch"] for record in run.history if record["best"]][-1]
    assert best > 2
    # What is kept are the weights of the best bound of the second stage.
    many = fit(data, options={**SMALL, "epochs": 4, "bound": "iwae", "samples": 20}, valid=0.2)
    assert all(record["valid"]["bound"] > record["valid"]["elbo"] for record in many.history)


def test_linear_vae_approaches_the_maximum_likelihood_of_probabilistic_pca() -> None:
    problem = linear_gaussian(n=500, data_dim=6, latent_dim=2, noise_scale=0.6, seed=1)
    x = problem.x.numpy()
    options = {"latent_dim": 2, "epochs": 800, "batch_size": 500, "learning_rate": 0.02}
    run = fit(from_array(x), "linear-vae", options)
    # The model's noise is isotropic in standardised units.
    standardised = (x - x.mean(0)) / x.std(0)
    best = PCA(2).fit(standardised).score(standardised) - np.log(x.std(0)).sum()
    likelihood = run.model.likelihood.double()
    z = torch.zeros(1, 2, dtype=torch.float64)
    weight = torch.autograd.functional.jacobian(lambda z: likelihood(z).mean[0], z)[:, 0]
    with torch.no_grad():
        given_zero = likelihood(z)
        covariance = weight @ weight.mT + torch.diag(given_zero.variance[0])
        fitted = float(MultivariateNormal(given_zero.mean[0], covariance).log_prob(problem.x).mean())
    # Nothing of this family exceeds the maximum but by the rounding of float32 weights; Adam comes near.
    assert fitted <= best + 1e-5
    assert fitted >= best - 0.005
    # And the linear encoder with a diagonal covariance can reach the exact posterior up to a rotation.
    numbers = evaluate(run.model.double(), problem.x, 200)
    assert -numbers["nll"] == pytest.approx(fitted, abs=1e-5 + 4 * numbers["nll_standard_error"])
    assert 0 <= numbers["gap"] < 0.01
