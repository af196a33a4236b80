r"""
Which divergence: seeking a mode, or covering them all
======================================================

A single normal q is to stand for a density p with two modes. The divergence isn't symmetric, and which way round it
is taken decides what q looks like. Variational inference minimises :math:`KL(q\,\|\,p)`, because that is the one that
needs expectations under q only.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm

from jensen.information import kl

# %%
# Both ways, one dimension
# ------------------------
# Densities on a fine grid are tables of probabilities, and :func:`jensen.information.kl` of tables is exact.

grid = np.linspace(-10, 10, 2001)


def table(density):
    return density / density.sum()


def single(m, log_s):
    return table(norm(m, np.exp(log_s)).pdf(grid) + 1e-300)


p = table(0.6 * norm(-2.5, 0.8).pdf(grid) + 0.4 * norm(2.5, 1.0).pdf(grid))


def fitted(divergence, start):
    found = minimize(lambda u: divergence(single(*u)), start, method="Nelder-Mead", options={"fatol": 1e-12})
    return found.x, found.fun


reverse = {
    side: fitted(lambda q: float(kl(q, p)), (place, 0.0)) for side, place in (("left", -3.0), ("right", 3.0))
}
forward, least = fitted(lambda q: float(kl(p, q)), (0.0, 1.0))

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.2), sharey=True)
unit = grid[1] - grid[0]
for axes in (left, right):
    axes.fill_between(grid, p / unit, color="0.88")
    axes.set(xlim=(-7, 7), xlabel="z")
for side, (parameters, value) in reverse.items():
    style = {"left": "-", "right": "--"}[side]
    left.plot(grid, single(*parameters) / unit, style, color="C0", label=f"{value:.3f} nats")
right.plot(grid, single(*forward) / unit, color="C1", label=f"{least:.3f} nats")
left.set(title="KL(q || p): a mode", ylabel="density")
right.set(title="KL(p || q): all of it")
for axes in (left, right):
    axes.legend()

# %%
# KL(q || p) is infinite where q puts mass and p has none, so q keeps within one mode. There are two local minima; at
# each of them the divergence is close to :math:`-\log` of that mode's weight, since q is p but for the other mode.
#
# KL(p || q) is infinite where p has mass and q has none, so q covers both modes and the valley between them. Its
# minimum has the mean and the variance of p.

for side, weight in (("left", 0.6), ("right", 0.4)):
    print(f"{side}: KL(q || p) {reverse[side][1]:.3f}, -log weight {-np.log(weight):.3f}")
mean = float((p * grid).sum())
sd = float((p * (grid - mean) ** 2).sum() ** 0.5)
print(f"mean and sd of p {mean:.2f}, {sd:.2f}; of q {forward[0]:.2f}, {np.exp(forward[1]):.2f}")

# %%
# Independent dimensions
# ----------------------
# The same happens without a second mode, where q has independent dimensions and p hasn't. For a normal p both minima
# are known: KL(q || p) takes the *conditional* variances, the inverse of the precision's diagonal, and is too narrow;
# KL(p || q) takes the *marginal* ones.

covariance = np.array([[1.0, 0.9], [0.9, 1.0]])
narrow, wide = 1 / np.diag(np.linalg.inv(covariance)), np.diag(covariance)
angle = np.linspace(0, 2 * np.pi, 200)
circle = np.stack([np.cos(angle), np.sin(angle)])

figure, axes = plt.subplots(figsize=(3.6, 3.4))
for radius in (1, 2):
    ring = radius * np.linalg.cholesky(covariance) @ circle
    axes.plot(*ring, color="0.6", label="p" if radius == 1 else None)
    for variance, color, name in ((narrow, "C0", "KL(q || p)"), (wide, "C1", "KL(p || q)")):
        axes.plot(
            *(radius * np.sqrt(variance)[:, None] * circle), color=color, label=name if radius == 1 else None
        )
axes.set(aspect="equal", ylim=(-2.2, 3.6), title="one and two standard deviations")
axes.legend(loc="upper left", fontsize=8)
