r"""
A coin and a die of unknown bias
================================

The smallest latent-variable models: what is hidden is the bias, what is seen are the throws. The prior is conjugate, so
prior, posterior, evidence and predictions are all known exactly (:mod:`jensen.models`).
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from jensen.information import entropy
from jensen.models import Coin, Die

rng = np.random.default_rng(1)

# %%
# Today's posterior is tomorrow's prior
# -------------------------------------
# A coin that lands heads seven times in ten is thrown. ``update`` returns a new model; the old one stays as it is.

throws = (rng.random(200) < 0.7).astype(int)
bias = torch.linspace(0.001, 0.999, 400, dtype=torch.float64)

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3))
for n in (0, 1, 5, 20, 200):
    left.plot(bias, Coin().update(throws[:n]).parameter.log_prob(bias).exp(), label=f"{n} throws")
left.axvline(0.7, color="black", linewidth=1, linestyle=":")
left.set(xlabel="bias", ylabel="density", title="what is believed of the bias")
left.legend(loc="upper left")

coin, predictions = Coin(), []
for throw in throws:
    predictions.append(float(coin.predictive.probs))
    coin = coin.update([throw])
right.plot(predictions)
right.axhline(0.7, color="black", linewidth=1, linestyle=":")
right.set(
    xlabel="throws seen", ylabel="probability of heads", ylim=(0, 1), title="prediction of the next throw"
)

# %%
# Is the coin fair?
# -----------------
# The evidence of "of unknown bias" is the product of these predictions; that of "fair" is one half for each throw.
# Their ratio, the Bayes factor, first prefers the simpler model, and then the data speak.

counts = np.arange(len(throws) + 1)
factors = [float(Coin().log_evidence(throws[:n])) + n * np.log(2) for n in counts]
fair = (rng.random(200) < 0.5).astype(int)
factors_fair = [float(Coin().log_evidence(fair[:n])) + n * np.log(2) for n in counts]

figure, axes = plt.subplots(figsize=(5, 3))
axes.plot(counts, factors, label="a coin of bias .7")
axes.plot(counts, factors_fair, label="a fair coin")
axes.axhline(0, color="black", linewidth=1)
axes.set(xlabel="throws seen", ylabel="nats", title="log-evidence of an unknown bias over a fair coin")
axes.legend()

# %%
# Dice of all biases
# ------------------
# What a latent-variable model is: the bias is drawn first, then the throws given the bias, and p(throws, bias) holds
# all the dice that there may be. With a prior of few observations' worth most of them are strongly biased. The last
# die was made by hand: it always shows a four. Above is what is hidden, below what is seen.

torch.manual_seed(3)
biases = torch.cat([Die.fair(6, strength=0.3).parameter.sample((4,)), torch.eye(6)[3:4]])
figure, rows = plt.subplots(2, 5, figsize=(8.5, 3), sharey="row")
for bias, above, below in zip(biases, *rows, strict=True):
    above.bar(range(1, 7), bias.numpy(), color="0.7")
    above.set(ylim=(0, 1), xticks=[])
    below.plot(1 + torch.multinomial(bias, 10, replacement=True).numpy(), "s", markersize=4)
    below.set(ylim=(0.5, 6.5), yticks=[1, 6], xticks=[])
rows[0, 0].set_ylabel("bias")
rows[1, 0].set_ylabel("ten throws")

# %%
# A die
# -----
# A biased die shows its last face half of the time. On the left the posterior mean of each face with its standard
# deviation after 60 throws; on the right how often the face six will come in the next 20 throws, under a belief that
# knows its doubts (Dirichlet-multinomial) and under one that takes the mean for the truth (binomial).

truth = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.5])
die = Die.fair(6).update(rng.choice(6, 60, p=truth))
belief = die.parameter

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3))
left.bar(range(1, 7), belief.mean.numpy(), yerr=belief.stddev.numpy(), color="C0", alpha=0.7)
left.plot(range(1, 7), truth, "k_", markersize=16)
left.set(xlabel="face", ylabel="probability", title="belief after 60 throws, and the truth")

six, others = die.concentration[5], die.concentration[:5].sum()
ahead = Coin(six, others).predictive_count(20)
support = ahead.enumerate_support()
places = support.numpy()
certain = torch.distributions.Binomial(20, probs=six / (six + others))
right.bar(places - 0.2, ahead.log_prob(support).exp().numpy(), width=0.4, label="with doubt")
right.bar(places + 0.2, certain.log_prob(support).exp().numpy(), width=0.4, label="without")
right.set(xlabel="sixes in 20 throws", title="what comes next")
right.legend()

print(
    f"entropy of the next throw: {float(entropy(die.predictive, unit='bits')):.2f} bits, of a fair die 2.58"
)
