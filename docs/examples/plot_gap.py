r"""
How far a bound is from the truth, and why
==========================================

A variational autoencoder is trained on the ELBO, which lies below :math:`\log p(x)`. How far? On data that the model
has made up itself :math:`\log p(x)` can be bounded from both sides. This page does so, and then splits the gap on real
data into what the encoder costs and what the shape of its posteriors costs.
"""

import matplotlib.pyplot as plt

import jensen as jn

train, test = jn.data.load("digits"), jn.data.load("digits", "test")
vae = jn.VAE(latent_dim=8, epochs=40, random_state=0).fit(train.x)
model = vae.run_.model

# %%
# A bracket on simulated data
# ---------------------------
# Whoever simulates x knows the z behind it, an exact draw of the true posterior. Annealing to the posterior gives a
# lower bound, annealing back from that draw an upper one.

bracket = jn.evaluation.bracket(model, n=50, chains=8)
print(f"{float(bracket.lower.mean()):.2f} <= log p(x) <= {float(bracket.upper.mean()):.2f} nats a datum")
print(f"width {bracket.width:.3f}, give or take {bracket.width_standard_error:.3f}")

# %%
# The bound against the number of draws
# -------------------------------------
# With one draw it is the ELBO; it grows with the draws, slowly, and stays below the bracket.

curve = jn.evaluation.bound_curve(model, bracket.x, (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000))

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.5))
left.plot(curve.samples, curve.value.mean(1), marker="o", markersize=3, label="importance-weighted bound")
left.axhspan(
    float(bracket.lower.mean()),
    float(bracket.upper.mean()),
    color="C2",
    alpha=0.5,
    label="log p(x) lies here",
)
left.set(xscale="log", xlabel="draws K", ylabel="nats a datum", title="data that the model made up")
left.legend(loc="lower right")

# %%
# What the gap on real data consists of
# -------------------------------------
# A posterior fitted to each datum alone shows what it costs that one encoder serves all (amortisation); what is then
# left is the cost of the family of posteriors (approximation). A flow for each datum nearly closes it. On real data
# log p(x) is itself estimated from below, so there the approximation is rather too small.

x = vae.run_.prepare(test)[:50]
parts = jn.evaluation.gap(model, x)
amortisation = float(parts.amortisation.value.mean())
normal, flow = (float(parts.approximation[name].value.mean()) for name in ("normal", "flow"))
right.barh([0, 1, 2], [normal, normal, flow], color="C0", label="approximation")
right.barh([0], [amortisation], left=[normal], color="C1", label="amortisation")
right.set_yticks([0, 1, 2], ["the encoder", "best independent normals", "best flows"])
right.invert_yaxis()
right.set(xlabel="nats a datum below log p(x)", title="real data")
right.legend(loc="lower right")
print(f"amortisation {amortisation:.2f}, approximation {normal:.2f} with normals, {flow:.2f} with flows")
