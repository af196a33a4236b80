r"""
Eight schools by every method
=============================

Eight schools, each with an estimate of an effect and its standard error; the effects come from a normal distribution
of unknown centre and spread. The spread may be near zero, so its posterior is skewed with a long tail: a small
problem that tells methods of inference apart. Long runs of the no-U-turn sampler are what they are held against.
"""

import time

import matplotlib.pyplot as plt
import torch
from torch.distributions import HalfCauchy, Normal

import jensen as jn

effects = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], dtype=torch.float64)
errors = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0], dtype=torch.float64)


def log_joint(p):
    theta = p["mu"] + p["tau"] * p["z"]
    return (
        Normal(0.0, 5.0).log_prob(p["mu"])
        + HalfCauchy(5.0).log_prob(p["tau"])
        + Normal(0.0, 1.0).log_prob(p["z"]).sum()
        + Normal(theta, errors).log_prob(effects).sum()
    )


target = jn.inference.Target(
    log_joint, {"mu": jn.inference.real(), "tau": jn.inference.positive(), "z": jn.inference.real(8)}
)

# %%
# The methods
# -----------
# Each is fitted and sampled; the bound, the evidence and k-hat are of the distribution that is sampled.

chains = jn.inference.mcmc.nuts(target, draws=500, seed=0)
reference = chains.sample(8000, seed=0)["tau"]
found = {}
print(
    f"{'method':12} {'seconds':>8} {'bound':>9} {'evidence':>9} {'k-hat':>6} {'mean of tau':>12} {'sd of tau':>10}"
)
for method in ("auto", "mean-field", "full-rank", "laplace"):
    start = time.perf_counter()
    fit = jn.inference.fit(target, method)
    seconds = time.perf_counter() - start
    found[method] = fit.sample(8000, seed=0)["tau"]
    print(
        f"{method:12} {seconds:8.2f} {fit.elbo:9.3f} {float(fit.evidence):9.3f} {fit.pareto_k:6.2f} "
        f"{float(found[method].mean()):12.2f} {float(found[method].std()):10.2f}"
    )
print(
    f"{'nuts':12} {'':8} {'':9} {'':9} {'':6} {float(reference.mean()):12.2f} {float(reference.std()):10.2f}"
)

# %% A normal in log tau is what most of the methods have to offer: it misses that tau may be close to zero. The
# default one
# notices by its weights and goes on to a mixture that covers it.

figure, panels = plt.subplots(1, 4, figsize=(11, 2.8), sharey=True)
bins = torch.linspace(-4, 4, 60).numpy()
for panel, (method, draws) in zip(panels, found.items(), strict=True):
    panel.hist(reference.log().numpy(), bins=bins, density=True, color="0.85", label="NUTS")
    panel.hist(draws.log().numpy(), bins=bins, density=True, histtype="step", linewidth=1.5, label=method)
    panel.set(xlabel="log tau", title=method)
panels[0].set(ylabel="density")
panels[0].legend(loc="upper left")
figure.tight_layout()

# %%
# In words
# --------

jn.inference.fit(target, "mean-field").summary()
