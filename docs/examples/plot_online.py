"""
Learning one task after the other
=================================

A network learns to read digits, then digits whose pixels are shuffled, then digits shuffled in another way. Training
that just goes on forgets the first task. With the posterior after one task as the prior of the next, weights that
mattered stay near where they were.
"""

# %%
# Three tasks
# -----------
# The same images, with the pixels in another order in each task.

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

import jensen as jn

images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images[:1000] / 16).float(), torch.tensor(labels[:1000])
x_test, y_test = torch.tensor(images[1000:] / 16).float(), torch.tensor(labels[1000:])
orders = [torch.randperm(64, generator=torch.Generator().manual_seed(task)) for task in range(3)]

torch.manual_seed(0)
network = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))
training = {"likelihood": "categorical", "epochs": 15, "batch_size": 50, "learning_rate": 0.003}


def accuracies(posterior, **options):
    return [
        float((posterior.predict(x_test[:, order], **options).mean.argmax(1) == y_test).float().mean())
        for order in orders
    ]


# %%
# Training that goes on
# ---------------------
# The most probable weights of each task by itself, from where the last one ended.

plain, current = [], network
for order in orders:
    found = jn.weights.fit(current, x[:, order], y, method="map", **training)
    current = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))
    current.load_state_dict(found.network.all)
    plain.append(accuracies(found))

# %%
# Yesterday's posterior as today's prior
# --------------------------------------
# One Kronecker product a layer, added up over the tasks.

kept = []
posterior = None
for order in orders:
    if posterior is None:
        posterior = jn.weights.fit(
            network, x[:, order], y, method="laplace", prior_scale=1.0, polish=0, rounds=1, **training
        )
    else:
        posterior = posterior.update(x[:, order], y)
    kept.append(accuracies(posterior, predictive="sampled", samples=16))

# %%
# What is left of the first task
# ------------------------------

figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True)
for axis, table, title in zip(axes, (plain, kept), ("training goes on", "Laplace, online"), strict=True):
    for task in range(3):
        axis.plot(
            range(task + 1, 4), [table[seen][task] for seen in range(task, 3)], "o-", label=f"task {task + 1}"
        )
    axis.set(title=title, xlabel="tasks learnt", xticks=[1, 2, 3])
axes[0].set(ylabel="test accuracy", ylim=(0, 1))
axes[0].legend()
figure.tight_layout()

# %%
# The number to watch is the first task's accuracy at the end.

assert kept[-1][0] > plain[-1][0]
print(
    f"first task after three: {plain[-1][0]:.2f} when training goes on, {kept[-1][0]:.2f} with the posterior"
)
