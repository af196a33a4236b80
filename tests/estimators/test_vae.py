from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import jensen as jn
from jensen.errors import ConfigError, DataError, RunError, ShapeError, SupportError
from jensen.evaluation import evidence
from jensen.runs import Silent

IRIS = load_iris().data
DIGITS = (load_digits().images * 15).astype(np.uint8)[:200]


def small(**options: object) -> jn.VAE:
    return jn.VAE(
        **{"latent_dim": 2, "epochs": 2, "evidence_samples": 20, "random_state": 0, **options},
    )


@pytest.fixture(scope="module")
def fitted() -> jn.VAE:
    return small(epochs=60, learning_rate=1e-2, options={"hidden": 20}).fit(IRIS)


def test_scikit_learns_checks() -> None:
    results = check_estimator(jn.VAE(latent_dim=2, epochs=2, evidence_samples=20), on_fail=None, on_skip=None)
    # Tests check types at run time, which is not what the estimator does on parameters of wrong types.
    checked = [
        r for r in results if not type(r["exception"]).__module__.startswith(("jaxtyping", "beartype"))
    ]
    assert [r["check_name"] for r in checked if r["status"] not in ("passed", "skipped")] == []
    assert len(checked) >= len(results) - 1
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= {"check_array_api_input"}
    assert len(results) > 30


def test_parameters_and_clones() -> None:
    vae = jn.VAE(3, prior="mixture", options={"components": 4}, random_state=5)
    again = clone(vae)
    assert again.get_params() == vae.get_params()
    assert again.set_params(latent_dim=7).latent_dim == 7
    assert not hasattr(again, "run_")
    with pytest.raises(NotFittedError):
        again.transform(IRIS)


def test_shapes_and_types(fitted: jn.VAE) -> None:
    z = fitted.transform(IRIS)
    assert z.shape == (150, 2)
    assert fitted.inverse_transform(z).shape == IRIS.shape
    assert fitted.reconstruct(IRIS).shape == IRIS.shape
    assert fitted.score_samples(IRIS).shape == (150,)
    assert fitted.sample(7).shape == (7, 4)
    assert isinstance(fitted.score(IRIS), float)
    assert (fitted.n_features_in_, fitted.likelihood_, fitted.n_iter_) == (4, "normal", 60)


def test_inverse_transform_decodes_the_means(fitted: jn.VAE) -> None:
    z = fitted.transform(IRIS)
    np.testing.assert_allclose(fitted.inverse_transform(z), fitted.reconstruct(IRIS), rtol=1e-12)
    # It comes nearer to the data than their mean does.
    assert ((fitted.reconstruct(IRIS) - IRIS) ** 2).mean() < 0.3 * IRIS.var(0).mean()


def test_scores_are_importance_sampled_densities(fitted: jn.VAE) -> None:
    scores = fitted.set_params(evidence_samples=20).score_samples(IRIS)
    model, x = fitted.run_.model, torch.as_tensor(IRIS, dtype=torch.float32)
    exact = evidence(model, x, 4000, seed=1)
    few = evidence(model, x, 20, seed=2)
    error = np.hypot(exact.standard_error.numpy(), few.standard_error.numpy())
    # Data share their noise, so the error of the mean is about the mean of the errors.
    assert abs(scores.mean() - float(exact.value.mean())) <= 4 * error.mean()
    assert fitted.score(IRIS) == pytest.approx(scores.mean())


def test_data_like_those_it_was_fitted_on_score_higher(fitted: jn.VAE) -> None:
    noise = np.random.default_rng(0).normal(IRIS.mean(0), 2 * IRIS.std(0), IRIS.shape)
    assert fitted.score(IRIS) > fitted.score(noise) + 1
    assert np.median(fitted.score_samples(IRIS)) > np.quantile(fitted.score_samples(noise), 0.9)


def test_a_score_does_not_depend_on_the_other_data(fitted: jn.VAE) -> None:
    scores = fitted.score_samples(IRIS)
    np.testing.assert_allclose(fitted.score_samples(IRIS[20:21]), scores[20:21], rtol=1e-10)
    np.testing.assert_allclose(fitted.score_samples(IRIS[::-1]), scores[::-1], rtol=1e-10)
    np.testing.assert_allclose(fitted.transform(IRIS[20:21]), fitted.transform(IRIS)[20:21], rtol=1e-10)


def test_samples_are_reproducible(fitted: jn.VAE) -> None:
    assert np.array_equal(fitted.sample(5), fitted.sample(5))
    assert np.array_equal(fitted.sample(5, random_state=3), fitted.sample(5, random_state=3))
    assert not np.array_equal(fitted.sample(5, random_state=3), fitted.sample(5))


def test_samples_are_like_the_data(fitted: jn.VAE) -> None:
    drawn = fitted.sample(4000)
    assert (abs(drawn.mean(0) - IRIS.mean(0)) < 0.5 * IRIS.std(0)).all()


def test_random_states() -> None:
    same = [small(random_state=7).fit(IRIS).transform(IRIS) for _ in range(2)]
    assert np.array_equal(*same)
    states = [small(random_state=np.random.RandomState(7)).fit(IRIS).transform(IRIS) for _ in range(2)]
    assert np.array_equal(*states)
    assert not np.array_equal(same[0], small(random_state=8).fit(IRIS).transform(IRIS))
    free = [small(random_state=None).fit(IRIS).transform(IRIS) for _ in range(2)]
    assert not np.array_equal(*free)
    # One RandomState moves on from fit to fit.
    state = np.random.RandomState(7)
    first, second = (small(random_state=state).fit(IRIS).transform(IRIS) for _ in range(2))
    assert not np.array_equal(first, second)


def test_pipelines_and_searches() -> None:
    pipeline = make_pipeline(StandardScaler(), small(epochs=1))
    assert pipeline.fit_transform(IRIS).shape == (150, 2)
    assert np.isfinite(pipeline.score(IRIS))
    search = GridSearchCV(small(epochs=1), {"latent_dim": [1, 2]}, cv=2).fit(IRIS)
    assert search.best_params_["latent_dim"] in (1, 2)


def test_tables_keep_their_columns() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(IRIS, columns=["a", "b", "c", "d"])
    vae = small().fit(frame)
    assert list(vae.feature_names_in_) == ["a", "b", "c", "d"]
    assert vae.run_.schema.columns == ("a", "b", "c", "d")
    assert vae.transform(frame).shape == (150, 2)
    with pytest.raises(ValueError, match="same order"):
        vae.transform(frame[["b", "a", "c", "d"]])
    with pytest.raises(ValueError, match="feature names"):
        vae.transform(frame.rename(columns={"a": "z"}))


def test_images() -> None:
    vae = small(options={"hidden": 8}).fit(DIGITS)
    assert vae.likelihood_ == "logistic-256"
    assert vae.transform(DIGITS).shape == (200, 2)
    assert vae.reconstruct(DIGITS).shape == DIGITS.shape
    assert vae.inverse_transform(np.zeros((3, 2))).shape == (3, 8, 8)
    assert vae.sample(2).shape == (2, 8, 8)
    assert np.isfinite(vae.score_samples(DIGITS)).all()
    with pytest.raises(SupportError, match="holds real data"):
        vae.transform(DIGITS + 0.5)


@pytest.mark.parametrize(
    ("x", "likelihood"),
    [
        (DIGITS.reshape(200, -1) > 100, "bernoulli"),
        (DIGITS.reshape(200, -1).astype(int) // 16, "negative-binomial"),
        (IRIS, "normal"),
    ],
    ids=["binary", "counts", "real"],
)
def test_likelihood_is_chosen(x: np.ndarray, likelihood: str) -> None:
    assert small(epochs=1).fit(x).likelihood_ == likelihood


@pytest.mark.parametrize("images", [False, True])
def test_save_and_load(tmp_path: Path, fitted: jn.VAE, images: bool) -> None:
    x = DIGITS if images else IRIS
    vae = small(options={"hidden": 8}).fit(DIGITS) if images else fitted
    vae.save(tmp_path / "run")
    loaded = jn.load(tmp_path / "run").set_params(evidence_samples=vae.evidence_samples)
    assert np.array_equal(loaded.transform(x), vae.transform(x))
    assert np.array_equal(loaded.score_samples(x), vae.score_samples(x))
    assert np.array_equal(loaded.sample(3, random_state=1), vae.sample(3, random_state=1))
    assert loaded.n_features_in_ == vae.n_features_in_
    assert loaded.likelihood_ == vae.likelihood_
    assert loaded.n_iter_ == vae.n_iter_
    assert loaded.latent_dim == 2
    with pytest.raises(ValueError, match="features"):
        loaded.transform(x[:, :3])


def test_a_loaded_model_is_fitted_again_alike(tmp_path: Path) -> None:
    vae = small(prior="mixture", options={"hidden": 8, "components": 3}).fit(IRIS)
    vae.save(tmp_path)
    again = clone(jn.load(tmp_path)).fit(IRIS)
    assert np.array_equal(again.transform(IRIS), vae.transform(IRIS))


def test_a_recipe_with_its_own_defaults_is_fitted_again_alike(tmp_path: Path) -> None:
    # Its likelihood and number of latents are other than those of the estimator.
    vae = small(recipe="linear-vae", epochs=1, latent_dim=16).set_params(options={"latent_dim": 16})
    vae.fit(IRIS)
    vae.save(tmp_path)
    loaded = jn.load(tmp_path)
    assert loaded.run_.config.latent_dim == 16
    assert clone(loaded).fit(IRIS).run_.config == vae.run_.config


def test_loaded_columns(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(IRIS, columns=["a", "b", "c", "d"])
    vae = small().fit(frame)
    vae.save(tmp_path)
    loaded = jn.load(tmp_path)
    assert list(loaded.feature_names_in_) == ["a", "b", "c", "d"]
    assert np.array_equal(loaded.transform(frame), vae.transform(frame))


def test_validation_fraction_holds_data_out() -> None:
    vae = small(validation_fraction=0.2).fit(IRIS)
    assert vae.run_.about["n_valid"] == 30
    assert vae.run_.history[-1]["valid"] is not None
    assert small().fit(IRIS).run_.history[-1]["valid"] is None


def test_recipes_and_options() -> None:
    config = small(recipe="iwae", options={"samples": 2, "hidden": 5}).fit(IRIS).run_.config
    assert (config.bound, config.gradient, config.samples) == ("iwae", "doubly-reparameterised", 2)
    assert (config.latent_dim, config.hidden, config.epochs) == (2, (5,), 2)


def test_watcher() -> None:
    seen: list[int] = []
    watcher = Silent()
    watcher.step = seen.append
    small(epochs=1).fit(IRIS, watcher=watcher)
    assert sum(seen) == 150


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"options": {"hiden": 3}}, ConfigError, "unknown option 'hiden'; did you mean 'hidden'"),
        ({"recipe": "vea"}, ConfigError, "unknown model 'vea'"),
        ({"prior": "norml"}, ConfigError, "unknown prior 'norml'; did you mean 'normal'"),
        ({"latent_dim": 0}, ConfigError, "option latent_dim: .*greater than 0"),
        ({"likelihood": "bernoulli"}, SupportError, "0 or 1"),
        ({"network": "conv"}, ShapeError, "use network='mlp'"),
        ({"validation_fraction": 2.0}, DataError, "Give a number between 0 and 1"),
        ({"device": "gpu"}, ConfigError, "unknown device 'gpu'"),
    ],
    ids=str,
)
def test_wrong_parameters(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        small(**options).fit(IRIS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_cells_that_are_not_finite(fitted: jn.VAE, value: float) -> None:
    x = IRIS.copy()
    x[3, 2] = value
    for call in (small().fit, fitted.transform, fitted.score_samples):
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            call(x)


def test_labels_in_place_of_data() -> None:
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        small().fit(load_iris().target)


def test_other_columns(fitted: jn.VAE) -> None:
    with pytest.raises(ValueError, match="X has 3 features, but VAE is expecting 4"):
        fitted.transform(IRIS[:, :3])
    with pytest.raises(ShapeError, match=r"latents should have shape \(n, 2\), got \(2, 1\)"):
        fitted.inverse_transform(np.zeros((2, 1)))


def test_one_row() -> None:
    with pytest.raises(DataError, match="at least 2 data, got n_samples = 1"):
        small().fit(IRIS[:1])


def test_constant_columns() -> None:
    x = IRIS.copy()
    x[:, 1] = 3.0
    vae = small().fit(x)
    assert np.isfinite(vae.score_samples(x)).all()
    assert np.isfinite(vae.transform(x)).all()


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a Run"):
        jn.load(tmp_path)


def test_the_embedding_has_names_and_can_be_a_data_frame(fitted: jn.VAE) -> None:
    assert list(fitted.get_feature_names_out()) == ["vae0", "vae1"]
    framed = clone(fitted).set_output(transform="polars").fit(IRIS).transform(IRIS[:3])
    assert framed.columns == ["vae0", "vae1"]
    assert framed.shape == (3, 2)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("ppca", "ppca is no autoencoder, so VAE can't fit it; give one of vae, beta-vae, iwae, linear-vae"),
        ("bayes-classifier", "bayes-classifier is no autoencoder"),
        ("vea", "unknown model 'vea'; did you mean 'vae'"),
    ],
)
def test_recipes_that_are_no_autoencoders(recipe: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(recipe=recipe).fit(IRIS)


@pytest.mark.parametrize("n", [0, -1])
def test_numbers_of_draws_that_are_none(fitted: jn.VAE, n: int) -> None:
    for estimator in (fitted, jn.PPCA(1).fit(IRIS)):
        with pytest.raises(ConfigError, match=f"n_samples is a whole number of at least 1, got {n}"):
            estimator.sample(n)
