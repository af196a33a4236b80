"""
Which model describes new data better?
======================================

Three models of handwritten digits, each fitted with three seeds and judged on the same test images. The NLL of a fit
depends on chance twice over: on the seed, and on the test images. In paired differences most of the second cancels.
"""

import tempfile

import matplotlib.pyplot as plt
import torch

import jensen as jn
from jensen.runs import compare

comparison = compare(
    jn.data.load("digits"),
    {"vae-2": "vae", "vae-8": "vae", "iwae-8": "iwae"},
    tempfile.mkdtemp(),
    seeds=3,
    epochs=40,
    options={"hidden": 64, "latent_dim": 8},
    model_options={"vae-2": {"latent_dim": 2}},
    valid=jn.data.load("digits", "valid"),
    test=jn.data.load("digits", "test"),
    samples=100,
)
for row in comparison.rows:
    errors = f"± {row.nll_seed_error:.2f} over seeds, ± {row.nll_data_error:.2f} over images"
    print(f"{row.label:7} NLL {row.nll:.2f}, {errors}")
for d in comparison.differences:
    sign = "significant" if d.significant else "not significant"
    print(
        f"{d.better} before {d.worse}: {d.nats:.2f} ± {d.standard_error:.2f} nats, p = {d.p_value:.2g}, {sign}"
    )

# %%
# On the left what each fit scores. On the right each test image: what makes it hard for one model makes it hard for the
# other too, so that the points lie along a line; the difference is how far they lie from the diagonal, on average.

scores = {
    label: torch.stack([o.evidence for o in comparison.outcomes if o.label == label])
    for label in ("vae-2", "vae-8", "iwae-8")
}
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4))
for i, found in enumerate(scores.values()):
    left.scatter(-found.mean(1), [i] * len(found), alpha=0.7, linewidths=0)
left.set_yticks(range(3), list(scores))
left.invert_yaxis()
left.set(xlabel="NLL of a fit, nats an image", title="three seeds each")

two, eight = (-scores[label].mean(0) for label in ("vae-2", "vae-8"))
right.scatter(eight, two, s=9, alpha=0.6, linewidths=0)
right.axline((160, 160), slope=1, color="#888888", linewidth=1)
right.set(xlabel="NLL of an image with eight latents", ylabel="with two", title="one dot a test image")
plt.show()
