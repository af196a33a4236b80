"""
What the latents carry: beta, warm-up, free bits
================================================

The KL is what the latents tell about a datum, in nats. A weight ``beta`` makes them dearer or cheaper,
``kl_warm_up`` lets them be free at first, ``free_bits`` gives some nats away, to all latents together. A latent
whose KL is zero has collapsed: its posterior is the prior, whatever the datum. The data are black-and-white digits
of 8 x 8 pixels; there are 16 latents.
"""

import matplotlib.pyplot as plt
import numpy as np

import jensen as jn

train = (jn.data.load("digits").x > 127).astype(np.uint8)
test = (jn.data.load("digits", "test").x > 127).astype(np.uint8)

variants = {
    "beta = 1 (the ELBO)": {},
    "beta = 4": {"beta": 4.0},
    "beta = 0.5": {"beta": 0.5},
    "warm-up over 30 epochs": {"kl_warm_up": 30},
    "10 nats free": {"free_bits": 10.0},
}

# %%
# Each is fitted alike. What is compared afterwards is the real ELBO and the importance-sampled log p(x), whatever was
# minimised.

results = {}
print(f"{'':24}{'ELBO':>8}{'log p':>8}{'KL':>8}{'active':>8}")
for name, options in variants.items():
    vae = jn.VAE(latent_dim=16, epochs=60, random_state=0, options={"hidden": (128,), **options}).fit(train)
    numbers = jn.evaluation.evaluate(vae.run_.model, vae.run_.prepare(jn.data.from_array(test)), samples=500)
    results[name] = numbers
    print(
        f"{name:24}{numbers['elbo']:8.2f}{-numbers['nll']:8.2f}{numbers['kl']:8.2f}{numbers['active_units']:8d}"
    )

# %%
# Latents in the order of their KL
# --------------------------------

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.5), width_ratios=(3, 2))
for name, numbers in results.items():
    left.plot(
        range(1, 17), sorted(numbers["kl_per_dimension"], reverse=True), marker="o", markersize=3, label=name
    )
left.set(
    xlabel="latent, the largest KL first",
    ylabel="KL, nats a datum",
    title="KL of each latent",
    ylim=(0, None),
)
left.legend()
for numbers in results.values():
    right.plot(numbers["kl"], -numbers["log_likelihood"], "o")
best = max(n["elbo"] for n in results.values())
kl = np.array([0, 20])
right.plot(kl, -best - kl, color="black", linewidth=0.7, linestyle="--", label="the best ELBO")
right.set(
    xlabel="rate: KL, nats", ylabel="distortion: $-E_q \\log p(x|z)$, nats", title="rate and distortion"
)
right.set(xlim=(-0.5, 16), ylim=(5, 27))
right.legend()

# %%
# On the right each model is a point; the ELBO is minus the sum of its coordinates, so models on one falling diagonal
# are equally good bounds and differ in how much of the work the latents do.
