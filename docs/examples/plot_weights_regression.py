r"""
Regression that knows what it doesn't know
==========================================

Bayes by backprop beside a plain network, on the data of the paper that made it known. Where there are no data a plain
network is as sure as ever; a posterior over its weights is not (:mod:`jensen.weights`).
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import jensen as jn

# %%
# The data
# --------
# A curve with noise that is inside the sines, seen between 0 and 0.5 only.

torch.manual_seed(0)
x = 0.5 * torch.rand(100, 1)
noise = 0.02 * torch.randn(100)
curve = (
    x[:, 0]
    + 0.3 * torch.sin(2 * torch.pi * (x[:, 0] + noise))
    + 0.3 * torch.sin(4 * torch.pi * (x[:, 0] + noise))
)
y = curve + noise
grid = torch.linspace(-0.3, 1.0, 200)[:, None]

# %%
# A plain network, and a posterior over its weights
# -------------------------------------------------
# The network is torch's own and stays as it is; both fits start from its weights. ``map`` is what training with weight
# decay finds: one set of weights.

network = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
common = {"noise_scale": 0.05, "prior_scale": 0.8, "learning_rate": 0.02, "batch_size": 100, "epochs": 1000}
plain = jn.weights.fit(network, x, y, method="map", **common)
bayes = jn.weights.fit(network, x, y, method="bayes-by-backprop", initial_scale=0.02, **common)

# %%
# Median and quartiles
# --------------------
# The bands hold half, and nine tenths, of what is expected of a target.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
for axis, posterior, title in ((axes[0], plain, "a plain network"), (axes[1], bayes, "Bayes by backprop")):
    low, first, median, third, high = posterior.predict(grid, samples=200).quantiles(
        [0.05, 0.25, 0.5, 0.75, 0.95]
    )
    axis.fill_between(grid[:, 0], low, high, alpha=0.2, color="C0", linewidth=0)
    axis.fill_between(grid[:, 0], first, third, alpha=0.4, color="C0", linewidth=0)
    axis.plot(grid[:, 0], median, color="C0")
    axis.plot(x[:, 0], y, "k.", markersize=2)
    axis.set(xlabel="x", title=title, ylim=(-1, 2))
axes[0].set_ylabel("y")

# %%
# Noise and ignorance
# -------------------
# The predictive variance is the noise's plus that of the mean over the weights. Only the second grows away from the
# data.

found = bayes.predict(grid, samples=200)
figure, axis = plt.subplots(figsize=(5, 3))
axis.plot(grid[:, 0], found.aleatoric_variance.sqrt(), label="aleatoric")
axis.plot(grid[:, 0], found.epistemic_variance.sqrt(), label="epistemic")
axis.axvspan(0, 0.5, color="black", alpha=0.08, linewidth=0, label="data")
axis.set(xlabel="x", ylabel="standard deviation of y", yscale="log")
axis.legend()
