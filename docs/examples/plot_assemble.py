"""
Assemble a model of your own parts
==================================

A prior, a posterior and a likelihood make a model. Here the networks and one of the priors are our own, and the
same data are fitted with three priors: the standard normal, one that is written on this page, and a mixture.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.distributions import Independent, StudentT

import jensen as jn

points = jn.data.pinwheel(2000, seed=0)
train, test = (torch.as_tensor(half, dtype=torch.float32) for half in (points[:1500], points[1500:]))

# %%
# A new prior
# -----------
# A Conditional is a module that returns a distribution. This one has heavy tails, and it doesn't depend on any
# context. Nothing has to be registered to be used from Python.


class HeavyTails(jn.distributions.Conditional):
    """p(z): independent Student distributions, their degrees of freedom learned."""

    def __init__(self, latent_dim):
        super().__init__()
        self.log_freedom = nn.Parameter(torch.full((latent_dim,), 1.5))

    def forward(self, context=None):
        zero = torch.zeros_like(self.log_freedom)
        return Independent(StudentT(1 + self.log_freedom.exp(), zero, zero + 1, validate_args=False), 1)


# %%
# A new network
# -------------
# Any module will do that returns the shape which the family asks for: (2, latent_dim) for a diagonal normal
# posterior, (1, \*event) for a normal likelihood with a learned scale.


class Sine(nn.Module):
    """Two layers with a periodic activation."""

    def __init__(self, inputs, out_shape, width=64):
        super().__init__()
        self.first, self.second = nn.Linear(inputs, width), nn.Linear(width, width)
        self.last = nn.Sequential(nn.Linear(width, out_shape[0] * out_shape[1]), nn.Unflatten(-1, out_shape))

    def forward(self, x):
        return self.last(torch.sin(self.second(torch.sin(self.first(x)))))


def assemble(prior):
    return jn.models.LatentVariableModel(
        prior=prior,
        posterior=jn.posteriors.DiagonalNormal(Sine(2, jn.posteriors.DiagonalNormal.parameter_shape(2))),
        likelihood=jn.likelihoods.Normal(Sine(2, (1, 2)), (2,), scale="learned"),
    )


# %%
# Training
# --------
# The loop knows no models: it takes an objective, batches and settings, and yields after every epoch. The Student
# prior has no closed-form KL with a normal, so that group's KL is averaged over the draws, by itself.

from jensen.bounds import VariationalObjective
from jensen.training import ArrayBatches, Settings, Training


def fit(prior, epochs=100):
    torch.manual_seed(0)
    model = assemble(prior)
    settings = Settings(epochs=epochs, learning_rate=5e-3)
    training = Training(VariationalObjective(model), ArrayBatches(train, 100), settings)
    for _ in training.run():
        pass
    return model


torch.manual_seed(0)
models = {
    "standard normal": fit(jn.priors.StandardNormal(2)),
    "heavy tails (ours)": fit(HeavyTails(2)),
    "mixture of 10 normals": fit(jn.priors.NormalMixture(2, components=10)),
}

# %%
# What came of it
# ---------------
# Above the densities, from log p(x) by importance sampling on a grid. Specks are estimates with large errors: between
# the arms the encoder was never trained and proposes badly. Below the posterior means of the latents; the
# contours of each prior show how well it fits them.

side = torch.linspace(-5, 5, 45)
grid = torch.cartesian_prod(side, side)
latent_side = torch.linspace(-4.5, 4.5, 80)
latent_grid = torch.cartesian_prod(latent_side, latent_side)

figure, axes = plt.subplots(2, 4, figsize=(9, 4.6))
axes[0, 0].scatter(*train.T, s=1, color="black")
axes[0, 0].set(xlim=(-5, 5), ylim=(-5, 5), title="the data")
axes[1, 0].axis("off")
for (name, model), (above, below) in zip(models.items(), axes.T[1:], strict=True):
    density = jn.evaluation.evidence(model, grid, samples=100).value.exp().reshape(45, 45).T
    above.imshow(density, origin="lower", extent=(-5, 5, -5, 5), cmap="Blues", vmax=0.12)
    above.set_title(name)
    z = jn.evaluation.posterior_means(model, train)
    with torch.inference_mode():
        prior = model.prior().log_prob(latent_grid).exp().reshape(80, 80).T
    below.contour(latent_side, latent_side, prior, levels=6, colors="C1", linewidths=0.7)
    below.scatter(*z.T, s=1, color="black")
    below.set(xlim=(-4.5, 4.5), ylim=(-4.5, 4.5))
for axis in axes.flat:
    axis.set(xticks=[], yticks=[], aspect="equal")

# %%

for name, model in models.items():
    numbers = jn.evaluation.evaluate(model, test, samples=300)
    print(
        f"{name:22} ELBO {numbers['elbo']:.3f}   log p(x) {-numbers['nll']:.3f} "
        f"± {numbers['nll_test_standard_error']:.3f} nats   gap {numbers['gap']:.3f}"
    )

# %%
# Five arms don't fit into one round hill, whatever its tails: both simple priors fill the gaps between the arms. The
# mixture has put a hill under each. (A longer fit brings all three further; this page has seconds.)
