"""NUTS on the reference posteriors: effective draws a second, jensen's beside NumPyro's, and whether both are right.

Each run is a process of its own, in turn; a second is one from the process's start to its draws on disk, imports and
compilation included. Effective sample sizes are those of the bulk, rank-normalised and by half chains, the least one
over the reference's scalars; means are compared in combined standard errors, ours and the reference's. Run with
jensen's Python; ``JENSEN_PEERS`` names that of the peers' environment, without which jensen is measured alone.
``--quick`` makes one seed. What is found is merged into ``benchmarks/results/posteriordb_nuts.json``.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from reference import POSTERIORS, read_draws

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
sys.path.insert(0, str(HERE.parent))

RESULT = "posteriordb_nuts"
METHODS = ("jensen", "numpyro")
LIMIT_SECONDS = 900


def ours(posterior: str, seed: int) -> dict[str, np.ndarray]:
    """``jn.inference.mcmc.nuts`` as it comes."""
    import models
    from jensen.inference import mcmc

    draws = mcmc.nuts(models.target(posterior), seed=seed)
    flat = {name: value.flatten(0, 1).numpy() for name, value in draws.values.items()}
    scalars = models.to_reference(posterior, flat)
    return {name: value.reshape(draws.chains, draws.draws) for name, value in scalars.items()}


def numpyros(posterior: str, seed: int) -> dict[str, np.ndarray]:
    """NumPyro's NUTS in float64: 4 chains in parallel, 1,000 draws each after 1,000 of warm-up."""
    import jax
    import numpyro
    import numpyro_models
    from numpyro.infer import MCMC, NUTS

    numpyro.set_host_device_count(4)
    jax.config.update("jax_enable_x64", True)
    data, model = numpyro_models.read_data(posterior), numpyro_models.MODELS[posterior]
    mcmc = MCMC(NUTS(model), num_warmup=1000, num_samples=1000, num_chains=4, progress_bar=False)
    mcmc.run(jax.random.PRNGKey(seed), data)
    scalars = numpyro_models.to_reference(posterior, mcmc.get_samples())
    return {name: np.asarray(value).reshape(4, 1000) for name, value in scalars.items()}


def work(method: str, posterior: str, seed: int, file: str) -> None:
    """In a process of its own: draws of the reference's scalars, (chains, draws) each, to a file."""
    np.savez(file, **{"jensen": ours, "numpyro": numpyros}[method](posterior, seed))


def run(method: str, posterior: str, seed: int) -> dict[str, Any]:
    """One run's seconds and what its draws are worth; or the last line of what went wrong."""
    python = sys.executable if method == "jensen" else os.environ["JENSEN_PEERS"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "draws.npz"
        command = [python, str(HERE / "nuts.py"), "--work", method, posterior, str(seed), str(file)]
        start = time.perf_counter()
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {LIMIT_SECONDS} s"}
        seconds = time.perf_counter() - start
        if done.returncode:
            return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
        with np.load(file) as archive:
            draws = dict(archive)
    return {"seconds": seconds, **worth(draws, read_draws(posterior))}


def worth(draws: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> dict[str, Any]:
    """Least effective size, largest R-hat, and the means' largest distance in combined standard errors."""
    import torch

    from jensen.diagnostics import ess_bulk, mcse_mean, r_hat

    names = list(reference)
    mine = torch.from_numpy(np.stack([draws[name] for name in names], -1))
    theirs = torch.from_numpy(np.stack([reference[name] for name in names], -1))
    errors = torch.hypot(mcse_mean(mine), mcse_mean(theirs))
    distances = (mine.mean((0, 1)) - theirs.mean((0, 1))).abs() / errors
    return {
        "chains": mine.shape[0],
        "draws": mine.shape[1],
        "ess": float(ess_bulk(mine).min()),
        "r_hat": float(r_hat(mine).max()),
        "mean_standard_errors": float(distances.max()),
        "farthest": names[int(distances.argmax())],
    }


def table(found: dict[str, Any]) -> str:
    """In Markdown, one line a posterior; medians over the seeds."""
    lines = [
        "| posterior | ESS/s jensen | ESS/s NumPyro | ratio | seconds jensen | NumPyro | R-hat jensen | NumPyro "
        "| mean off by (SE) jensen | NumPyro |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for posterior in POSTERIORS:
        if posterior not in found:
            continue
        columns = [_median(found[posterior].get(method, {})) for method in METHODS]
        rates = [column["ess"] / column["seconds"] if column else float("nan") for column in columns]
        cells = [f"{rates[0]:.0f}", f"{rates[1]:.0f}", f"{rates[0] / rates[1]:.2f}"]
        for key, digits in (("seconds", 1), ("r_hat", 3), ("mean_standard_errors", 1)):
            cells += [f"{column[key]:.{digits}f}" if column else "failed" for column in columns]
        lines.append(f"| {posterior} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _median(seeds: dict[str, Any]) -> dict[str, float]:
    done = [row for row in seeds.values() if "failed" not in row]
    keys = ("ess", "seconds", "r_hat", "mean_standard_errors")
    return {key: statistics.median(row[key] for row in done) for key in keys} if done else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(5)))
    parser.add_argument("--posteriors", nargs="*", default=list(POSTERIORS), choices=list(POSTERIORS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--again", action="store_true", help="also what was measured before")
    parser.add_argument(
        "--work", nargs=4, metavar=("METHOD", "POSTERIOR", "SEED", "FILE"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    if arguments.work:
        method, posterior, seed, file = arguments.work
        work(method, posterior, int(seed), file)
        return
    from common import compiled, keep, kept

    methods = arguments.methods
    if "JENSEN_PEERS" not in os.environ:
        methods = [method for method in methods if method == "jensen"]
        print("JENSEN_PEERS is not set: jensen alone; see benchmarks/README.md")
    compiled(SOURCE, HERE)
    found: dict[str, Any] = kept(RESULT).get("posteriors", {})
    for posterior in arguments.posteriors:
        for seed in arguments.seeds[:1] if arguments.quick else arguments.seeds:
            for method in methods:
                seeds = found.setdefault(posterior, {}).setdefault(method, {})
                if str(seed) in seeds and not arguments.again:
                    continue
                seeds[str(seed)] = run(method, posterior, seed)
                keep(RESULT, {"posteriors": found})
                print(posterior, method, seed, seeds[str(seed)], file=sys.stderr, flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
