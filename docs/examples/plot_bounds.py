r"""
Bounds on log p(x), and an estimate that is none
================================================

On a linear-Gaussian model :math:`\log p(x)` is known, and so is every Rényi divergence between the approximate
and the true posterior. This page holds the bounds of :mod:`jensen.bounds` against these exact values, for an
approximate posterior that is wrong on purpose: independent dimensions, a little too wide, and off its place.
"""

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.distributions import Independent, MultivariateNormal, Normal

import jensen as jn
from jensen.bounds import cubo_estimate, elbo, iwae, renyi

torch.manual_seed(0)
problem = jn.data.linear_gaussian(n=20, data_dim=5, latent_dim=2, noise_scale=1.0, seed=0)
x = problem.x
log_px = float(problem.log_prob(x).mean())

# %%
# The model, of parts
# -------------------
# A posterior is a Conditional: a module that takes data and returns a distribution.


class OffPosterior(jn.distributions.Conditional):
    """The exact posterior with its correlation left out, widened and shifted."""

    def forward(self, context=None):
        exact = problem.posterior(context)
        scale = 1.1 * exact.stddev
        return Independent(Normal(exact.mean + 0.8 * scale, scale), 1)


class Decoder(torch.nn.Module):
    """The matrix and the mean that made the data."""

    def forward(self, z):
        return (z @ problem.weight.T + problem.mean).unsqueeze(-2)


model = jn.models.LatentVariableModel(
    prior=jn.priors.StandardNormal(2).double(),
    posterior=OffPosterior(),
    likelihood=jn.likelihoods.Normal(Decoder(), (5,), scale=problem.noise_scale).double(),
)

# %%
# The exact values
# ----------------
# The Rényi bound of order :math:`\alpha` lies :math:`D_\alpha(q \,\|\, p(z|x))` below :math:`\log p(x)`; the chi
# bound of order :math:`n` lies :math:`\frac{n-1}{n} D_n(p(z|x) \,\|\, q)` above it.


def divergence(q, p, order):
    """Rényi's divergence of two normals; KL at order 1."""
    if order == 1:
        return torch.distributions.kl_divergence(q, p)
    middle = (1 - order) * q.covariance_matrix + order * p.covariance_matrix
    shift = q.mean - p.mean
    square = (shift * torch.linalg.solve(middle, shift)).sum(-1)
    logs = [torch.logdet(m) for m in (middle, q.covariance_matrix, p.covariance_matrix)]
    return order / 2 * square - (logs[0] - (1 - order) * logs[1] - order * logs[2]) / (2 * (order - 1))


def full(q):
    return MultivariateNormal(q.mean, torch.diag_embed(q.variance))


posterior, off = problem.posterior(x), full(model.encode(x))
orders = np.linspace(0, 2, 21)
renyi_exact = [log_px - float(divergence(off, posterior, a).mean()) if a > 0 else log_px for a in orders]
cubo_exact = log_px + 0.5 * float(divergence(posterior, off, 2.0).mean())
elbo_exact = log_px - float(divergence(off, posterior, 1).mean())
print(f"ELBO {elbo_exact:.3f} <= log p(x) {log_px:.3f} <= chi bound {cubo_exact:.3f} nats a datum")

# %%
# The same by samples
# -------------------
# Each estimate is an average over the data and over many repetitions; K is what one estimate draws.


def averages(bounds, samples, draws=100_000):
    """Of each bound its mean over data, (repetitions,); all bounds share the draws."""
    repetitions = max(1, draws // (samples * len(x)))
    with torch.inference_mode():
        terms = model.terms(x.repeat(repetitions, 1), samples=samples)
        return [bound(terms).reshape(repetitions, -1).mean(1) for bound in bounds]


counts = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
names = ["ELBO", "IWAE", "CUBO estimate, order 2"]
curves = dict(
    zip(names, zip(*[averages([elbo, iwae, cubo_estimate], k) for k in counts], strict=True), strict=True)
)

# %%
# The ELBO doesn't depend on K in expectation. The importance-weighted bound grows to log p(x) from below. The
# estimate of the chi bound creeps up to its target from below as well: the target is an upper bound, the estimate
# isn't, and with few draws it even lies **below** log p(x). It must never serve as the upper side of a bracket.

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.7))
for name, values in curves.items():
    means = np.array([float(v.mean()) for v in values])
    spread = np.array([float(v.std()) for v in values])
    (line,) = left.plot(counts, means, marker="o", markersize=3, label=name)
    left.fill_between(counts, means - spread, means + spread, color=line.get_color(), alpha=0.15, linewidth=0)
left.axhline(log_px, color="black", linewidth=1)
left.annotate(r"$\log p(x)$", (1, log_px), xytext=(0, 3), textcoords="offset points")
left.axhline(cubo_exact, color="C2", linewidth=1, linestyle="--")
left.annotate("exact chi bound", (1, cubo_exact), xytext=(0, 3), textcoords="offset points", color="C2")
left.set(
    xscale="log", ylim=(-10.3, None), xlabel="draws K", ylabel="nats a datum", title="in the number of draws"
)
left.legend(loc="lower right")

for k in (1, 10, 100):
    values = [float(v.mean()) for v in averages([partial(renyi, alpha=a) for a in orders], k, 400_000)]
    right.plot(orders, values, label=f"estimate, K = {k}")
right.plot(orders, renyi_exact, color="black", linestyle="--", linewidth=1, label="exact, K to infinity")
right.plot([0], [log_px], "ko", markersize=4)
right.plot([1], [elbo_exact], "ks", markersize=4)
right.annotate(r"$\log p(x)$", (0, log_px), xytext=(6, 0), textcoords="offset points")
right.annotate("ELBO", (1, elbo_exact), xytext=(4, 6), textcoords="offset points")
right.set(xlabel=r"order $\alpha$", title="Rényi bounds in their order")
right.legend(loc="lower left")

# %%
# Rényi's bounds fall from log p(x) at order 0 through the ELBO at order 1. With one draw all orders are the same
# number, the ELBO's; with more they spread towards their targets. For orders below 1 the estimate lies below its
# target, so it is a lower bound on log p(x) for any K. For orders above 1 it lies above its target, yet still below
# the ELBO and thus below log p(x).

for name, values in curves.items():
    print(f"{name:24}", *(f"{float(v.mean()):8.3f}" for v in values[::2]))
