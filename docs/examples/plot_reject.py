"""
The reject option: when to leave the answer to a person
=======================================================

A classifier that knows how sure it is can pass on what it isn't sure of. How much that wins is the selective-risk
curve: the error on the data that are kept, against the share of data that is kept.
"""

import matplotlib.pyplot as plt
import numpy as np

import jensen as jn
from jensen import evaluation

train, test = jn.data.load("digits"), jn.data.load("digits", "test")
rng = np.random.default_rng(0)


# A third of the labels leaves some errors; test images come with noise of their own.
x, y = train.x[:400] / 255.0, train.y[:400]
clean = test.x / 255.0
noisy = np.clip(clean + 0.3 * rng.normal(size=clean.shape), 0, 1)

models = {
    "one network": jn.BayesianClassifier("mlp", "map", random_state=0),
    "ensemble of 5": jn.BayesianClassifier("mlp", "ensemble", random_state=0),
    "Bayes by backprop": jn.BayesianClassifier("mlp", "bayes-by-backprop", random_state=0),
}
for model in models.values():
    model.fit(x, y)

# %%
# What is won by passing on the least sure
# ----------------------------------------
# Confidence is the probability of the predicted class. The grey line is the best order there is: all errors first.

_, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.6))
for name, model in models.items():
    p = model.predict_proba(noisy)
    losses = (p.argmax(1) != test.y).astype(float)
    curve = evaluation.risk_coverage(losses, -p.max(1))
    left.plot(curve.coverage, 100 * curve.risk, label=name)
    numbers = evaluation.evaluate_classifier(p, test.y)
    print(
        f"{name:18} error {100 * (1 - numbers['accuracy']):4.1f} %, of the surest 80 % {100 * curve.at(0.8):4.1f} %, "
        f"nll {numbers['nll']:.3f} ± {numbers['nll_standard_error']:.3f}, ece {numbers['ece']:.3f} "
        f"(calibrated: {numbers['ece_if_calibrated']:.3f})"
    )
    diagram = evaluation.reliability(p.max(1), p.argmax(1) == test.y, bins=5, binning="mass")
    right.plot(diagram.confidence, diagram.accuracy, marker="o", markersize=4)
left.plot(curve.coverage, 100 * curve.best, color="grey", linewidth=0.8)
left.set(xlabel="share of images that is kept", ylabel="error, %", title="selective risk")
left.legend()
right.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
right.set(xlabel="stated probability", ylabel="share that was right", title="reliability", xlim=(0.3, 1.02))

# %%
# What it has never seen
# ----------------------
# Images of another kind should look uncertain, too: here digits whose pixels were shuffled. The area under the curve is
# the probability that an unknown image has the larger score than a known one; one half is a guess.

unknown = clean.reshape(-1, 64)[:, rng.permutation(64)].reshape(clean.shape)
for name, model in models.items():
    known_found, unknown_found = (model.predict_distribution(part) for part in (clean, unknown))
    area = evaluation.separation(known_found.entropy, unknown_found.entropy)
    print(f"{name:18} AUROC by entropy {area.auroc:.3f} ± {area.standard_error:.3f}")
