"""
A linear autoencoder reaches probabilistic PCA
==============================================

With a linear decoder and normal noise the model is probabilistic PCA, whose best log-likelihood is known in
closed form. A linear encoder with independent normal posteriors can be exact there [1]_. So at the end of the
fit nothing may be left between the ELBO, the importance-sampled log p(x) and the exact optimum, and any slip in
a constant, a sign or a factor would show as a gap.

.. [1] Don't blame the ELBO! A linear VAE perspective on posterior collapse, 2019,
       https://arxiv.org/abs/1911.02469
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.decomposition import PCA

import jensen as jn

problem = jn.data.linear_gaussian(n=1000, data_dim=10, latent_dim=2, noise_scale=0.7, seed=1)
x = problem.x.numpy()

# %%
# The exact answers
# -----------------
# The recipe ``linear-vae`` works in units of each column's standard deviation, with one noise scale for all columns
# in these units. The optimum is therefore that of probabilistic PCA on standardised columns, which scikit-learn's
# ``PCA.score`` gives; the units' logarithms bring it back to nats of the data as they are.

unit = x.std(0)
pca = PCA(2).fit(x / unit)
optimum = pca.score(x / unit) - np.log(unit).sum()
print(f"mean log p(x) at the optimum: {optimum:.4f} nats")

# %%
# Fit
# ---

vae = jn.VAE(latent_dim=2, recipe="linear-vae", epochs=150, learning_rate=0.02, random_state=0).fit(x)
elbos = [record["train"]["elbo"] for record in vae.run_.history]

# %%
# What was fitted
# ---------------
# The decoder is linear, so log p(x) of the fitted model is known too: that of a normal with covariance
# :math:`W W^T + \sigma^2 I`, in standardised units.

model = vae.run_.model.double()
decoder = model.likelihood.network
with torch.no_grad():
    mean = model.decode(torch.zeros(1, 2).double()).mean[0]
    weight = (model.decode(torch.eye(2).double()).mean - mean).T
    noise = model.decode(torch.zeros(1, 2).double()).stddev[0]
fitted = torch.distributions.MultivariateNormal(mean, weight @ weight.T + noise.square().diag())
exact = float(fitted.log_prob(problem.x).mean())

numbers = jn.evaluation.evaluate(model, problem.x, samples=1000)
print(f"ELBO                       {numbers['elbo']:.4f}")
print(f"importance-sampled log p   {-numbers['nll']:.4f} ± {numbers['nll_standard_error']:.4f}")
print(f"exact log p of the fit     {exact:.4f}")
print(f"best possible              {optimum:.4f}")

# %%
# The gap closes
# --------------
# Each epoch's ELBO is an average over noisy draws and changing weights; in the end it is at the optimum. And the
# covariance of x is that of probabilistic PCA, cell by cell.

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.2))
left.plot(np.arange(1, 151), elbos, label="ELBO of each epoch")
left.axhline(optimum, color="black", linewidth=1, linestyle="--", label="best log-likelihood of pPCA")
left.set(xlabel="epoch", ylabel="nats a datum", ylim=(optimum - 3, optimum + 0.5), title="training data")
left.legend(loc="lower right")
covariance = pca.get_covariance() * np.outer(unit, unit)
right.axline((0, 0), slope=1, color="black", linewidth=0.7)
right.plot(covariance.ravel(), fitted.covariance_matrix.ravel(), "o", markersize=4)
right.set(xlabel="probabilistic PCA", ylabel="the fit", title="cells of the covariance of x")
