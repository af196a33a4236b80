"""
A contextual bandit by Thompson sampling
========================================

In each round a context comes, an arm is pulled, and only that arm's reward is seen. Who always pulls the arm that
looks best may never learn that another is better. Thompson sampling draws *one* set of weights from the posterior and
pulls the arm that is best for it: an arm is tried as often as it may, by all that is known, be the best.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import jensen as jn

ARMS, BATCH, ROUNDS = 5, 40, 15


def chance(x):
    """Probability of a reward of each arm, (n, 5): the first is safe; each other one pays in a corner of its own."""
    corner = (x[:, :1] > 0) * 2 + (x[:, 1:] > 0)
    far = (np.abs(x).min(1, keepdims=True) > 0.35).astype(float)
    pays = (np.arange(4) == corner) * far
    return np.concatenate([np.full((len(x), 1), 0.5), 0.1 + 0.8 * pays], 1)


def features(x, arm):
    """What the network sees: the context and which arm."""
    return torch.as_tensor(np.concatenate([x, np.eye(ARMS)[arm]], 1), dtype=torch.float32)


def play(strategy, seed):
    """What was lost against pulling the best arm, summed up, after each batch."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(2 + ARMS, 50), nn.ReLU(), nn.Linear(50, 1))
    seen, rewards, lost, posterior = [], [], [], None
    for _ in range(ROUNDS):
        x = rng.uniform(-1, 1, (BATCH, 2))
        truth = chance(x)
        if posterior is None:
            arms = rng.integers(0, ARMS, BATCH)
        else:
            every = torch.cat([features(x, np.full(BATCH, k)) for k in range(ARMS)])
            outputs = posterior.predict(every).outputs[..., 0].view(-1, ARMS, BATCH)
            if strategy == "Thompson":
                # A member of its own for each context.
                member = torch.as_tensor(rng.integers(0, len(outputs), BATCH))
                value = outputs[member, :, torch.arange(BATCH)].T
            else:
                value = outputs.sigmoid().mean(0)
            arms = value.argmax(0).numpy()
        rows = np.arange(BATCH)
        seen.append(features(x, arms))
        rewards.append(torch.as_tensor(rng.random(BATCH) < truth[rows, arms]).float())
        lost.append((truth.max(1) - truth[rows, arms]).sum())
        if strategy != "at random":
            posterior = jn.weights.fit(
                network,
                torch.cat(seen),
                torch.cat(rewards),
                method="ensemble",
                likelihood="bernoulli",
                members=8,
                bagging=True,
                epochs=30,
                learning_rate=0.01,
                prior_scale=1.0,
                seed=seed,
            )
    return np.cumsum(lost)


# %%
# Three players
# -------------
# The posterior is an ensemble of eight networks, each of a bootstrap sample of what was seen; a draw is a member. The
# greedy player has the same ensemble and takes its mean.

_, axes = plt.subplots(figsize=(6, 3.6))
for strategy in ("at random", "greedy", "Thompson"):
    lost = np.array([play(strategy, seed) for seed in range(3)])
    pulls = BATCH * np.arange(1, ROUNDS + 1)
    mean, error = lost.mean(0), lost.std(0, ddof=1) / len(lost) ** 0.5
    axes.plot(pulls, mean, label=strategy)
    axes.fill_between(pulls, mean - error, mean + error, alpha=0.2, linewidth=0)
    late = (lost[:, -1] - lost[:, -7]) / (6 * BATCH)
    print(
        f"{strategy:10} lost {mean[-1]:5.1f} ± {error[-1]:.1f} rewards in all, {late.mean():.3f} a pull at the end"
    )
axes.set(xlabel="pulls", ylabel="lost rewards, summed up", title="mean of three games; bands: standard error")
axes.legend()
