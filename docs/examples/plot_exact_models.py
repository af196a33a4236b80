"""
Models with exact answers
=========================

Probabilistic PCA takes two dimensions to one number and back; coordinate-ascent variational inference finds three
clusters, iteration by iteration.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import jensen as jn
from jensen.models.families import Uniform, UnitNormal
from jensen.models.mixture import Mixture
from jensen.models.mixture_solver import bound_and_statistics
from jensen.models.plain_gradient import PlainGradient
from jensen.models.rows import Rows

# %%
# **Probabilistic PCA.** Each datum becomes one number, its posterior mean; the posterior also says how far off that
# number may be. What comes back lies on the line of the principal axis, drawn a little towards the mean.

rng = np.random.default_rng(0)
x = rng.normal(size=(60, 2)) * [2.0, 0.5] @ np.array([[0.8, 0.6], [-0.6, 0.8]]) + [1.0, 2.0]
ppca = jn.PPCA(1).fit(x)
back = ppca.reconstruct(x)

figure, axes = plt.subplots(figsize=(6, 4))
for one, other in zip(x, back, strict=True):
    axes.plot(*np.stack([one, other], 1), color="0.8", zorder=0)
axes.scatter(*x.T, s=14, label="data")
axes.scatter(*back.T, s=14, label="from one number each")
axes.set_aspect("equal")
axes.legend()

print(f"noise variance {ppca.noise_variance_:.3f}, posterior sd {ppca.posterior(x).stddev[0].item():.3f}")

# %%
# A missing cell is integrated out: the model is fitted to what there is, and fills the gap with its conditional mean.

gaps = x.copy()
gaps[::4, 1] = np.nan
filled = jn.PPCA(1, random_state=0).fit(gaps).impute(gaps)
imputed = np.abs(filled - x)[::4, 1].mean()
by_mean = np.abs(x[:, 1] - np.nanmean(gaps[:, 1]))[::4].mean()
print(f"error of imputed cells {imputed:.2f}, of the column's mean {by_mean:.2f}")

# %%
# **Three clusters** of known unit variance with a normal prior on their centres, as in the lecture. Each iteration
# shares the points out among the components (colours mix where it isn't sure), then moves the beliefs about the centres
# (crosses of two standard deviations) to where their points are.

truth = np.array([[-2.5, 0.0], [2.5, 0.0], [0.0, 4.0]])
points = np.repeat(truth, 80, 0) + rng.normal(size=(240, 2))
rows = Rows(points)


def start():
    """The mixture with its three centres side by side, believed in as much as in a single datum."""
    mixture = Mixture(UnitNormal(2, prior_scale=10.0), Uniform(), 3, (2,))
    means = torch.tensor([[-0.3, 1.0], [0.0, 1.0], [0.3, 1.0]]).double()
    mixture.statistics.data = mixture.components.from_free((means, torch.zeros_like(means)))
    return mixture


def updated(mixture):
    """The bound, and the statistics of the best q(c) that the next q(mu) is made of."""
    family, weights = mixture.components, mixture.weight_family
    bound, new = bound_and_statistics(family, weights, mixture.statistics.data[None], rows)
    return float(bound), new[0]


mixture = start()
figure, axes = plt.subplots(2, 3, figsize=(9, 5.4), sharex=True, sharey=True)
panels = dict(zip((0, 1, 2, 3, 4, 12), axes.flat, strict=True))
for iteration in range(13):
    bound, new = updated(mixture)
    if iteration in panels:
        panel, shares = panels[iteration], mixture.responsibilities(torch.from_numpy(points)).numpy()
        mean, variance = (part.numpy() for part in mixture.components.posterior(mixture.statistics.data))
        panel.scatter(*points.T, s=9, c=0.85 * shares)
        spread = 2 * np.sqrt(variance)
        panel.errorbar(*mean.T, spread[:, 1], spread[:, 0], fmt="none", color="black", linewidth=2)
        panel.set_title(f"{iteration} iterations: bound {bound:.1f} nats", fontsize=9)
    mixture.statistics.data = new
figure.tight_layout()

print("centres", mixture.predictive.mean.numpy().round(2).tolist())

# %%
# The bound rises in every iteration, and stays below the log evidence. It does so as well where steps are taken along
# its gradient by the means and by the log variances in turn (the lecture's updates; the solver "plain-gradient" of
# :class:`jensen.GaussianMixture`), or along the natural gradient ("gradient"). Coordinate ascent ("cavi") jumps to the
# best q of each block at once.

mixture = start()
plain, bounds = PlainGradient(mixture.components, step=1.0, count=len(points)), []
natural, whole = start(), start()
for _ in range(40):
    bounds.append([updated(one)[0] for one in (whole, natural, mixture)])
    whole.statistics.data = updated(whole)[1]
    natural.statistics.data = natural.statistics.data.lerp(updated(natural)[1], 0.5)

    def judged(statistics):
        return bound_and_statistics(mixture.components, mixture.weight_family, statistics, rows)

    given = mixture.statistics.data[None]
    mixture.statistics.data = plain(judged, given, *judged(given))[0]

figure, axes = plt.subplots(figsize=(5.5, 3.2))
names = ["coordinate ascent", "natural gradient, steps of one half", "plain gradient, in turn"]
for values, name in zip(np.transpose(bounds), names, strict=True):
    axes.plot(values, label=name)
axes.set(xlabel="iterations", ylabel="bound on the log evidence, nats", ylim=(-1200, None))
axes.legend()
