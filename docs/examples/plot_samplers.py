r"""
Four samplers on a banana
=========================

A log-joint whose density lies along a curved, narrow ridge,

.. math:: \log \tilde p(x, y) = -\tfrac12 x^2 - \tfrac12 \left(\frac{y - x^2}{0.5}\right)^2,

drawn from by Metropolis, Gibbs, Hamiltonian Monte Carlo and Langevin steps (:mod:`jensen.inference.mcmc`). The first
three are exact, with ever less correlation from draw to draw; Langevin steps are never rejected, and so a little off.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import jensen as jn
from jensen.diagnostics import ess_bulk, mcse_mean
from jensen.inference import Target, real

WIDTH = 0.5


def log_joint(p):
    return -0.5 * p["x"] ** 2 - 0.5 * ((p["y"] - p["x"] ** 2) / WIDTH) ** 2


target = Target(log_joint, {"x": real(), "y": real()})

# %%
# y given x is normal, so that is its conditional. x given y isn't a distribution that has a name; where a parameter has
# no conditional, Gibbs takes a Metropolis step for it. A conditional gets the values of all chains at once.


def y_given_x(p):
    return p["x"] ** 2 + WIDTH * torch.randn_like(p["x"])


mcmc = jn.inference.mcmc
samplers = {
    "Metropolis": lambda: mcmc.metropolis(target, 500, 4, warmup=500, seed=1),
    "Gibbs": lambda: mcmc.gibbs(target, {"y": y_given_x}, 500, 4, warmup=200, seed=1),
    "HMC": lambda: mcmc.hmc(target, 500, 4, warmup=150, acceptance=0.95, seed=1),
    "SGLD": lambda: mcmc.sgld(
        target, 500, 4, warmup=500, thin=2, step_size=0.02, preconditioner="none", seed=1
    ),
}
found = {name: draw() for name, draw in samplers.items()}

# %%
# Contours of the density, 500 draws of one chain each, and the first 40 of them joined.

x, y = np.meshgrid(np.linspace(-3.2, 3.2, 161), np.linspace(-1.5, 9, 161))
density = np.exp(-0.5 * x**2 - 0.5 * ((y - x**2) / WIDTH) ** 2)
figure, axes = plt.subplots(1, 4, figsize=(12, 4.2), sharex=True, sharey=True, layout="constrained")
for axis, (name, draws) in zip(axes, found.items(), strict=True):
    chain = np.stack([draws["x"][0], draws["y"][0]], -1)
    axis.contour(x, y, density, levels=[0.01, 0.1, 0.5], colors="0.6", linewidths=0.8)
    axis.plot(*chain.T, ".", ms=3, alpha=0.6)
    axis.plot(*chain[:40].T, lw=0.8, color="C3")
    size = float(torch.minimum(ess_bulk(draws["x"]), ess_bulk(draws["y"])))
    axis.set(title=f"{name}\n{size:,.0f} effective of 2,000", xlabel="x")
axes[0].set_ylabel("y")
plt.show()

# %%
# Every result says how far to trust it. Few draws of a random walk are not enough, and it says so; NUTS, which chooses
# the length of each path by itself, is what to begin with. In the banana's arms the ridge is steep, so that steps are
# taken small (``acceptance`` nearer to one).

found["Metropolis"].summary()

# %%

best = mcmc.nuts(target, 500, 16, acceptance=0.95, seed=1)
best.summary()

# %%
# The exact moments are known here: E[y] = 1, sd(y) = sqrt(2 + 0.5^2). What is left of the errors is noise, whose size
# each sampler knows, and for Langevin steps a bias, which shrinks with the step.

print(f"{'exact':>10}: mean of y 1.000, sd {np.sqrt(2 + WIDTH**2):.3f}")
for name, draws in {**found, "NUTS": best}.items():
    y = draws["y"]
    print(f"{name:>10}: mean of y {float(y.mean()):.3f} ± {float(mcse_mean(y)):.3f}, sd {float(y.std()):.3f}")

# %%
# Effective draws against draws, and the same banana by Langevin steps of different sizes: smaller steps are less biased
# and slower.

figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
exact = np.linspace(-3, 9, 400)
grid = np.linspace(-5, 5, 2001)
marginal = (np.exp(-0.5 * grid**2 - 0.5 * ((exact[:, None] - grid**2) / WIDTH) ** 2)).sum(1)
axis.plot(exact, marginal / (marginal.sum() * (exact[1] - exact[0])), color="k", lw=1, label="exact")
for step in (0.005, 0.02):
    draws = mcmc.sgld(
        target,
        300,
        32,
        warmup=300,
        thin=5,
        step_size=step,
        preconditioner="none",
        seed=2,
        init={"x": 0.0, "y": 0.0},
    )
    axis.hist(
        draws["y"].flatten().numpy(),
        80,
        range=(-3, 9),
        density=True,
        histtype="step",
        label=f"steps of {step}",
    )
axis.set(xlabel="y", ylabel="density")
axis.legend()
plt.show()
