"""
How many networks does an ensemble need?
========================================

A prediction that averages over sets of weights, be they networks trained from different starts or draws of dropout's
masks from one network, gets better with their number, soon by little. Three scores of the known data tell how: the
error, and the NLL and the Brier score, which also punish misplaced confidence. Data of a kind that was never seen
should look uncertain: by the entropy of the prediction, or by the mutual information of label and weights, which is how
much the sets of weights disagree.

Here digits 0 to 7 are learnt from 300 images, and 8 and 9 are the unknown. Below stands the same on MNIST.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import jensen as jn
from jensen import evaluation

train, test = jn.data.load("digits"), jn.data.load("digits", "test")
x, x_test = (torch.tensor(part.x.reshape(-1, 64) / 255.0).float() for part in (train, test))
y, y_test = torch.tensor(train.y), torch.tensor(test.y)
rows = torch.nonzero(y < 8)[:300, 0]
x, y, known = x[rows], y[rows], y_test < 8

torch.manual_seed(0)
network = nn.Sequential(nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 8))
training = {"epochs": 60, "batch_size": 30, "learning_rate": 0.01, "prior_scale": 10.0, "seed": 0}

# %%
# Forty of each
# -------------
# The outputs for all sets of weights come from one call; every size then averages over groups of them.

TOTAL, SIZES = 40, (1, 2, 3, 5, 10, 20)
posteriors = {
    "deep ensemble": jn.weights.fit(network, x, y, method="ensemble", members=TOTAL, **training),
    "MC-dropout": jn.weights.fit(network, x, y, method="dropout", insert=0.2, **training),
}


def scores(posterior, outputs):
    found = jn.weights.MixturePredictive(posterior.likelihood, outputs[:, known])
    unknown = jn.weights.MixturePredictive(posterior.likelihood, outputs[:, ~known])
    numbers = evaluation.evaluate_classifier(found.probabilities, y_test[known])
    by_entropy = evaluation.separation(found.entropy, unknown.entropy).auroc
    return [100 * (1 - numbers["accuracy"]), numbers["nll"], numbers["brier"], by_entropy]


table = {}
for name, posterior in posteriors.items():
    outputs = posterior.predict(x_test, samples=TOTAL).outputs
    table[name] = np.array(
        [np.mean([scores(posterior, group) for group in outputs.split(size)], 0) for size in SIZES]
    )

# %%
# One prediction is worse than the average of several, and most is won by the first five. It takes more than 200 test
# images to tell by the error which method is the better one: its standard error is above one per cent.

titles = ("error, %", "NLL, nats", "Brier score", "AUROC of the unknown")


def panels(curves):
    """Four figures against the number of sets of weights: for each name sizes, and values (sizes, 4)."""
    _, axes = plt.subplots(1, 4, figsize=(11, 2.9))
    for name, (sizes, values) in curves.items():
        for axis, column in zip(axes, np.asarray(values).T, strict=True):
            axis.plot(sizes, column, "o-", markersize=4, label=name)
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xlabel="networks, or masks", xscale="log", xticks=[1, 2, 5, 10, 20, 50])
        axis.set_xticklabels(["1", "2", "5", "10", "20", "50"])
        axis.set_xlim(0.8, 1.2 * max(max(sizes) for sizes, _ in curves.values()))
        axis.minorticks_off()
    axes[1].legend()


panels({name: (SIZES, values) for name, values in table.items()})
for name, values in table.items():
    print(f"{name:14} NLL {values[0, 1]:.3f} from one, {values[-1, 1]:.3f} from {SIZES[-1]}")

# %%
# The same on MNIST
# -----------------
# Two hidden layers of 200 units, all 60,000 images; letters of notMNIST are the unknown. These figures were measured
# before (``benchmarks/ensemble_size.py``, some ten minutes of one core); each is a mean over several ensembles, or over
# several runs of masks of three networks. Published for two layers of 1,200 units are errors of 1.58 % for one network
# and 1.37 % for MC-dropout, at NLL of 0.057 and 0.044.

name = Path("benchmarks", "results", "ensemble_size.json")
here = Path.cwd()
places = [folder / name for folder in (here, *here.parents) if (folder / name).exists()]
if places:
    measured = json.loads(places[0].read_text())["rows"]
    keys = ("error_percent", "nll", "brier", "auroc_entropy")
    panels(
        {
            label: (
                [int(size) for size in measured[method]],
                [[row[key]["mean"] for key in keys] for row in measured[method].values()],
            )
            for label, method in (("deep ensemble", "ensemble"), ("MC-dropout", "dropout"))
        }
    )
    for label, method in (("deep ensemble", "ensemble"), ("MC-dropout", "dropout")):
        size, row = list(measured[method].items())[-1]
        first = measured[method]["1"]
        areas = [row[key]["mean"] for key in ("auroc_entropy", "auroc_mutual_information")]
        print(
            f"{label:14} error {first['error_percent']['mean']:.2f} % from one, {row['error_percent']['mean']:.2f} % "
            f"from {size}; AUROC by entropy {areas[0]:.3f}, by mutual information {areas[1]:.3f}"
        )
