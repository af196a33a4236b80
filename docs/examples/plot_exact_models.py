"""
Models with exact answers
=========================

Probabilistic PCA takes two dimensions to one number and back; coordinate-ascent variational inference finds three
clusters, iteration by iteration.
"""

import matplotlib.pyplot as plt
import numpy as np

import jensen as jn

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
# **Three clusters** of known unit variance with a normal prior on their centres, as in the lecture. The bound rises in
# every iteration, and stays below the log evidence.

points = (np.repeat([-4.0, 0.0, 3.0], 100) + rng.normal(size=300))[:, None]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
for iterations, shade in ((1, "0.75"), (3, "0.5"), (30, "C0")):
    mixture = jn.GaussianMixture(
        3, covariance_type="unit", n_init=1, max_iter=iterations, tol=1e-9, random_state=0
    ).fit(points)
    grid = np.linspace(-8, 7, 300)[:, None]
    left.plot(grid, np.exp(mixture.score_samples(grid)), color=shade, label=f"{iterations} iterations")
left.hist(points[:, 0], 40, density=True, color="0.9", zorder=0)
left.legend()
right.plot(mixture.lower_bounds_, marker="o", markersize=3)
right.set(xlabel="iteration", ylabel="bound on the log evidence, nats")
figure.tight_layout()

print("centres", np.sort(mixture.means_[:, 0]).round(2))
