"""Checks the log-joints of models.py: against NumPyro's, and against the reference draws by their own score.

Run with the peers' Python. Over draws of the posterior itself the mean of the log-density's gradient in
unconstrained coordinates is zero; its error is a multiple of the standard error (draws are thinned, so about
independent). A wrong prior, predictor or Jacobian shows as a multiple far above 4.
"""

import sys

import jax
import numpy as np
import numpyro_models
import torch
from numpyro.infer.util import log_density
from reference import POSTERIORS, read_data, read_draws
from torch import Tensor

from models import from_reference, log_joint, target, to_reference


def check(name: str) -> tuple[float, float, float, float]:
    """Errors of one posterior.

    Returns:
        The largest difference of our log-joint from NumPyro's, nats; of the loop from the form without, nats; of
        draws mapped to our parameters and back, in standard deviations; the largest mean score in standard errors.
    """
    draws = read_draws(name)
    values = from_reference(name, draws)
    back = to_reference(name, {key: value.numpy() for key, value in values.items()})
    round_trip = max(
        float(np.abs(back[key] - value.reshape(-1)).max() / value.std()) for key, value in draws.items()
    )

    some = {key: value[::500] for key, value in values.items()}
    ours = torch.vmap(log_joint(name))(some).numpy()
    without_loops = torch.vmap(log_joint(name, loops=False))(some).numpy()
    data, model = read_data(name), numpyro_models.MODELS[name]
    of_one = jax.jit(jax.vmap(lambda point: log_density(model, (data,), {}, point)[0]))
    theirs = np.asarray(of_one({key: value.numpy() for key, value in some.items()}))

    problem = target(name, loops=False)
    points = problem.unconstrain(values)
    gradients = torch.cat([problem.value_and_gradient(part)[1] for part in points.split(500)])
    score = (gradients.mean(0) / standard_errors(gradients)).abs().max()
    return (
        float(np.abs(ours - theirs).max()),
        float(np.abs(ours - without_loops).max()),
        round_trip,
        float(score),
    )


def standard_errors(values: Tensor) -> Tensor:
    """Of the means of columns (draws, dim) from ten chains one after the other, by the means of batches of 50."""
    batches = values.reshape(-1, 50, values.shape[1]).mean(1)
    return batches.std(0) / len(batches) ** 0.5


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    wrong = False
    print(f"{'posterior':18} {'NumPyro':>9} {'loops':>9} {'there and back':>15} {'mean score / se':>16}")
    for name in POSTERIORS:
        numpyro_nats, loops_nats, round_trip, score = check(name)
        print(f"{name:18} {numpyro_nats:9.1e} {loops_nats:9.1e} {round_trip:15.1e} {score:16.2f}", flush=True)
        wrong |= max(numpyro_nats, loops_nats, round_trip) > 1e-6 or score > 4.5
    sys.exit(wrong)


if __name__ == "__main__":
    main()
