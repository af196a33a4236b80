"""
Anomalies by log p(x)
=====================

A density model gives every datum a number, log p(x) in nats. Data of a kind that it has never seen should score low.
One digit is left out of the training data; among test data that have it, is it found?
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score, roc_curve

import jensen as jn

train, test = jn.data.load("digits"), jn.data.load("digits", "test")


def scores(left_out):
    """Three scores of the test data, higher is odder, by models that haven't seen a digit; and what has it."""
    known = train.x[train.y != left_out]
    vae = jn.VAE(latent_dim=8, epochs=60, random_state=0, options={"hidden": (256,)}).fit(known)
    pca = PCA(20).fit(known.reshape(len(known), -1))
    result = {
        "-log p(x), VAE": -vae.score_samples(test.x),
        "-log p(x), probabilistic PCA": -pca.score_samples(test.x.reshape(len(test), -1)),
        "reconstruction error, VAE": np.square(vae.reconstruct(test.x) - test.x).mean((1, 2)),
    }
    return result, test.y == left_out


def show(result, odd, names):
    """A histogram of the first score, and how well each separates the two."""
    _, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.4), width_ratios=(3, 2))
    first = next(iter(result.values()))
    bins = np.linspace(first.min(), first.max(), 40)
    for part, name in zip((~odd, odd), names, strict=True):
        left.hist(first[part], bins, label=name, alpha=0.8)
    left.set(xlabel="-log p(x) by the VAE, nats", ylabel="test images", title="surprise")
    left.legend(loc="upper right")
    for name, score in result.items():
        false, true, _ = roc_curve(odd, score)
        right.plot(false, true, label=f"{name}: {roc_auc_score(odd, score):.2f}")
    right.plot([0, 1], [0, 1], color="grey", linewidth=0.7)
    right.set(xlabel="false alarms", ylabel="found", title="areas under the curves", aspect="equal")
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=8)


# %%
# A digit that is found
# ---------------------

result, odd = scores(left_out=0)
show(result, odd, ["digits 1 to 9", "zeros, never seen"])

# %%
# A digit that isn't
# ------------------
# Ones are simple: few pixels are in doubt. A density of images may give a simple image more probability than the
# images it was fitted on, never mind that it has seen none like it. Left out, ones are taken for normal more often
# than by chance.

result, odd = scores(left_out=1)
show(result, odd, ["other digits", "ones, never seen"])

# %%
# What comes back of an image tells more here: the model can't rebuild what it hasn't seen, however simple it is. It is
# no density, though, and has no unit. Before you trust such scores, hold them against odd data that you know, and
# against a simple model: probabilistic PCA is hard to beat on images as small as these.
