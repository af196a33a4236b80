r"""
Variational inference, step by step
===================================

One unknown, a posterior that is not normal, and a normal q that climbs the evidence lower bound

.. math:: \mathrm{ELBO}(m, s) = E_{N(m, s^2)}[\log p(x, \theta)] + \log s + \tfrac12 \log 2 \pi e.

With the draws fixed the bound is an ordinary function of two numbers, so the whole way can be looked at.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.distributions import Normal

import jensen as jn
from jensen.inference.families import MeanField
from jensen.inference.fixed import fit_fixed

# %%
# The model: the rate of five counts, on a logarithmic scale, under a wide prior.

counts = torch.tensor([0.0, 2.0, 1.0, 0.0, 1.0], dtype=torch.float64)


def log_joint(p):
    rate = p["log_rate"].exp()
    return Normal(0.0, 2.0).log_prob(p["log_rate"]) + (counts * p["log_rate"] - rate).sum()


target = jn.inference.Target(log_joint, {"log_rate": jn.inference.real()})
grid = torch.linspace(-4.5, 2.5, 800, dtype=torch.float64)[:, None]
log_density = target.plain_log_prob(grid)
log_evidence = float(log_density.logsumexp(0) + (grid[1] - grid[0]).log())
posterior = (log_density - log_evidence).exp()

# %%
# From a start that is far off
# ----------------------------
# After each evaluation of the bound the search can be stopped: the first iterates, and the best one.

start = MeanField.around(torch.tensor([1.5]), torch.tensor([0.15]))
evaluations = [1, 2, 4, 6, 60]
steps = [fit_fixed(target, start, evaluations=n) for n in evaluations]

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
left.fill_between(grid[:, 0], posterior, color="0.85", label="posterior")
left.plot(grid[:, 0], start(None).log_prob(grid).exp().detach(), ":", color="C3", label="initial q")
for step in steps[:-1]:
    left.plot(grid[:, 0], step.family(None).log_prob(grid).exp(), color="C0", linewidth=0.8)
left.plot(grid[:, 0], steps[-1].family(None).log_prob(grid).exp(), color="C0", linewidth=2.5, label="best q")
left.set(xlabel="log rate", ylabel="density", ylim=(0, 1.6))
left.legend()

history = np.maximum.accumulate(steps[-1].history)
right.plot(history, "o-", markersize=3)
right.axhline(log_evidence, color="black", linewidth=1)
right.text(len(history) - 1, log_evidence + 0.05, "log evidence", ha="right", va="bottom")
right.set(xlabel="evaluation", ylabel="bound (nats)", ylim=(log_evidence - 4, log_evidence + 0.6))
figure.tight_layout()

# %%
# The gap that is left
# --------------------
# The best normal is not the posterior: what is left of the gap is KL(q || p). The posterior is skewed to the left,
# and a normal can't be. Importance weights measure the gap; the default method closes it.

best = steps[-1].family(None)
draws = best.sample((20_000,))
weights = target.plain_log_prob(draws) - best.log_prob(draws)
print(f"log evidence, by a grid     {log_evidence:.4f} nats")
print(f"ELBO of the best normal     {float(weights.mean()):.4f}")
fit = jn.inference.fit(target)
print(f"importance-weighted bound   {fit.elbo:.4f}")
fit.summary()

# %%
figure, axes = plt.subplots(figsize=(5, 3.2))
axes.fill_between(grid[:, 0], posterior, color="0.85", label="posterior")
axes.hist(
    fit.sample(20_000, seed=0)["log_rate"].numpy(),
    bins=80,
    density=True,
    histtype="step",
    label="draws, weighted",
)
axes.plot(grid[:, 0], best.log_prob(grid).exp(), label="best normal")
axes.set(xlabel="log rate", ylabel="density", xlim=(-4.5, 2.5))
axes.legend()
