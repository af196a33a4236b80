"""
Active learning: which label to ask for next
============================================

Images are plenty and labels cost. A network with a posterior over its weights can say which labels would teach it most:
those on which its sets of weights disagree. The score is the mutual information between label and weights, BALD,

.. math::
    I(y; w \\mid x) = H[p(y \\mid x)] - E_w H[p(y \\mid x, w)],

the part of the uncertainty that a label takes away. Images that all weights find ambiguous score low: their label would
teach nothing.
"""

import matplotlib.pyplot as plt
import numpy as np

import jensen as jn

pool, test = jn.data.load("digits"), jn.data.load("digits", "test")
x, x_test = pool.x / 255.0, test.x / 255.0

START, EACH, ROUNDS = 20, 10, 7


def learn(by_bald, seed):
    """Test accuracy after each round of labels, and the rows that were asked for first."""
    rng = np.random.default_rng(seed)
    # Two labels of each digit to begin with.
    known = np.concatenate([rng.choice(np.flatnonzero(pool.y == k), 2, replace=False) for k in range(10)])
    accuracy, first = [], None
    for _ in range(ROUNDS):
        model = jn.BayesianClassifier("mlp", epochs=40, batch_size=20, random_state=seed)
        model.fit(x[known], pool.y[known])
        accuracy.append(model.score(x_test, test.y))
        rest = np.setdiff1d(np.arange(len(x)), known)
        score = model.predict_distribution(x[rest]).mutual_information.numpy()
        chosen = rest[np.argsort(-score)[:EACH]] if by_bald else rng.choice(rest, EACH, replace=False)
        first = chosen if first is None else first
        known = np.concatenate([known, chosen])
    return accuracy, first


# %%
# Asked for by BALD, or at random
# -------------------------------
# An ensemble of five networks is fitted anew after every ten labels.

seeds = range(3)
curves = {
    name: np.array([learn(by_bald, seed)[0] for seed in seeds])
    for name, by_bald in (("BALD", True), ("at random", False))
}
labels = START + EACH * np.arange(ROUNDS)
_, axes = plt.subplots(figsize=(6, 3.6))
for name, values in curves.items():
    mean, error = values.mean(0), values.std(0, ddof=1) / len(values) ** 0.5
    axes.errorbar(labels, mean, yerr=error, label=name, marker="o", markersize=4, capsize=2)
axes.set(
    xlabel="labels", ylabel="accuracy on 250 test images", title="bars: standard error over three starts"
)
axes.legend()

for name, values in curves.items():
    print(f"{name:10} {100 * values[:, -1].mean():.1f} % with {labels[-1]} labels")

# %%
# The first images that were asked for
# ------------------------------------

_, first = learn(True, 0)
_, rows = plt.subplots(1, EACH, figsize=(8, 1.2))
for axes, i in zip(rows, first, strict=True):
    axes.imshow(pool.x[i], cmap="gray_r")
    axes.set(xticks=[], yticks=[], title=str(pool.y[i]))
