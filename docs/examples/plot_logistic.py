r"""
From a log-joint to a posterior: logistic regression
====================================================

A real table, scikit-learn's breast cancer data: which of 569 tumours are malignant, from six measurements. The
log-joint is a few lines of torch; everything else follows from it. The draws go to ArviZ.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch.distributions import Bernoulli, Normal

import jensen as jn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ArviZ announces its next version.
    import arviz

table = load_breast_cancer()
columns = [0, 1, 4, 6, 8, 9]
names = [str(table.feature_names[column]) for column in columns]
X = torch.from_numpy(table.data[:, columns])
X = (X - X.mean(0)) / X.std(0)
y = torch.from_numpy(1.0 - table.target)


def log_joint(p):
    logits = p["intercept"] + X @ p["weights"]
    return (
        Normal(0.0, 2.5).log_prob(p["intercept"])
        + Normal(0.0, 2.5).log_prob(p["weights"]).sum()
        + Bernoulli(logits=logits).log_prob(y).sum()
    )


target = jn.inference.Target(
    log_joint, {"intercept": jn.inference.real(), "weights": jn.inference.real(len(columns))}
)
fit = jn.inference.fit(target)
fit.summary()

# %%
# ArviZ takes it from here
# ------------------------
# Intervals of 94 % of the weights, of this fit and of the no-U-turn sampler.

chains = jn.inference.mcmc.nuts(target, draws=500, seed=0)
data = {"jensen.inference.fit": fit.to_arviz(4000), "NUTS": chains.to_arviz()}
axes = arviz.plot_forest(
    list(data.values()), model_names=list(data), var_names=["weights"], combined=True, figsize=(7, 4)
)
axes[0].set_yticklabels(names[::-1])
plt.tight_layout()

# %%
# Probabilities, with what is not known of them
# ---------------------------------------------
# Each draw is one regression. Along one measurement, the others at their means:

draws = fit.sample(2000, seed=0)
grid = torch.linspace(-3, 3, 100, dtype=torch.float64)
which = int(draws["weights"].mean(0).abs().argmax())
curves = torch.sigmoid(draws["intercept"][:, None] + draws["weights"][:, which, None] * grid).numpy()
low, middle, high = np.quantile(curves, [0.05, 0.5, 0.95], axis=0)
figure, axis = plt.subplots(figsize=(5.5, 3.2))
axis.fill_between(grid, low, high, color="C0", alpha=0.25, label="90 %")
axis.plot(grid, middle, label="median")
axis.set(xlabel=f"{names[which]} (standardised)", ylabel="probability of malignant")
axis.legend()
figure.tight_layout()
