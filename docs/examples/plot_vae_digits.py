"""
A variational autoencoder of handwritten digits
===============================================

Fit, score, sample, reconstruct and look at the latents, with the scikit-learn face :class:`jensen.estimators.VAE`.
The data are 1,297 images of 8 x 8 pixels with intensities 0..255; they come with scikit-learn.
"""

import matplotlib.pyplot as plt
import numpy as np

import jensen as jn

train, test = jn.data.load("digits"), jn.data.load("digits", "test")
print(train.x.shape, train.x.dtype, train.schema.kind)

# %%
# Fit
# ---
# The data are ``uint8``, so ``likelihood="auto"`` takes a logistic distribution gathered on the 256 intensities:
# log p(x) is then the logarithm of a probability, and can be compared with bits of a file.

vae = jn.VAE(latent_dim=8, epochs=80, random_state=0, options={"hidden": (256,)}).fit(train.x)
print("likelihood:", vae.likelihood_)

# %%
# Score
# -----
# ``score`` is the mean of log p(x) over images that weren't seen, in nats, estimated by importance sampling with
# 500 draws an image. An image has 64 pixels; 8 bits a pixel would be no compression at all.

nats = vae.score_samples(test.x)
error = nats.std(ddof=1) / np.sqrt(len(nats))
print(f"log p(x) = {nats.mean():.1f} ± {error:.1f} nats an image")
print(f"{-nats.mean() / 64 / np.log(2):.2f} bits a pixel")

# %%
# Reconstruct and sample
# ----------------------
# Reconstructions come from the mean of the posterior; they are expected intensities. Below are expected
# intensities for latents that were drawn from the prior, and last of all complete draws of p(x), which have the
# noise of the likelihood too.

rng = np.random.default_rng(0)
rows = {
    "test data": test.x[:12],
    "reconstructions": vae.reconstruct(test.x[:12]),
    "E[x|z], z from the prior": vae.inverse_transform(rng.standard_normal((12, 8))),
    "samples of p(x)": vae.sample(12, random_state=0),
}
figure, axes = plt.subplots(len(rows), 12, figsize=(8.5, 3.3))
for row, (title, images) in zip(axes, rows.items(), strict=True):
    for axis, image in zip(row, images, strict=True):
        axis.imshow(image, vmin=0, vmax=255)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    row[0].set_title(title)

# %%
# A map of the latents
# --------------------
# With two latents the posterior means are a map of the data. The labels weren't used in the fit. Beside it the
# decoder's expectations on a grid of latents: what lies where.

small = jn.VAE(latent_dim=2, epochs=80, random_state=0, options={"hidden": (256,)}).fit(train.x)
z = small.transform(train.x)

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 4))
points = left.scatter(*z.T, c=train.y, s=6, cmap="tab10", vmin=-0.5, vmax=9.5)
figure.colorbar(points, ax=left, ticks=range(10), label="digit")
left.set(title="posterior means", xlabel="$z_1$", ylabel="$z_2$")

side = np.linspace(-2.25, 2.25, 10)
grid = np.stack(np.meshgrid(side, side[::-1]), -1).reshape(-1, 2)
tiles = np.pad(small.inverse_transform(grid).reshape(10, 10, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
right.imshow(tiles.transpose(0, 2, 1, 3).reshape(100, 100), extent=(-2.5, 2.5, -2.5, 2.5))
right.set(title="E[x|z] on a grid", xlabel="$z_1$", ylabel="$z_2$")

# %%
# Two latents can't say what eight can:

print(f"2 latents: {small.score(test.x):.1f} nats an image; 8 latents: {nats.mean():.1f}")
