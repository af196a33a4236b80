r"""
Score-function and path-wise gradients of a log-joint
=====================================================

Stochastic variational inference climbs the bound :math:`E_q[\log p(x, \theta) - \log q(\theta)]` along gradients that
are estimated from a few draws. The path-wise gradient differentiates the log-joint at the draws; the score-function
gradient only asks for its values. Here are their variances on a Bayesian logistic regression.
"""

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import softplus

import jensen as jn
from jensen.inference import Ascending, Score, stochastic
from jensen.inference.families import MeanField
from jensen.inference.pathwise import Gradient, pathwise

torch.manual_seed(0)
x = torch.randn(200, 5, dtype=torch.float64)
y = torch.bernoulli(torch.sigmoid(x @ torch.tensor([1.0, -2.0, 0.5, 0.0, 1.0]).double()))


def log_joint(p):
    logits = x @ p["w"]
    return (y * logits - softplus(logits)).sum() - 0.5 * (p["w"] ** 2).sum()


target = jn.inference.Target(log_joint, {"w": jn.inference.real(5)})
first = MeanField(5)
converged = stochastic(target, first, ascending=Ascending(steps=400)).posterior

# %%
# Four estimators
# ---------------
# REINFORCE is the definition: the mean of :math:`(\log p - \log q) \nabla \log q`.
# :class:`jensen.inference.Score` takes out what can be known: the mean of the other draws as a baseline, and a
# quadratic that it has learned from earlier draws, whose expectation is exact. None of them is biased.


def reinforce(density, posterior, samples):
    q = posterior(None)
    points = q.sample((samples,))
    log_q = q.log_prob(points)
    ratio = density(points)[0] - log_q.detach()
    return Gradient((ratio * log_q).mean(), ratio.mean(), 1.0)


def variance(estimator, posterior, samples, estimates=60):
    """Of one estimate, summed over the posterior's parameters."""
    found = []
    for _ in range(estimates):
        posterior.zero_grad()
        estimator(target.value_and_gradient, posterior, samples).surrogate.backward()
        found.append(torch.cat([parameter.grad for parameter in posterior.parameters()]))
    return float(torch.stack(found).var(0).sum())


estimators = {
    "REINFORCE": lambda: reinforce,
    "score, leave one out": lambda: Score(learned=False),
    "score, learned control variate": Score,
    "path-wise": lambda: pathwise,
}

# %%
# Against the number of draws
# ---------------------------
# All fall about as one over the number of draws. At the first posterior the learned quadratic explains nearly all of
# the log-joint. At the converged one the ratio of p and q hardly varies; a baseline takes out its level, which
# REINFORCE still pays for, and the quadratic takes out the correlations that a mean field can't have.

counts = [4, 8, 16, 32, 64]
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.4), sharex=True)
for axis, (place, posterior) in zip(axes, {"first q": first, "converged q": converged}.items(), strict=True):
    for name, make in estimators.items():
        estimator = make()
        if name == "score, learned control variate":
            for _ in range(10):
                estimator(target.value_and_gradient, posterior, 64)
        spread = [variance(estimator, posterior, count) for count in counts]
        axis.loglog(counts, spread, marker="o", markersize=3, label=name)
    axis.set(title=place, xlabel="draws", ylabel="variance of the gradient")
    axis.set_xticks(counts, counts)
    axis.minorticks_off()
axes[0].legend(fontsize=7)
figure.tight_layout()

# %%
# In a fit
# --------
# The score function is for log-joints that have no gradient; ``gradient="score"`` asks for it. With its control variate
# it ends where the path-wise gradient ends.

for gradient in ("pathwise", "score"):
    fit = jn.inference.fit(target, "mean-field", gradient=gradient, steps=400, pool=1000, seed=0)
    means = fit.posterior.mean.tolist()
    print(f"{gradient:9} bound {fit.elbo:8.2f}   means", *(f"{mean:6.2f}" for mean in means))
