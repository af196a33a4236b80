r"""
Gradient estimators: bias and spread
====================================

A bound's gradient is estimated from a few draws. On a linear-Gaussian model the ELBO's gradient with respect to
the posterior's parameters is known exactly, so the estimators of :mod:`jensen.bounds` can be held against it.

Every copy of the datum below has posterior parameters of its own; one backward pass then gives thousands of
independent estimates.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

import jensen as jn
from jensen.bounds import GRADIENTS, elbo, iwae
from jensen.training import Batch

torch.manual_seed(0)
problem = jn.data.linear_gaussian(n=1, data_dim=4, latent_dim=1, noise_scale=1.0, seed=3)
exact = problem.posterior(problem.x)


class Free(jn.distributions.Conditional):
    """A normal posterior for each copy of the datum; ``distance`` from the exact one, in its own units."""

    def __init__(self, distance, copies):
        super().__init__()
        loc = exact.mean + distance * exact.stddev
        log_scale = exact.stddev.log() + 0.5 * distance
        self.parameters_ = torch.nn.Parameter(torch.stack([loc, log_scale], -1).repeat(copies, 1, 1))

    def forward(self, context=None):
        loc, log_scale = self.parameters_.unbind(-1)
        return Independent(Normal(loc, log_scale.exp()), 1)


class Decoder(torch.nn.Module):
    def forward(self, z):
        return (z @ problem.weight.T + problem.mean).unsqueeze(-2)


def gradients(name, bound, distance, samples, copies=2000):
    """Independent estimates of the gradient in location and log-scale, (copies, 2)."""
    model = jn.models.LatentVariableModel(
        jn.priors.StandardNormal(1).double(),
        Free(distance, copies),
        jn.likelihoods.Normal(Decoder(), (4,), scale=problem.noise_scale).double(),
    )
    batch = Batch(problem.x.expand(copies, -1))
    GRADIENTS[name](model, batch, bound, samples).surrogate.sum().backward()
    return model.posterior.parameters_.grad[:, 0]


def exact_elbo_gradient(distance):
    """That of -KL(q || posterior), since log p(x) doesn't depend on q."""
    free = Free(distance, 1)
    q = free()
    full = MultivariateNormal(q.mean, torch.diag_embed(q.variance))
    (-kl_divergence(full, exact)).sum().backward()
    return free.parameters_.grad[0, 0]


# %%
# The ELBO
# --------
# From four draws each. All three are unbiased: the bias is within a few of its own standard errors. Their spreads
# differ. The path-wise estimator's never falls below a floor; sticking the landing has none where q is exact. Nor
# has the score function, thanks to its leave-one-out control variate, but away from there its spread is the
# largest: it doesn't know the slope of the model.

print("distance  estimator              bias in location        std     bias in log-scale       std")
for distance in (1.0, 0.3, 0.0):
    truth = exact_elbo_gradient(distance)
    for name in ("pathwise", "sticking-the-landing", "score"):
        g = gradients(name, elbo, distance, samples=4, copies=20_000)
        bias, error, std = g.mean(0) - truth, g.std(0) / len(g) ** 0.5, g.std(0)
        cells = [f"{b:8.4f} ± {e:6.4f} {s:10.4f}" for b, e, s in zip(bias, error, std, strict=True)]
        print(f"{distance:8.1f}  {name:20}", *cells)

# %%

distances = np.linspace(0, 1.5, 13)
figure, left = plt.subplots(figsize=(5.5, 3.3))
for name in ("pathwise", "sticking-the-landing", "score"):
    spread = [float(gradients(name, elbo, d, samples=4)[:, 1].std()) for d in distances]
    left.plot(distances, spread, marker="o", markersize=3, label=name)
left.set(xlabel="distance of q from the posterior", ylabel="standard deviation")
left.set_yscale("symlog", linthresh=0.1)
left.set_title("ELBO, gradient in the log-scale, 4 draws")
left.legend()

# %%
# The importance-weighted bound
# -----------------------------
# With more draws the bound gets tighter, and the gradient of q fades as 1/K. The path-wise estimator's noise fades
# only as the root of that, so its signal drowns; the doubly reparameterised estimator's grows out of the noise.
# The score function with a control variate is VIMCO.

counts = [2, 4, 8, 16, 32]
figure, right = plt.subplots(figsize=(5.5, 3.3))
for name in ("pathwise", "doubly-reparameterised", "score"):
    ratios = []
    for k in counts:
        g = gradients(name, iwae, 0.5, samples=k, copies=8000)
        ratios.append(float((g.mean(0).abs() / g.std(0)).mean()))
    right.loglog(counts, ratios, marker="o", markersize=3, label=name)
right.set(xlabel="draws K", ylabel="|mean| / standard deviation", title="IWAE bound, signal to noise")
right.set_xticks(counts, counts, minor=False)
right.minorticks_off()
right.legend()

# %%
# Sticking the landing is not for this bound: it drops a term whose expectation is zero for the ELBO and isn't here.

reference = gradients("pathwise", iwae, 0.5, samples=8, copies=20_000)
for name in ("doubly-reparameterised", "score", "sticking-the-landing"):
    g = gradients(name, iwae, 0.5, samples=8, copies=20_000)
    bias = g.mean(0) - reference.mean(0)
    error = (g.var(0) / len(g) + reference.var(0) / len(g)).sqrt()
    print(f"{name:24}", *(f"{b:8.4f} ± {e:.4f}" for b, e in zip(bias, error, strict=True)))
