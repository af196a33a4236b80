"""One fit of one reference posterior in a process of its own: ``worker.py METHOD POSTERIOR SEED FILE [--seconds]``.

The method is ``jensen:METHOD`` or a peer's. Draws of the reference's scalars go to FILE (.npz); one line of JSON on
standard output tells the seconds after imports, when the result was there, and what else the method says about
itself. Only what the method needs is imported.
"""

import argparse
import importlib
import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

DRAWS = 20_000

Outcome = tuple[dict[str, np.ndarray], dict[str, Any]]
Job = Callable[[str, int], Outcome]


def jensen(method: str) -> Job:
    """``jn.inference.fit`` with a method of that name."""
    inference = importlib.import_module("jensen.inference")
    models = importlib.import_module("models")

    def job(name: str, seed: int) -> Outcome:
        fit = inference.fit(models.target(name), method=method, seed=seed)
        draws = fit.sample(DRAWS, seed=seed + 1)
        said = {"pareto_k": float(fit.pareto_k), "elbo": float(fit.elbo)}
        return models.to_reference(name, {key: value.numpy() for key, value in draws.items()}), said

    return job


def numpyro_svi(guide_name: str) -> Job:
    """NumPyro's SVI: 10,000 steps of Adam at 1e-2 in float64, without its progress bar."""
    import jax
    import numpyro
    import numpyro_models
    from numpyro.infer import SVI, Trace_ELBO, autoguide

    jax.config.update("jax_enable_x64", True)

    def job(name: str, seed: int) -> Outcome:
        data, model = numpyro_models.read_data(name), numpyro_models.MODELS[name]
        guide = getattr(autoguide, guide_name)(model)
        svi = SVI(model, guide, numpyro.optim.Adam(1e-2), Trace_ELBO())
        result = svi.run(jax.random.PRNGKey(seed), 10_000, data, progress_bar=False)
        draws = guide.sample_posterior(jax.random.PRNGKey(seed + 1), result.params, sample_shape=(DRAWS,))
        elbo = -float(np.mean(np.asarray(result.losses)[-500:]))
        return numpyro_models.to_reference(name, draws), {"elbo": elbo}

    return job


def numpyro_nuts() -> Job:
    """NumPyro's NUTS: 4 chains in parallel, 1,000 draws each after 1,000 of warm-up."""
    import jax
    import numpyro
    import numpyro_models
    from numpyro.infer import MCMC, NUTS

    numpyro.set_host_device_count(4)
    jax.config.update("jax_enable_x64", True)

    def job(name: str, seed: int) -> Outcome:
        data, model = numpyro_models.read_data(name), numpyro_models.MODELS[name]
        mcmc = MCMC(NUTS(model), num_warmup=1000, num_samples=1000, num_chains=4, progress_bar=False)
        mcmc.run(jax.random.PRNGKey(seed), data)
        return numpyro_models.to_reference(name, mcmc.get_samples()), {}

    return job


def blackjax_pathfinder() -> Job:
    """BlackJAX's Pathfinder on NumPyro's density, from one uniform start within 2 of the origin."""
    import blackjax
    import jax
    import numpyro_models
    from numpyro.infer.util import initialize_model

    jax.config.update("jax_enable_x64", True)

    def job(name: str, seed: int) -> Outcome:
        data, model = numpyro_models.read_data(name), numpyro_models.MODELS[name]
        start, path, sample = jax.random.split(jax.random.PRNGKey(seed), 3)
        info, potential, constrain, _ = initialize_model(start, model, model_args=(data,))
        state, _ = blackjax.vi.pathfinder.approximate(path, lambda z: -potential(z), info.z)
        points, _ = blackjax.vi.pathfinder.sample(sample, state, DRAWS)
        draws = jax.jit(jax.vmap(constrain))(points)
        return numpyro_models.to_reference(name, draws), {"elbo": float(state.elbo)}

    return job


def pymc_advi(method: str) -> Job:
    """PyMC's ADVI with its own defaults, 10,000 steps; for the posteriors that pymc_models.py has."""
    import logging

    import pymc as pm
    import pymc_models

    logging.getLogger("pymc").setLevel(logging.ERROR)

    def job(name: str, seed: int) -> Outcome:
        with pymc_models.model(name):
            approximation = pm.fit(10_000, method=method, random_seed=seed, progressbar=False)
            draws = approximation.sample(DRAWS, random_seed=seed + 1, return_inferencedata=False)
        values = {key: draws[key] for key in pymc_models.PARAMETERS[name]}
        return pymc_models.to_reference(name, values), {"elbo": -float(np.mean(approximation.hist[-500:]))}

    return job


PEERS: dict[str, Callable[[], Job]] = {
    "numpyro AutoNormal": lambda: numpyro_svi("AutoNormal"),
    "numpyro AutoMultivariateNormal": lambda: numpyro_svi("AutoMultivariateNormal"),
    "numpyro NUTS": numpyro_nuts,
    "blackjax Pathfinder": blackjax_pathfinder,
    "pymc ADVI": lambda: pymc_advi("advi"),
    "pymc full-rank ADVI": lambda: pymc_advi("fullrank_advi"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", help="jensen:METHOD, or one of: " + ", ".join(PEERS))
    parser.add_argument("posterior")
    parser.add_argument("seed", type=int)
    parser.add_argument("file")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    before = time.perf_counter()
    library, _, method = arguments.method.partition(":")
    job = jensen(method) if library == "jensen" else PEERS[arguments.method]()
    start = time.perf_counter()
    draws, said = job(arguments.posterior, arguments.seed)
    seconds = {"seconds_after_imports": time.perf_counter() - start, "seconds_of_imports": start - before}
    seconds["result_at"] = time.time()
    np.savez(arguments.file, **draws)
    print(json.dumps(seconds | said))


if __name__ == "__main__":
    main()
